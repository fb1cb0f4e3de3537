"""A cohort that a Lab has locked, and what trains it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from typing import Protocol

from bnlab.errors import OtherNumbersError
from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec
from bnlab.store import Store, Work

AfterEpoch = Callable[[Replicate, int, bytes], None]


class Trainer(Protocol):
    """What trains a cohort on one device; the engine in earnest, a fake in tests.

    `device` is what the provenance of its Runs calls that device.
    """

    device: str

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

    `works` and `snapshots` belong to each other; `locks` frees the Runs when it is closed. A Run that
    is trained again for its probes has to have the numbers that it has. Where it would not, one of
    `recorded` is trained anew for this store, and one of the store is left out: `refused` says why.
    """

    store: Store
    trainer: Trainer
    recorded: Mapping[str, Run]
    room: int
    locks: ExitStack
    works: list[Work] = field(default_factory=list)
    snapshots: list[bytes | None] = field(default_factory=list)
    epoch: int = 0
    refused: str = ""

    def add(self, runs: Sequence[Replicate]) -> bool:
        """Lock those that are free while there is room; True if one of them was finished.

        Nothing waits for a lock before all were tried: on a large cluster others have thousands of them. Then a few are
        waited for, since somebody may only be looking at them.
        """
        finished, busy = False, list[Replicate]()
        for run, patient in chain(zip(runs, repeat(False)), zip(islice(busy, self.room), repeat(True))):
            asked = self._again(run) if run.probes else run
            work = None if asked is None else self.store.try_work(asked, patient=patient)
            if work is None:
                if asked is not None and not patient:
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

    def leave_out_other_numbers(self) -> None:
        """Keep no stored Run that this cohort would give other numbers; OtherNumbersError if that leaves none."""
        size = len(self.works)
        for place, work in reversed(list(enumerate(self.works))):
            first = self.store.load(replace(work.replicate, probes=()))
            if first is not None and first.provenance.get("cuda") and first.provenance.get("cohort") != size:
                self._refuse(first, work.replicate, f"a cohort of {size}")
                del self.works[place], self.snapshots[place]
        if self.refused and not self.works:
            raise OtherNumbersError(self.refused)

    def _again(self, run: Replicate) -> Replicate | None:
        """The Run to train for its probes where there is one without them; None where the store's cannot be had again.

        A recorded one is copied to the store, to get the readings; one that cannot be had again is trained with the
        probes of both, and is the store's own from then on.
        """
        plain = replace(run, probes=())
        if (first := self.store.load(plain)) is not None:
            if self._is_of(first, self.trainer.device):
                return run
            self._refuse(first, run, self.trainer.device)
            return None
        if (known := self.recorded.get(run.key)) is None:
            return run
        if self._is_of(known, self.trainer.device) and not known.provenance.get("cuda"):
            self.store.add(known)
            return run
        # a probe of a user is read in the version that was asked for, and in no earlier one
        ours = [probe for probe in known.probes if "@" not in probe]
        return replace(run, probes=tuple(dict.fromkeys([*run.probes, *ours])))

    def _is_of(self, run: Run, device: str) -> bool:
        return bool(run.provenance.get("device", device) == device)

    def _refuse(self, first: Run, asked: Replicate, here: str) -> None:
        was = f"{first.provenance.get('device')} in a cohort of {first.provenance.get('cohort')}"
        self.refused = (
            f"{first.replicate}, was trained on {was} and would have other numbers on {here}, so "
            f"{', '.join(asked.probes)} cannot be read: train there, or name a new store with --store, where the Run "
            "is trained anew"
        )

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
