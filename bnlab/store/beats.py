"""Beats: what every process that trains into a store does at this moment, so that anybody can watch.

    beats/<n>.json         who it is, what it does, its cohort, and how much it has trained since it began
    beats/<n>.plan.json    the Runs that it set out to train

The process that holds `locks/beat-<n>.lock` writes them. They are replaced by one rename and not flushed. Nothing is
concluded from a beat: one that is missing, damaged or of another version says nothing. A beat that the disk refuses is
left out.
"""

import hashlib
import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bnlab.errors import StoreError
from bnlab.runs import Run, last_accuracy
from bnlab.specs import Replicate
from bnlab.store import Store, layout
from bnlab.store.checks import parse, plain_provenance
from bnlab.store.durable import exists, read
from bnlab.store.files import NO_RUN, json_line, probe_file

FORMAT = 1
"""Version of the files."""

_FOLDER = "beats"
_NAME = re.compile(r"[0-9]{3}\.json")
_MOST = 1000  # processes that tell what they do
_LARGEST = 4 * 2**20
_IDLE = "looks for Runs to train"
_EVERY = 1.0  # least seconds between beats, but where something else begins
_SHOWN = 3

Planned = Mapping[str, float]
"""Where the Runs that were set out for will lie in the store, and the work of each: epochs times the size of its
network, or 0 for one that was there already."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a process does.

    `cohort` are the keys of the Runs that it trains and `epoch` their epochs so far, which are `underway` of work.
    `images` and `work` are what it trained since it began, in `seconds`. `last` are the accuracies of its last Runs.
    """

    by: str
    doing: str = ""
    cohort: tuple[str, ...] = ()
    epoch: int = 0
    underway: float = 0.0
    images: float = 0.0
    work: float = 0.0
    seconds: float = 0.0
    last: tuple[str, ...] = ()
    planned: Planned


def beats(store: Store) -> list[Beat]:
    """The beats of the processes that live, in the order of their files; one that cannot be read is left out."""
    found = []
    for name in layout.names(store.path / _FOLDER, _NAME):
        with suppress(OSError, StoreError, *NO_RUN):
            if layout.locked(store.path, _lock(int(name[:3]))):
                found.append(_beat(store.path / _FOLDER / name))
    return found


def _beat(path: Path) -> Beat:
    told = plain_provenance(parse(read(path, _LARGEST)))
    if told["format"] != FORMAT:
        raise ValueError("a beat of another version")
    plan = _plan(path.with_suffix(".plan.json"), told["plan"]) if told["plan"] else {}
    known: dict[str, Any] = {
        **{name: str(told[name]) for name in ("by", "doing")},
        **{name: tuple(map(str, told[name])) for name in ("cohort", "last")},
        **{name: _number(told[name]) for name in ("epoch", "underway", "images", "work", "seconds")},
    }
    return Beat(**known, planned=plan)


@lru_cache(maxsize=256)
def _plan(path: Path, digest: str) -> Planned:
    """A plan, which does not change while its digest is the same."""
    content = read(path, _LARGEST)
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("a plan that is being replaced")
    return {str(place): _number(work) for place, work in parse(content).items()}


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is no amount")
    number: float = value
    return number


def _named(run: Run) -> str:
    return f"{run.spec.net} {run.spec.norm} batch {run.spec.batch_size} seed {run.seed}"


def _lock(number: int) -> str:
    return f"beat-{number:03}"


def planned(store: Store, needed: Iterable[Replicate], missing: Iterable[Replicate]) -> Planned:
    """The plan for these Runs, of which some are missing."""
    lacking = set(missing)
    return {_place(store.path, run): run.spec.epochs * run.spec.net.macs * (run in lacking) for run in needed}


def _place(store: Path, run: Replicate) -> str:
    """What will be in the store when the Run is finished: its folder, or there the first probe that is not read yet."""
    folder = store / "runs" / run.key[:2] / run.key
    probes = (probe_file(folder, probe) for probe in run.probes)
    place = next((path for path in probes if not exists(path)), folder) if exists(folder) else folder
    return str(place.relative_to(store))


