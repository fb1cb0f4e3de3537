"""A cohort that a Lab has locked, and what trains it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import Protocol

from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec
from bnlab.store import Store, Work

AfterEpoch = Callable[[Replicate, int, bytes], None]


class Trainer(Protocol):
    """What trains a cohort on one device; the engine in earnest, a fake in tests."""

    def replicas(self, spec: RunSpec) -> int:
        """How many Runs like this one to train as one cohort here."""

    def epoch(self, snapshot: bytes) -> int:
        """Epochs finished in a snapshot."""

    def train(
        self, cohort: Sequence[Replicate], resume: Sequence[bytes | None], after_epoch: AfterEpoch
    ) -> Sequence[Run]:
        """Train Runs of one `cohort_key`; `after_epoch(run, epoch, snapshot)` follows every epoch.

        Their provenance is the environment (versions, device, threads), `wall_s`, `images_per_s`.
        """


@dataclass
class Cohort:
    """Runs that one Lab has locked to train together, at most `room`, all at the same epoch.

    `works` and `snapshots` belong to each other; `locks` frees the Runs when it is closed. A Run of
    `recorded` that is trained again for its probes has to agree with what is recorded.
    """

    store: Store
    trainer: Trainer
    recorded: Mapping[str, Run]
    room: int
    locks: ExitStack
    works: list[Work] = field(default_factory=list)
    snapshots: list[bytes | None] = field(default_factory=list)
    epoch: int = 0

    def add(self, runs: Sequence[Replicate]) -> bool:
        """Lock those that are free while there is room; True if one of them was finished.

        Nothing waits for a lock before all were tried: on a large cluster others have thousands of them. Then a few are
        waited for, since somebody may only be looking at them.
        """
        finished, busy = False, list[Replicate]()
        for run, patient in chain(zip(runs, repeat(False)), zip(islice(busy, self.room), repeat(True))):
            if run.probes and run.key in self.recorded:
                self.store.add(self.recorded[run.key])
            work = self.store.try_work(run, patient=patient)
            if work is None:
                if not patient:
                    busy.append(run)
                continue
            with ExitStack() as mine:
                mine.enter_context(work)
                if work.published:
                    finished = True
                    continue
                if self.works and work.epoch != self.epoch:
                    continue
                snapshot, epoch = self._snapshot(work)
                if not self.works or epoch == self.epoch:
                    self.epoch = epoch
                    self.works.append(work)
                    self.snapshots.append(snapshot)
                    self.locks.push(mine.pop_all())
            if len(self.works) >= self.room:
                break
        return finished

    def _snapshot(self, work: Work) -> tuple[bytes | None, int]:
        """The newest snapshot that the trainer accepts, and its epoch; others are set aside."""
        snapshot = work.snapshot()
        while snapshot is not None:
            try:
                if (epoch := self.trainer.epoch(snapshot)) == work.epoch:
                    return snapshot, epoch
                snapshot = work.refuse_snapshot(f"it is of epoch {epoch}")
            except Exception as error:
                snapshot = work.refuse_snapshot(f"{type(error).__name__}: {error}")
        return None, 0
