"""The finished Runs on disk, and those in progress: a folder that any number of processes share, without a server.

    bnlab-store.json          says that the folder is a store, and the version of its layout
    runs/<kk>/<key>/          a finished Run, never changed again: spec.json, env.json (provenance), curve.jsonl (a line
                              an epoch), readings.json, result.json, and DONE.json with the SHA-256 of each of them
    work/<key>/               a Run in progress: what it is, its last two snapshots, and when it was resumed
    locks/<key>.lock          held by whoever trains the Run; the kernel frees it when its holder dies
    disagreements/<key>/      Runs that were finished a second time with other numbers than the first
    tmp/                      folders that are being written, renamed into place when complete

Everything is written beside its place, flushed to the disk and renamed, so a reader sees the old content or the new
one, never half of it, whenever a process is killed.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bnlab.errors import SpecError, StoreError
from bnlab.runs import Run
from bnlab.specs import RECORD, RunSpec, recorded_key, run_key
from bnlab.store.durable import in_words, sync_folder, write_durably
from bnlab.store.files import FILES, json_line, parse_run, write_run

LAYOUT = 1
"""Version of the layout on disk."""

_MARKER = "bnlab-store.json"
_DAY = 24 * 3600
_PATIENCE = 0.03  # seconds: long enough for another process that only looks whether a lock is held


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A Run in progress: trained up to `epoch` (0 before the first snapshot), and `held` by someone now or not."""

    spec: RunSpec
    seed: int
    epoch: int
    held: bool