class Pulse:
    """Writes the beats of this process until it is closed; a context manager."""

    def __init__(self, store: Store, name: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._clock = store, clock
        self._lock: AbstractContextManager[object] | None = None
        self._number, self._plan = 0, ""
        self._planned: Planned = {}
        self._cohort: Sequence[Replicate] = ()
        self._begun = self._written = 0.0
        named = f" ({name})" if name else ""
        self._beat = Beat(by=f"process {os.getpid()} on {socket.gethostname()}{named}", planned={})
        with suppress(StoreError, OSError):
            for self._number in range(_MOST):
                if (lock := self._store.try_lock(_lock(self._number))) is not None:
                    self._lock = lock
                    break

    def __enter__(self) -> "Pulse":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the beats."""
        if self._lock is not None:
            self._lock.__exit__(None, None, None)

    def plan(self, runs: Planned) -> None:
        """Tell what this process sets out to train."""
        self._planned = runs
        content = json_line(dict(runs))
        self._plan = hashlib.sha256(content).hexdigest()
        self._write(".plan.json", content)
        self._tell(doing=self._beat.doing or _IDLE)

    def say(self, doing: str) -> None:
        """Tell what is done now."""
        self._tell(doing=doing)

    def begin(self, cohort: Sequence[Replicate], epoch: int) -> None:
        """A cohort begins after so many epochs; its Runs belong to the plan, as further seeds did not before."""
        with suppress(OSError):
            own = planned(self._store, cohort, cohort)
            if own.keys() - self._planned.keys():
                self.plan({**own, **self._planned})
        self._cohort, self._begun = cohort, self._clock()
        self._tell(cohort=tuple(run.key for run in cohort), epoch=epoch, underway=epoch * self._size)

    def passed(self, epoch: int, images: int = 0) -> None:
        """The cohort has finished so many epochs, and was shown so many images in the last."""
        if (more := max(0, epoch - self._beat.epoch)) == 0 and not images:
            return  # told before; a cohort that goes on in halves passes an epoch twice
        beat, now = self._beat, self._clock()
        seconds, self._begun = beat.seconds + now - self._begun, now
        self._tell(
            epoch=epoch,
            underway=epoch * self._size,
            images=beat.images + images,
            work=beat.work + more * self._size,
            seconds=seconds,
        )

    def end(self, runs: Sequence[Run]) -> None:
        """The cohort has ended, and these are its Runs."""
        if runs:
            self.passed(runs[0].spec.epochs)
        last = [f"{_named(run)} {last_accuracy.read(run):.1f} %" for run in runs]
        shown = (*self._beat.last, *last)[-_SHOWN:]
        self._cohort = ()
        self._tell(doing=_IDLE, cohort=(), epoch=0, underway=0.0, last=shown)

    @property
    def _size(self) -> float:
        """The work of an epoch of the cohort."""
        return float(sum(run.spec.net.macs for run in self._cohort))

    def _tell(self, **changed: Any) -> None:
        """Write the beat, unless it was written a moment ago and only numbers changed."""
        before, self._beat = self._beat, replace(self._beat, **changed)
        texts = ("doing", "cohort", "last")
        begins = any(getattr(before, name) != getattr(self._beat, name) for name in texts)
        if begins or self._clock() - self._written >= _EVERY:
            self._written = self._clock()
            told = {name: value for name, value in asdict(self._beat).items() if name != "planned"}
            self._write(".json", json_line({**told, "format": FORMAT, "plan": self._plan}))

    def _write(self, suffix: str, content: bytes) -> None:
        if self._lock is None:
            return
        path = self._store.path / _FOLDER / f"{self._number:03}{suffix}"
        partial = path.with_suffix(".partial")  # nobody else has this number
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            partial.unlink(missing_ok=True)
            with open(partial, "xb") as file:
                file.write(content)
            os.replace(partial, path)
