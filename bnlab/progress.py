"""What trains now and how long the rest takes, read from the store alone, so that any process can tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bnlab.cost import duration
from bnlab.store import Store
from bnlab.store.beats import Beat, Planned, beats
from bnlab.store.durable import exists
from bnlab.store.work import Progress
from bnlab.words import count

TRAINING = "training"
"""What a process says it does in the epochs of a cohort, which are counted."""

_SHOWN = 3
_QUIET = 600.0  # seconds after which it is said that a process has kept nothing


@dataclass
class Watcher:
    """Follows what processes tell of themselves, and what lies in the store.

    `now` are the Runs in progress, `beats` what the processes that train say, `planned` what these set out to train, or
    the last that did, and `there` what of it is finished.
    """

    store: Store
    now: list[Progress] = field(default_factory=list)
    beats: list[Beat] = field(default_factory=list)
    planned: Planned = field(default_factory=dict)
    there: set[str] = field(default_factory=set)

    def look(self) -> None:
        """See how far everybody is; a StoreError or OSError may pass."""
        self.now, self.beats = self.store.progress(), beats(self.store)
        told: dict[str, float] = {}
        for beat in self.beats:
            told |= {place: max(work, told.get(place, 0.0)) for place, work in beat.planned.items()}
        self.planned = told or self.planned
        self.there |= {place for place, work in self.planned.items() if not work}
        self.there |= {place for place in self.planned.keys() - self.there if exists(self.store.path / place)}

    @property
    def training(self) -> list[Progress]:
        """The Runs that somebody trains now."""
        return [work for work in self.now if work.locked]

    @property
    def idle(self) -> bool:
        """Whether nobody trains here."""
        return not self.beats and not self.training

    @property
    def done(self) -> int:
        """How many of the planned Runs are there."""
        return len(self.there & self.planned.keys())

    def lines(self) -> list[str]:
        """How far it is, then what every process does, then the last accuracies; empty where nobody trains."""
        return [*filter(None, [self.how_far()]), *self.processes(), *self._accuracies()]

    def line(self) -> str | None:
        """The same in one line, with the first few processes; None where nobody trains or nothing is left to train."""
        over = self.planned and self.done == len(self.planned) and not any(beat.cohort for beat in self.beats)
        if self.idle or over:
            return None
        found = self.processes()
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        return "; ".join(filter(None, [self.how_far(), *found[:_SHOWN], *more, *self._accuracies()])) or None

    def how_far(self) -> str:
        """Runs done of planned, speed, and the time that is left at that speed."""
        if not self.planned:
            return f"{count(len(self.training), 'Run')} in training" if self.training else ""
        text = f"{self.done} of {count(len(self.planned), 'Run')}"
        busy = [beat for beat in self.beats if beat.cohort]
        measured = [beat for beat in busy or self.beats if beat.work and beat.seconds]
        if not measured:
            return f"{text}; no epoch is over yet" if busy else f"{text}; nothing trains yet"
        if images := sum(beat.images / beat.seconds for beat in measured):
            text += f", {images:,.0f} images/s"
        speed = sum(beat.work / beat.seconds for beat in measured)
        missing = sum(work for place, work in self.planned.items() if place not in self.there)
        left = max(0.0, missing - sum(beat.underway for beat in busy))
        return f"{text}, about {duration(left / speed)} left" if left else text

    def processes(self) -> list[str]:
        """What every process that trains does, in one line each."""
        works = {work.replicate.key: work for work in self.now}
        text = []
        for beat in self.beats:
            members = [works.pop(key) for key in beat.cohort if key in works]
            doing = "" if members and beat.doing == TRAINING else beat.doing
            text.append(f"{beat.by}: {', '.join(filter(None, [*_cohort(members, beat.epoch), doing]))}")
        groups: dict[tuple[str, int], list[Progress]] = {}
        for work in works.values():
            if work.locked:  # by a process that tells nothing of itself
                groups.setdefault((work.by.partition(" since")[0], work.epoch), []).append(work)
        return text + [f"{by}: {', '.join(_cohort(works, epoch))}" for (by, epoch), works in sorted(groups.items())]

    def _accuracies(self) -> list[str]:
        shown = [text for beat in self.beats for text in beat.last][-_SHOWN:]
        return [f"last: {', '.join(shown)}"] if shown else []

    def kept(self) -> list[str]:
        """What is left behind when the training is stopped."""
        half = [work for work in self.now if work.epoch]
        ended = sum(1 for place in self.there & self.planned.keys() if self.planned[place])
        text = [f"{count(ended, 'Run')} finished meanwhile: kept"]
        if half:
            epochs = sorted({f"{work.epoch} of {work.replicate.spec.epochs}" for work in half})
            text.append(f"{count(len(half), 'Run stands', 'Runs stand')} at epoch {', '.join(epochs)}: kept")
        return [*text, "the same command goes on from there"]


def _cohort(members: Sequence[Progress], epoch: int) -> list[str]:
    """A cohort in words, how far it is, and for how long it kept nothing; nothing for one without Runs."""
    if not members:
        return []
    runs, quiet = [work.replicate for work in members], min(work.quiet for work in members)
    spec, norms = runs[0].spec, list(dict.fromkeys(str(run.spec.norm) for run in runs))
    seeds = sorted({run.seed for run in runs})
    return [
        str(spec).replace(str(spec.norm), " + ".join(norms), 1),
        f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}",
        f"{epoch} of {count(spec.epochs, 'epoch')} done",
        *([f"nothing kept for {duration(quiet)}"] if quiet > _QUIET else []),
    ]