class Store:
    """The Runs under one folder; `Store.open` gives one.

    All methods raise StoreError, in one sentence, where the disk refuses or a file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """The store in this folder, made if there is none.

        A folder that cannot be written, that holds something else or that a newer bnlab made is a StoreError.
        """
        folder = Path(path).expanduser().absolute()
        with in_words(f"use {folder} as the store", "name another folder with --store"):
            folder.mkdir(parents=True, exist_ok=True)
            # the marker is looked for after the listing: another process may be making the same store
            others = [entry for entry in os.listdir(folder) if not entry.startswith(_MARKER)]
            marker = folder / _MARKER
            if marker.exists():
                _check_layout(marker)
            elif others:
                raise StoreError(
                    f"{folder} holds {others[0]!r} and is not a store of bnlab: name a new folder with --store"
                )
            else:
                write_durably(marker, json_line({"bnlab_store": LAYOUT}))
            for name in ("runs", "work", "locks", "disagreements", "tmp"):
                (folder / name).mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder / "tmp").close()  # raises where nothing can be written
            _sweep(folder / "tmp")
        return cls(folder)

    def has(self, spec: RunSpec, seed: int) -> bool:
        """Whether the Run is finished; reads none of it."""
        return self._folder(run_key(spec, seed)).is_dir()

    def load(self, spec: RunSpec, seed: int) -> Run | None:
        """The finished Run, every file checked against its SHA-256, or None; a damaged one is a StoreError."""
        folder = self._folder(run_key(spec, seed))
        return self._load(folder) if folder.is_dir() else None

    def runs(self) -> Iterator[Run]:
        """Every finished Run of this record version in the order of the keys, checked as `load` does."""
        for folder in sorted((self.path / "runs").glob("*/*")):
            if (run := self._load(folder)) is not None:
                yield run

    def try_work(self, spec: RunSpec, seed: int) -> "Work | None":
        """The Run to train, locked for this process, or None if somebody else has it; never waits for long.

        Use it as a context manager, and look at `published` first: somebody may have finished it meanwhile.
        """
        lock = self._try_lock(run_key(spec, seed))
        if lock is None:
            return None
        try:
            return Work(self, spec, seed, lock)
        except BaseException:
            lock.release()
            raise

    def held(self, spec: RunSpec, seed: int) -> bool:
        """Whether somebody trains the Run at this moment."""
        return self._held(run_key(spec, seed))

    def progress(self) -> list[Progress]:
        """The Runs that were begun and are not finished, in the order of their keys."""
        found = []
        for folder in sorted((self.path / "work").glob("*")):
            try:
                begun = json.loads((folder / "spec.json").read_bytes())
                spec, seed = RunSpec.from_json(begun["spec"]), begun["seed"]
            except (OSError, ValueError, KeyError, TypeError, SpecError):
                continue  # finished or begun at this very moment, or of another version
            if run_key(spec, seed) == folder.name and not self.has(spec, seed):
                epoch = max((epoch for epoch, _ in _snapshots(folder)), default=0)
                found.append(Progress(spec=spec, seed=seed, epoch=epoch, held=self._held(folder.name)))
        return found

    def add(self, run: Run) -> tuple[Run, str | None]:
        """Publish a finished Run by one rename of its folder; the Run that the store now has, and a warning.

        The first one wins. If it has other numbers, the second one is kept under `disagreements` and the warning
        says so: the same spec, seed and device should have given the same bits.
        """
        folder = self._folder(run.key)
        staged = self.path / "tmp" / f"{run.key}-{os.getpid()}-{os.urandom(4).hex()}"
        with in_words(f"write the Run {run.key[:12]} to the store {self.path}", "make room there and run again"):
            try:
                write_run(staged, run)
                folder.parent.mkdir(exist_ok=True)
                sync_folder(folder.parent.parent)
                try:
                    os.rename(staged, folder)
                except OSError:
                    if not folder.is_dir():
                        raise
                else:
                    sync_folder(folder.parent)
                    return run, None
                first = self._load(folder)
                if first is None or first.digest == run.digest:
                    return first or run, None
                second = self.path / "disagreements" / f"{run.key}-{run.digest[:12]}"
                if not second.is_dir():
                    os.rename(staged, second)
            finally:
                shutil.rmtree(staged, ignore_errors=True)
        return first, (
            f"{run.spec}, seed {run.seed}, was trained twice with different numbers: the first Run is kept in "
            f"{folder}, the second one in {second}, and their env.json say where each was trained"
        )

    def _folder(self, key: str) -> Path:
        return self.path / "runs" / key[:2] / key

    def _load(self, folder: Path) -> Run | None:
        """The checked Run of one folder, or None if it is of another record version."""
        damaged = f"the Run in {folder} is damaged ({{}}): delete that folder and the Run is trained again"
        try:
            digests = json.loads((folder / "DONE.json").read_bytes())["files"]
            contents = {name: (folder / name).read_bytes() for name in FILES}
            for name in FILES:
                if hashlib.sha256(contents[name]).hexdigest() != digests[name]:
                    raise StoreError(damaged.format(f"{name} does not have the SHA-256 that DONE.json names"))
            recorded = json.loads(contents["spec.json"])
            if recorded["record"] != RECORD:
                return None
            run = parse_run(contents)
            key = recorded_key(recorded["spec"], run.seed)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, SpecError) as error:
            raise StoreError(damaged.format(f"{type(error).__name__}: {error}")) from error
        if key != folder.name:
            raise StoreError(damaged.format(f"it holds the Run {key[:12]}"))
        return run

    def _try_lock(self, key: str) -> FileLock | None:
        lock = FileLock(self.path / "locks" / f"{key}.lock", thread_local=False)
        try:
            lock.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 3)
        except Timeout:
            return None
        return lock

    def _held(self, key: str) -> bool:
        if not (self.path / "locks" / f"{key}.lock").exists():
            return False
        lock = self._try_lock(key)
        if lock is not None:
            lock.release()
        return lock is None


class Work:
    """One Run that this process has locked: its snapshots until it is published; a context manager.

    `published` says whether somebody finished the Run before it was locked: then there is nothing to do but to load
    it. `history` lists the resumes, `{"epoch": 3, "at": "2026-01-31T12:00:00+00:00"}` with a "note" where a damaged
    snapshot was set aside, for the Run's provenance. `warning` is what `Store.add` said on publishing.
    """

    def __init__(self, store: Store, spec: RunSpec, seed: int, lock: FileLock) -> None:
        self.spec, self.seed, self.key = spec, seed, run_key(spec, seed)
        self.warning: str | None = None
        self._resume: dict[str, Any] | None = None  # not in the history on disk until it trains
        self._store, self._lock = store, lock
        self._folder = store.path / "work" / self.key
        self.published = store.has(spec, seed)
        if self.published:
            shutil.rmtree(self._folder, ignore_errors=True)  # its publisher was killed before it could
            return
        with self._in_words():
            self._folder.mkdir(exist_ok=True)
            for partial in self._folder.glob("*.partial"):
                partial.unlink()
            write_durably(
                self._folder / "spec.json", json_line({"record": RECORD, "spec": spec.to_json(), "seed": seed})
            )

    def __enter__(self) -> "Work":
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    @property
    def epoch(self) -> int:
        """The epoch of the newest snapshot, which is not read for it; 0 if there is none."""
        return max((epoch for epoch, _ in _snapshots(self._folder)), default=0)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The resumes of this Run so far, oldest first; one that trained no epoch to its end is forgotten."""
        history: list[dict[str, Any]] = []
        try:
            history = json.loads((self._folder / "history.json").read_bytes())
        except FileNotFoundError:
            pass
        except ValueError:
            history = [{"epoch": 0, "at": _now(), "note": "the history before this was damaged"}]
        return [*history, self._resume] if self._resume else history

    def snapshot(self) -> bytes | None:
        """The newest sound snapshot, or None to start anew; a damaged one is set aside and noted in the history."""
        notes: list[str] = []
        with self._in_words():
            for epoch, path in reversed(_snapshots(self._folder)):
                data = _sound(path)
                if data is not None:
                    break
                os.replace(path, path.with_name(f"{path.name}.damaged"))
                notes.append(f"the snapshot of epoch {epoch} was damaged and was set aside")
            else:
                epoch, data = 0, None
            self._resume = {"epoch": epoch, "at": _now()} if data is not None else None
            if notes:
                self._resume = {"epoch": epoch, "at": _now(), "note": "; ".join(notes)}
                self._keep_history()
        return data

    def save_snapshot(self, epoch: int, data: bytes) -> None:
        """Keep the state after this epoch (1 is the first) durably; until then, and beside it, the one before it."""
        with self._in_words():
            self._keep_history()
            for _, older in [entry for entry in _snapshots(self._folder) if entry[0] < epoch][:-1]:
                older.unlink()
            digest = hashlib.sha256(data).hexdigest()
            write_durably(self._folder / f"snapshot-{epoch:05}", digest.encode() + b"\n", data)
            for _, later in [entry for entry in _snapshots(self._folder) if entry[0] > epoch]:
                later.unlink()

    def publish(self, run: Run) -> Run:
        """Make the finished Run the store's, drop the snapshots, and give the Run that the store now has.

        That is the first one published, should there be two; see `warning` and `Store.add`.
        """
        if run.key != self.key:
            raise StoreError(
                f"the work on {self.spec}, seed {self.seed}, was given {run.spec}, seed {run.seed}: publish its own"
            )
        kept, self.warning = self._store.add(run)
        shutil.rmtree(self._folder, ignore_errors=True)
        self.published = True
        return kept

    def _keep_history(self) -> None:
        if self._resume:
            write_durably(self._folder / "history.json", json_line(self.history))
            self._resume = None

    def _in_words(self) -> AbstractContextManager[None]:
        return in_words(f"keep the state of a Run in {self._folder}", "make room there and run again to resume it")


def _snapshots(folder: Path) -> list[tuple[int, Path]]:
    """The snapshots of a Run in progress by epoch; each is a line with the SHA-256 of the bytes after it."""
    found = ((re.fullmatch(r"snapshot-([0-9]+)", path.name), path) for path in folder.glob("snapshot-*"))
    return sorted((int(name[1]), path) for name, path in found if name)


def _sound(path: Path) -> bytes | None:
    """The bytes of a snapshot, or None if they do not have the SHA-256 of its first line."""
    digest, _, data = path.read_bytes().partition(b"\n")
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None


def _check_layout(marker: Path) -> None:
    try:
        layout = json.loads(marker.read_bytes())["bnlab_store"]
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f'{marker} is damaged: write {{"bnlab_store": {LAYOUT}}} into it, or name another folder'
        ) from error
    if layout != LAYOUT:
        raise StoreError(
            f"{marker.parent} is a store of layout {layout} and this bnlab knows layout {LAYOUT}: "
            "update bnlab or name another folder with --store"
        )


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind; whatever is younger than a day may be in use."""
    for entry in folder.iterdir():
        with suppress(OSError):
            if time.time() - entry.stat().st_mtime > _DAY:
                shutil.rmtree(entry)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
