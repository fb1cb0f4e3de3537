"""The finished Runs on disk, and those in progress: a folder that any number of processes share, without a server.

    bnlab-store.json          says that the folder is a store, and the version of its layout
    runs/<kk>/<key>/          a finished Run: spec.json, env.json (provenance), curve.jsonl (a line an epoch),
                              readings.json, result.json, and DONE.json with the SHA-256 of each of them, none of which
                              ever changes; and what each probe read, in a file that carries its own SHA-256
    work/<key>/               a Run in progress: what it is, its last two snapshots, and when it was resumed
    locks/<key>.lock          locked by whoever trains the Run; the kernel frees it when that process dies
    locks/<name>.lock         locked by whoever trains on a device, or puts a cohort together
    beats/<n>.json            what a process that trains does now, for `python -m bnlab watch` and nothing else
    disagreements/<key>/      Runs that were finished a second time with other numbers than the first
    damaged/                  what did not have the bytes that were written, set aside to be trained again, for 30 days
    tmp/                      what is being written, renamed into place when complete

Everything is written beside its place, flushed to the disk and renamed, so a reader sees the old content or the new
one, never half of it, whenever a process is killed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from bnlab.errors import StoreError
from bnlab.runs import Run, readings_digest
from bnlab.specs import Replicate, RunSpec, run_key
from bnlab.store import layout
from bnlab.store.checks import parse
from bnlab.store.durable import as_store_error, exists, is_folder, read, sync_folder
from bnlab.store.files import (
    NO_RUN,
    DamagedError,
    begun,
    check,
    probe_file,
    probes_in,
    read_probe,
    read_run,
    sound_probe,
    staged_run,
    write_probe,
)
from bnlab.store.work import Progress, Work, in_progress, note_in, now

__all__ = ["DamagedError", "Progress", "Store", "Work"]


class Store:
    """The Runs under one folder; `Store.open` and `Store.read` give one.

    All methods raise StoreError, in one sentence, where the disk refuses or a file is damaged.
    """

    def __init__(self, path: Path, version: int = layout.LAYOUT) -> None:
        self.path = path
        self._version = version

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "Store":
        """The store in this folder, to be written to; made if there is none.

        A folder that cannot be written, that holds something else or that a newer bnlab made is a StoreError.
        """
        folder = layout.absolute(path)
        with as_store_error(f"use {folder} as the store", "name another folder with --store"):
            store = cls(folder, layout.make(folder))
            layout.sweep(folder)
            store._drop_published_work()
        return store

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Store":
        """The store that is in this folder, to be read from; nothing is written. StoreError if there is none."""
        folder = layout.absolute(path)
        with as_store_error(f"read the store {folder}", "name another folder with --store"):
            if not exists(folder / layout.MARKER):
                raise StoreError(f"there is no store in {folder}: name the folder of one with --store")
            return cls(folder, layout.version(folder / layout.MARKER))

    def has(self, replicate: Replicate) -> bool:
        """Whether the Run is finished and has these probes; reads none of it."""
        return self._find(replicate) is not None

    def load(self, replicate: Replicate) -> Run | None:
        """The finished Run with these probes, every file checked against its SHA-256, or None if there is none.

        What is damaged is a DamagedError; `set_aside` moves it away.
        """
        folder = self._find(replicate)
        run = read_run(folder) if folder else None
        if run is None or folder is None:
            return None
        return replace(run, probes={probe: read_probe(folder, probe) for probe in replicate.probes})

    def runs(self, *, probes: bool = True, skipped: list[str] | None = None) -> Iterator[Run]:
        """Every finished Run in the order of the folders, with what all of its probes read or without.

        A Run that is damaged or cannot be read is a StoreError, or a sentence in `skipped`, if that is given; so is
        what a probe read of it.
        """
        for folder in layout.run_folders(self.path):
            try:
                run = read_run(folder)
                if run is None or (run.key != folder.name and is_folder(self._folder(run.key))):
                    continue  # of a newer bnlab, or one of an earlier record that is here under today's key as well
                readings = {}
                for probe in probes_in(folder) if probes else ():
                    try:
                        readings[probe] = read_probe(folder, probe)
                    except StoreError as error:
                        _skip(error, skipped)
                yield replace(run, probes={**run.probes, **readings})
            except StoreError as error:
                _skip(error, skipped)

    def try_lock(self, name: str, *, patience: float = layout.PATIENCE) -> AbstractContextManager[object] | None:
        """The lock of a device, or another that the processes of a store share; None if somebody else keeps it.

        It is locked already, within `patience` seconds: use it as a context manager to release it at the end.
        """
        if (lock := layout.try_lock(self.path, name, patience=patience)) is None:
            return None
        held = ExitStack()
        held.callback(lock.release)
        return held

    def try_work(self, replicate: Replicate, *, patient: bool = True) -> Work | None:
        """The Run to train, locked for this process, or None if somebody else has it; `patient` waits for a mere look.

        Use it as a context manager, and look at `published` first: somebody may have finished it meanwhile.
        """
        lock = layout.try_lock(self.path, replicate.key, patience=layout.PATIENCE if patient else 0)
        if lock is None:
            return None
        try:
            return Work(self, replicate, lock)
        except BaseException:
            layout.release(lock)
            raise

    def locked(self, replicate: Replicate) -> bool:
        """Whether somebody trains the Run at this moment."""
        return layout.locked(self.path, replicate.key)

    def progress(self) -> list[Progress]:
        """The Runs that were begun and are not finished, in the order of their keys."""
        found = []
        with as_store_error(f"look at the Runs in progress in {self.path}", "run again"):
            for name in layout.names(self.path / "work", layout.KEY):
                folder = self.path / "work" / name
                try:
                    replicate, fields = begun(folder)
                except (*NO_RUN, OSError):
                    continue  # finished or begun at this very moment, of another version, or not to be read
                if self.has(replicate):
                    continue
                try:
                    locked: bool | None = layout.locked(self.path, name)
                except StoreError:
                    locked = None  # the lock of another user
                found.append(in_progress(folder, replicate, locked, by=str(fields.get("by", ""))))
        return found

    def add(self, run: Run) -> tuple[Run, str | None]:
        """Publish a finished Run by one rename of its folder; the Run that the store now has, and a warning.

        The first one wins; a second one adds what its probes read, see `add_probes`.
        """
        folder = self._folder(run.key)
        check(run)
        if self._find(Replicate(run.spec, run.seed)) is None:
            with staged_run(self.path / "tmp", run) as staged:
                folder.parent.mkdir(exist_ok=True)
                sync_folder(folder.parent.parent)
                try:
                    os.rename(staged, folder)
                except OSError:
                    if not is_folder(folder):
                        raise
                else:
                    sync_folder(folder.parent)
                    return run, None
        return self.add_probes(run)

    def add_probes(self, run: Run) -> tuple[Run, str | None]:
        """Add what the probes of this Run read to the stored one; that one with these probes, and a warning.

        Both must have the same numbers, since the same spec and seed should have given the same bits. If they have
        not, or a probe read something else before, this Run is kept under `disagreements` and the warning says so.
        """
        check(run)
        folder = self._find(Replicate(run.spec, run.seed))
        first = read_run(folder) if folder else None
        if first is None or folder is None:
            raise StoreError(f"{run.replicate}, is not in the store {self.path}: add the Run, not only its probes")
        if first.digest != run.digest:
            return first, self._keep_beside(run, folder)
        warning, kept = None, {}
        for probe, readings in sorted(run.probes.items()):
            known = sound_probe(folder, probe)
            if known is None:
                write_probe(self.path / "tmp", folder, probe, readings)
            elif readings_digest(known) != readings_digest(readings):
                warning = self._keep_beside(run, folder)
            kept[probe] = readings if known is None else known
        return replace(first, probes=kept), warning

    def set_aside(self, replicate: Replicate) -> str | None:
        """Move what is damaged of this Run to `damaged`, so that it is trained again, and say so in one sentence.

        None if nothing is, or if another process trains it already. Its history notes what happened.
        """
        lock = layout.try_lock(self.path, replicate.key)
        if lock is None:
            return None
        try:
            self.load(replicate)
        except DamagedError as damaged:
            aside = self.path / "damaged" / f"{replicate.key[:16]}-{damaged.path.name[:80]}-{os.urandom(4).hex()}"
            with as_store_error(f"set {damaged.path} aside", "remove it and run again"):
                os.utime(damaged.path)  # it is kept for a while from now
                os.rename(damaged.path, aside)
                sync_folder(damaged.path.parent)
                work = self.work_folder(replicate)
                work.mkdir(exist_ok=True)
                note = f"what was recorded before was damaged ({damaged.why}) and was set aside"
                note_in(work, {"epoch": 0, "at": now(), "note": note})
            return f"{replicate}, was damaged ({damaged.why}): it was moved to {aside} and is trained again"
        finally:
            layout.release(lock)
        return None

    def work_folder(self, replicate: Replicate) -> Path:
        """Where the snapshots of a Run in progress lie."""
        return self.path / "work" / replicate.key

    def _folder(self, key: str) -> Path:
        return self.path / "runs" / key[:2] / key

    def _find(self, replicate: Replicate) -> Path | None:
        """The folder of the finished Run, if it has these probes."""
        key = replicate.key
        with as_store_error(f"look for the Run {key[:12]} in the store {self.path}", "run again"):
            for folder in (self._folder(key), self._earlier.get(key)):
                if folder is not None and is_folder(folder):
                    found = all(exists(probe_file(folder, probe)) for probe in replicate.probes)
                    return folder if found else None
        return None

    @cached_property
    def _earlier(self) -> dict[str, Path]:
        """The Runs of record 1 by the key that they would have today; looked for in stores of layout 1 only."""
        found: dict[str, Path] = {}
        for folder in layout.run_folders(self.path) if self._version == 1 else ():
            with suppress(OSError, *NO_RUN):
                recorded = parse(read(folder / "spec.json"))
                key = run_key(RunSpec.from_json(recorded["spec"]), recorded["seed"])
                if key != folder.name:
                    found[key] = folder
        return found

    def _keep_beside(self, run: Run, first: Path) -> str:
        """Keep a Run that disagrees with the first one; the warning about it."""
        numbers = [run.digest, *(readings_digest(readings) for _, readings in sorted(run.probes.items()))]
        second = self.path / "disagreements" / "-".join([run.key, *(digest[:12] for digest in numbers)])
        with staged_run(self.path / "tmp", run) as staged:
            try:
                os.rename(staged, second)
            except OSError:
                if not is_folder(second):  # kept before, or by another process at this moment
                    raise
        return (
            f"{run.replicate}, was trained twice with different numbers: the first Run is kept in {first}, the second "
            f"one in {second}, and their env.json say where each was trained"
        )

    def _drop_published_work(self) -> None:
        """Remove the snapshots of Runs that were published: their publisher was killed, or they were imported."""
        for name in layout.names(self.path / "work", layout.KEY):
            folder = self.path / "work" / name
            with suppress(OSError, *NO_RUN, StoreError):
                replicate, _ = begun(folder)
                if self.has(replicate) and (lock := layout.try_lock(self.path, name)):
                    shutil.rmtree(folder)
                    layout.release(lock)


def _skip(error: StoreError, skipped: list[str] | None) -> None:
    if skipped is None:
        raise error
    skipped.append(str(error))
