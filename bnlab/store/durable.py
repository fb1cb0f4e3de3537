"""Files that are whole whenever the process is killed, the machine stops or the disk is full."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnlab.errors import StoreError

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room there"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "get the right to do so"),
    errno.EROFS: "name a place that can be written",
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
    **dict.fromkeys((errno.EIO, errno.ESTALE, errno.ETIMEDOUT), "check that disk and its mount"),
    **dict.fromkeys((errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP), "use a file system with locks (flock)"),
}


def write_durably(path: Path, *chunks: bytes) -> None:
    """Write a file that has its old content or all of the new one, whenever the process is killed or the disk fills.

    An old file keeps its permissions. Raises OSError.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
    try:
        write(partial, *chunks)
        with suppress(FileNotFoundError):
            shutil.copymode(path, partial)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def write(path: Path, *chunks: bytes) -> None:
    """Write a new file and flush it to the disk; raises OSError, as where it exists."""
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def read(path: Path, limit: int | None = None) -> bytes:
    """The bytes of a regular file.

    Raises OSError, and ValueError for a link, for anything that is no file and for more bytes than `limit`. It never
    waits: a pipe in the place of a file would keep its reader for ever.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise ValueError(f"{path.name} is no plain file") from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path.name} is no plain file")
        if limit is not None and found.st_size > limit:
            raise ValueError(f"{path.name} has {found.st_size} bytes, more than {limit}")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; OSError where that cannot be told, unlike `Path.is_dir`."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def exists(path: Path) -> bool:
    """Whether anything has this name, be it a link; OSError where that cannot be told, unlike `os.path.lexists`."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextmanager
def as_store_error(doing: str, remedy: str) -> Iterator[None]:
    """Raise what the operating system refuses as a StoreError: cannot `doing` (why): what to do about it.

    What to do is `remedy`, unless the reason itself says it.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        known = _REMEDIES.get(error.errno or 0)
        raise StoreError(f"cannot {doing} ({reason}): {known + ' and run again' if known else remedy}") from error
