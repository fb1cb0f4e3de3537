"""A Trainer whose cohorts this process tells of."""

from collections.abc import Sequence
from typing import Any, cast

from bnlab.cohorts import AfterEpoch, Trainer
from bnlab.runs import Run
from bnlab.specs import Replicate
from bnlab.store.beats import Pulse


class _Heard:
    """Does what the trainer does, and tells when a cohort begins, passes an epoch and ends."""

    def __init__(self, trainer: Trainer, pulse: Pulse) -> None:
        self._trainer, self._pulse = trainer, pulse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)

    def train(
        self, cohort: Sequence[Replicate], resume: Sequence[bytes | None], after_epoch: AfterEpoch, *more: Any
    ) -> Sequence[Run]:
        """Train the cohort."""
        first = resume[0]
        self._pulse.begin(cohort, 0 if first is None else self._trainer.epoch(first))

        def kept(run: Replicate, epoch: int, snapshot: bytes) -> None:
            self._pulse.passed(epoch)
            after_epoch(run, epoch, snapshot)

        runs = self._trainer.train(cohort, resume, kept, *more)
        self._pulse.end(runs)
        return runs


def heard(trainer: Trainer, pulse: Pulse) -> Trainer:
    """The same Trainer; what it does is told."""
    return cast(Trainer, _Heard(trainer, pulse))
