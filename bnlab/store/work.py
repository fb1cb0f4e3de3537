"""Work: one Run that this process has locked, and its snapshots until it is published."""

import hashlib
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock

from bnlab.errors import StoreError
from bnlab.runs import Run
from bnlab.specs import RECORD, Replicate
from bnlab.store.checks import parse, plain_text
from bnlab.store.durable import as_store_error, read, sync_folder, write_durably
from bnlab.store.files import NO_RUN, begun, json_line
from bnlab.store.layout import release

if TYPE_CHECKING:
    from bnlab.store import Store


@dataclass(frozen=True)
class Progress:
    """A Run in progress, trained up to `epoch` (0 before the first snapshot).

    `locked` says whether somebody trains it now, None where that cannot be told, and `by` who began or resumed it last;
    `size` are the bytes of its snapshots, `quiet` the seconds since something of it was kept.
    """

    replicate: Replicate
    epoch: int
    locked: bool | None
    by: str
    size: int
    quiet: float = 0.0


class Work:
    """One Run that this process has locked; a context manager.

    `replicate` is what to train: the Run with the probes that were asked for, and those that its snapshots have beside
    them. `published` says whether somebody finished it before it was locked: then there is nothing to do but to load
    it. `history` lists the resumes, `{"epoch": 3, "at": "2026-01-31T12:00:00+00:00"}` with a "note" where something
    was set aside, for the Run's provenance. `warning` is what `Store.add` said on publishing.
    """

    def __init__(self, store: "Store", replicate: Replicate, lock: BaseFileLock) -> None:
        self.replicate = replicate
        self.warning: str | None = None
        self._resume: dict[str, Any] | None = None  # not in the history on disk until it trains
        self._given: int | None = None  # the epoch of the snapshot that was handed out
        self._store, self._lock = store, lock
        self._folder = store.work_folder(replicate)
        self.published = store.has(replicate)
        if self.published:
            shutil.rmtree(self._folder, ignore_errors=True)  # its publisher was killed before it could
            return
        with self._as_store_error():
            self._folder.mkdir(exist_ok=True)
            if self._folder.is_symlink():
                raise StoreError(f"{self._folder} is a link and not a folder of this store: remove it")
            sync_folder(self._folder.parent)
            for partial in self._folder.glob("*.partial"):
                partial.unlink()
            self.replicate = self._with_begun_probes(replicate)
            write_durably(
                self._folder / "spec.json",
                json_line(
                    {
                        "record": RECORD,
                        "spec": replicate.spec.to_json(),
                        "seed": replicate.seed,
                        "probes": list(self.replicate.probes),
                        "by": f"process {os.getpid()} on {socket.gethostname()} since {now()}",
                    }
                ),
            )

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        release(self._lock)

    @property
    def key(self) -> str:
        """The address of the Run."""
        return self.replicate.key

    @property
    def epoch(self) -> int:
        """The epoch of the newest snapshot, which is not read for it; 0 if there is none."""
        with self._as_store_error():
            return max((epoch for epoch, _ in snapshots(self._folder)), default=0)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The resumes of this Run so far, oldest first; one that trained no epoch to its end is forgotten."""
        with self._as_store_error():
            return [*history(self._folder), *([self._resume] if self._resume else [])]

    def snapshot(self) -> bytes | None:
        """The newest sound snapshot, or None to start anew; a damaged one is set aside and noted in the history."""
        return self._snapshot([])

    def refuse_snapshot(self, reason: str) -> bytes | None:
        """Set aside the snapshot that `snapshot` gave, since it cannot be restored; gives the one before it, or None.

        The history notes the reason.
        """
        notes = []
        with self._as_store_error():
            for epoch, path in snapshots(self._folder):
                if epoch == self._given:
                    os.replace(path, path.with_name(f"{path.name}.damaged"))
                    why = plain_text(" ".join(reason.split()), 300)
                    notes.append(f"the snapshot of epoch {epoch} could not be restored ({why}) and was set aside")
        return self._snapshot(notes)

    def _snapshot(self, notes: list[str]) -> bytes | None:
        with self._as_store_error():
            for epoch, path in reversed(snapshots(self._folder)):
                data = _sound(path)
                if data is not None:
                    break
                os.replace(path, path.with_name(f"{path.name}.damaged"))
                notes.append(f"the snapshot of epoch {epoch} was damaged and was set aside")
            else:
                epoch, data = 0, None
            self._given = epoch
            self._resume = {"epoch": epoch, "at": now()} if data is not None else None
            if notes:
                self._resume = {"epoch": epoch, "at": now(), "note": "; ".join(notes)}
                self._keep_history()
        return data

    def save_snapshot(self, epoch: int, data: bytes) -> None:
        """Keep the state after this epoch (1 is the first) durably; until then, and beside it, the one before it."""
        with self._as_store_error():
            self._keep_history()
            _drop([path for before, path in snapshots(self._folder) if before < epoch][:-1])
            digest = hashlib.sha256(data).hexdigest()
            write_durably(self._folder / f"snapshot-{epoch:05}", digest.encode() + b"\n", data)
            _drop(path for after, path in snapshots(self._folder) if after > epoch)

    def publish(self, run: Run) -> Run:
        """Make the finished Run the store's, drop the snapshots, and give the Run that the store now has.

        That is the first one published, should there be two; see `warning` and `Store.add`. If it was trained for
        its probes and has other numbers than the first one, they are not taken and this is a StoreError.
        """
        if run.key != self.key:
            raise StoreError(f"the work on {self.replicate} was given {run.replicate}: publish its own")
        kept, self.warning = self._store.add(run)
        shutil.rmtree(self._folder, ignore_errors=True)
        self.published = True
        lacking = sorted(set(self.replicate.probes) - set(kept.probes))
        if lacking:
            raise StoreError(self.warning or f"{run.replicate} was trained and read no probe {', '.join(lacking)}")
        return kept

    def _with_begun_probes(self, asked: Replicate) -> Replicate:
        """The Replicate with all probes that its snapshots have; snapshots without a probe of it are dropped."""
        kept = snapshots(self._folder)
        try:
            earlier = begun(self._folder)[0].probes
        except (*NO_RUN, OSError):
            earlier = ()
        missing = set(asked.probes) - set(earlier)
        if kept and missing:
            _drop(path for _, path in kept)
            note = f"started anew to read {', '.join(sorted(missing))} from the first step"
            self._resume = {"epoch": 0, "at": now(), "note": note}
            self._keep_history()
            kept = []
        probes = {*asked.probes, *(earlier if kept else ())}
        return Replicate(asked.spec, asked.seed, tuple(sorted(probes)))

    def _keep_history(self) -> None:
        if self._resume:
            note_in(self._folder, self._resume)
            self._resume = None

    def _as_store_error(self) -> AbstractContextManager[None]:
        return as_store_error(f"keep the state of a Run in {self._folder}", "run again to resume it")


def snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The snapshots of a Run in progress by epoch; each is a line with the SHA-256 of the bytes after it."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = ((re.fullmatch(r"snapshot-([0-9]{1,9})", name), folder / name) for name in names)
    return sorted((int(name[1]), path) for name, path in found if name)


def in_progress(folder: Path, replicate: Replicate, locked: bool | None, by: str) -> Progress:
    """What the work folder of a Run shows; OSError where it cannot be read."""
    kept, size, last = snapshots(folder), 0, 0.0
    with suppress(FileNotFoundError):
        last = (folder / "spec.json").stat().st_mtime
    for _, path in kept:
        with suppress(FileNotFoundError):
            found = path.stat()
            size, last = size + found.st_size, max(last, found.st_mtime)
    epoch = max((epoch for epoch, _ in kept), default=0)
    return Progress(replicate, epoch, locked, by, size, quiet=time.time() - last)


def history(folder: Path) -> list[dict[str, Any]]:
    """What happened to the Run of a work folder, oldest first; OSError where it cannot be read."""
    try:
        entries = parse(read(folder / "history.json"))
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("no list of resumes")
    except FileNotFoundError:
        return []
    except ValueError:
        return [{"epoch": 0, "at": now(), "note": "the history before this was damaged"}]
    return entries


def note_in(folder: Path, entry: dict[str, Any]) -> None:
    """Add an entry to the history of a work folder; OSError where it cannot be written."""
    write_durably(folder / "history.json", json_line([*history(folder), entry]))


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _sound(path: Path) -> bytes | None:
    """The bytes of a snapshot, or None if they do not have the SHA-256 of its first line."""
    try:
        digest, _, data = read(path).partition(b"\n")
    except ValueError:
        return None
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None


def _drop(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
