"""The layout of a store's folder: its marker, its subfolders, the Runs that lie there, and their locks."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

from bnlab.errors import StoreError
from bnlab.store.checks import parse
from bnlab.store.durable import as_store_error, exists, read, sync_folder, write_durably

LAYOUT = 2
"""Version of the layout. A store of layout 1 may hold Runs of record 1, under the keys that they had then."""

MARKER = "bnlab-store.json"
"""The file that says that a folder is a store, and its layout."""

KEY = re.compile(r"[0-9a-f]{64}")
"""What the address of a Run looks like."""

_SHARD = re.compile(r"[0-9a-f]{2}")
_FOLDERS = ("runs", "work", "locks", "beats", "disagreements", "damaged", "tmp")
_FOREIGN = (".DS_Store", "lost+found", ".snapshot", ".Trash-0")  # what systems put into any folder

KEPT = 30
"""Days that damaged files are kept."""

LEASE = 30.0
"""Seconds after which a lock that is a lease is anybody's, unless its holder has renewed it."""

PATIENCE = 0.006
"""Seconds to wait for a lock: long enough for another process that only looks whether it is locked."""

LONGEST_POLL = 0.1
"""Most seconds between tries of a lock that is waited for; on a network disk each of them is a message."""


def absolute(path: str | os.PathLike[str]) -> Path:
    """The path of a store, with `~` expanded; StoreError where there is no such user."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise StoreError(f"cannot use {path} as the store ({error}): name another folder with --store") from error


def make(folder: Path) -> int:
    """Make what is missing of a store in this folder; its layout.

    OSError where it cannot be written, StoreError where it holds something else or is of a newer layout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # the marker is looked for after the listing: another process may be making the same store
    others = [entry for entry in os.listdir(folder) if not entry.startswith(MARKER) and entry not in _FOREIGN]
    marker = folder / MARKER
    if not exists(marker):
        if foreign := sorted(set(others) - set(_FOLDERS)):
            raise StoreError(
                f"{folder} holds {foreign[0]!r} and is not a store of bnlab: name a new folder with --store"
            )
        # a store that lost its marker may be of any layout; in one of layout 1, Runs of every record are looked for
        write_durably(marker, b'{"bnlab_store": %d}\n' % (1 if "runs" in others else LAYOUT))
    found = version(marker)
    for name in _FOLDERS:
        (folder / name).mkdir(exist_ok=True)
        if os.stat(folder / name).st_dev != os.stat(folder).st_dev:
            raise StoreError(f"{folder / name} lies on another file system than {folder}: keep a store on one")
    sync_folder(folder)
    tempfile.TemporaryFile(dir=folder / "tmp").close()  # raises where nothing can be written
    return found


def version(marker: Path) -> int:
    """The layout that the marker of a store names; StoreError for one that this bnlab does not read."""
    try:
        found = parse(read(marker))["bnlab_store"]
        if type(found) is not int:
            raise ValueError(f"its layout is {found!r}")
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f'{marker} is damaged ({error}): write {{"bnlab_store": {LAYOUT}}} into it, or name another folder'
        ) from error
    if not 1 <= found <= LAYOUT:
        raise StoreError(
            f"{marker.parent} is a store of layout {found} and this bnlab knows layout {LAYOUT}: "
            "update bnlab or name another folder with --store"
        )
    return found


def names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    """The names in a folder that match, in order; none where there is no such folder."""
    try:
        return sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def run_folders(store: Path) -> Iterator[Path]:
    """The folder of every finished Run, in order; anything else that lies there is passed over."""
    with as_store_error(f"list the Runs of the store {store}", "run again"):
        for shard in names(store / "runs", _SHARD):
            for key in names(store / "runs" / shard, KEY):
                yield store / "runs" / shard / key


def sweep(store: Path) -> None:
    """Remove what killed processes left in `tmp`, where what is younger than a day may be in use, and old damage."""
    for name, days in (("tmp", 1), ("damaged", KEPT)):
        for entry in (store / name).iterdir():
            with suppress(OSError):
                if time.time() - entry.lstat().st_mtime > 24 * 3600 * days:
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()


def try_lock(store: Path, name: str, *, patience: float = PATIENCE) -> BaseFileLock | None:
    """The lock of one Run by its key, or of a device by its name; None if somebody has it for so many seconds."""
    with as_store_error(f"lock {name[:24]} in {store / 'locks'}", "run again"):
        lock = _lock(store, store / "locks" / f"{name}.lock")
        if lock.is_locked:
            return None
        try:
            lock.acquire(timeout=patience, poll_interval=min(max(patience, PATIENCE) / 3, LONGEST_POLL))
        except Timeout:
            return None
    return lock


def _lock(store: Path, path: Path) -> BaseFileLock:
    """A kernel lock; or a lease, where the marker of the store says "locks": "lease".

    A lease works on disks that pass on no kernel locks. A heartbeat renews it, and whoever waits measures by its own
    clock that none has come.
    """
    return _lease(path) if _leases(store / MARKER) else FileLock(path, thread_local=False)


@cache
def _lease(path: Path) -> SoftFileLease:
    """One for each path, since a process measures from the time at which it saw a lease first."""
    return SoftFileLease(path, lease_duration=LEASE, thread_local=False)


@lru_cache(maxsize=16)
def _leases(marker: Path) -> bool:
    try:
        return bool(parse(read(marker)).get("locks") == "lease")
    except (OSError, ValueError, AttributeError):
        return False


def release(lock: BaseFileLock) -> None:
    """Give a lock back; what the disk says to that matters to nobody, since closing the file frees it as well."""
    with suppress(OSError):
        lock.release()


def locked(store: Path, key: str) -> bool:
    """Whether somebody has the lock of this Run."""
    with as_store_error(f"look at the lock of the Run {key[:12]} in {store / 'locks'}", "run again"):
        if not (store / "locks" / f"{key}.lock").exists():
            return False
    lock = try_lock(store, key)
    if lock is not None:
        release(lock)
    return lock is None
