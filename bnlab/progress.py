"""What trains now and how long the rest takes, read from the store alone, so that any process can tell."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bnlab.cost import duration
from bnlab.runs import Run, last_accuracy
from bnlab.specs import Replicate
from bnlab.store import Store
from bnlab.store.work import Progress
from bnlab.words import count

_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a session set out to train: its Runs of the first look, those that are there, and the work that is missing.

    `work` is epochs times the size of the network, `images` are those of an epoch.
    """

    runs: int
    finished: int
    work: float
    images: int

    @classmethod
    def of(cls, needed: Sequence[Replicate], missing: Sequence[Replicate], images: int) -> "Planned":
        """The plan for these Runs."""
        work = sum(run.spec.epochs * run.spec.net.macs for run in missing)
        return cls(runs=len(needed), finished=len(needed) - len(missing), work=work, images=images)


@dataclass
class Watcher:
    """Follows a store look by look; what it measures counts from its first look at a Run.

    `planned` is what is to be done, as soon as somebody knows. `finished` are the Runs that it saw end.
    """

    store: Store
    planned: Planned | None = None
    clock: Callable[[], float] = time.monotonic
    finished: list[Run] = field(default_factory=list)
    now: list[Progress] = field(default_factory=list)
    _first: dict[str, Progress] = field(default_factory=dict)
    _last: dict[str, Progress] = field(default_factory=dict)
    _begun: float | None = None
    _changed: float = 0.0
    _trained: tuple[int, float] = (0, 0.0)

    def look(self) -> None:
        """See what has become of the Runs in progress; a StoreError or OSError may pass."""
        self.now = self.store.progress()
        seen = {work.replicate.key: work for work in self.now}
        for key, work in list(self._last.items()):
            if key not in seen and (run := self.store.load(work.replicate)) is not None:
                self.finished.append(run)
                del self._last[key]
        self._last |= seen
        for key, work in seen.items():
            self._first.setdefault(key, work)
        if self._first and self._begun is None:
            self._begun = self.clock()
        if (trained := self._epochs()) != self._trained:
            self._trained, self._changed = trained, self.clock()

    def _epochs(self) -> tuple[int, float]:
        """Epochs that went by since the first look, and the same times the size of their networks."""
        ended = {run.key for run in self.finished}
        gone = [
            ((first.replicate.spec.epochs if key in ended else self._last[key].epoch) - first.epoch, first.replicate)
            for key, first in self._first.items()
            if key in ended or key in self._last
        ]
        return sum(epochs for epochs, _ in gone), sum(epochs * run.spec.net.macs for epochs, run in gone)

    @property
    def training(self) -> list[Progress]:
        """The Runs that somebody trains now."""
        return [work for work in self.now if work.locked]

    def lines(self) -> list[str]:
        """How far it is, then what every process trains, then the last accuracies; empty before anything began."""
        return [*filter(None, [self._how_far()]), *self._cohorts(), *self._accuracies()]

    def line(self) -> str | None:
        """The same in one line, with the first few of what trains; None before anything began."""
        cohorts = self._cohorts()
        more = [f"and {len(cohorts) - _SHOWN} more"] if len(cohorts) > _SHOWN else []
        return "; ".join(filter(None, [self._how_far(), *cohorts[:_SHOWN], *more, *self._accuracies()])) or None

    def _cohorts(self) -> list[str]:
        groups: dict[tuple[str, str, int], list[Progress]] = {}
        for work in self.training:
            groups.setdefault((work.by.partition(" since")[0], str(work.replicate.spec), work.epoch), []).append(work)
        return [
            f"{by}: {spec}, {_seeds(works)}, {epoch} of {count(works[0].replicate.spec.epochs, 'epoch')} done"
            for (by, spec, epoch), works in sorted(groups.items())
        ]

    def _accuracies(self) -> list[str]:
        shown = [f"{run.spec.label} {last_accuracy.read(run):.1f} %" for run in self.finished[-_SHOWN:]]
        return [f"last: {', '.join(shown)}"] if shown else []

    def _how_far(self) -> str:
        done, planned = len(self.finished), self.planned
        epochs, work = self._trained
        seconds = self._changed - (self._begun or 0.0)
        if planned is None:
            return f"{count(done, 'Run')} finished" if done or self.now else ""
        text = f"{planned.finished + done} of {count(planned.runs, 'Run')}"
        if not self._first:
            return f"{text}; nothing trains yet: images are read, programs compiled"
        if not epochs or seconds <= 0:
            return f"{text}; the first epoch is not over"
        left = max(0.0, planned.work - work) * seconds / work
        text += f", {epochs * planned.images / seconds:,.0f} images/s"
        return f"{text}, about {duration(left)} left" if left else f"{text}, further seeds of undecided claims"

    def kept(self) -> list[str]:
        """What a session leaves behind when it is stopped."""
        half = [work for work in self.now if work.epoch]
        text = [f"{count(len(self.finished), 'Run')} finished in this session: kept"]
        if half:
            epochs = sorted({f"{work.epoch} of {work.replicate.spec.epochs}" for work in half})
            text.append(f"{count(len(half), 'Run stands', 'Runs stand')} at epoch {', '.join(epochs)}: kept")
        return [*text, "the same command goes on from there"]


def _seeds(works: Iterable[Progress]) -> str:
    seeds = sorted(work.replicate.seed for work in works)
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
