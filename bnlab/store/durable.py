"""Files that are whole whenever the process is killed, the machine stops or the disk is full."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bnlab.errors import StoreError


def write_durably(path: Path, *chunks: bytes) -> None:
    """Write a file that has its old content or all of the new one, whenever the process is killed or the disk fills.

    Raises OSError.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.partial")
    try:
        write(partial, *chunks)
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


@contextmanager
def in_words(doing: str, remedy: str) -> Iterator[None]:
    """What the operating system refuses, as a StoreError: cannot `doing` (why): `remedy`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise StoreError(f"cannot {doing} ({reason}): {remedy}") from error
