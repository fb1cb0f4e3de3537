"""What is recorded of a replica epoch by epoch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from bnlab.engine.training import Training


@dataclass
class Record:
    """Epochs finished, the curves so far, and the optimizer step after which the loss was not finite, if any."""

    epoch: int = 0
    curves: dict[str, list[float]] = field(
        default_factory=lambda: {"train_loss": [], "train_accuracy": [], "test_accuracy": []}
    )
    diverged_at: int | None = None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Record":
        """The record that `to_json` described; other fields are left out."""
        return cls(fields["epoch"], fields["curves"], fields["diverged_at"])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"epoch": self.epoch, "curves": self.curves, "diverged_at": self.diverged_at}

    def add(self, training: Training, k: int, accuracy: float) -> None:
        """Add the epoch that replica k just trained, and its test accuracy after it."""
        losses, correct = training.losses[:, k].cpu(), training.correct[:, k].cpu()
        broken = (~torch.isfinite(losses)).nonzero()
        if self.diverged_at is None and len(broken):
            self.diverged_at = self.epoch * training.steps + int(broken[0])
        self.epoch += 1
        self.curves["train_loss"].append(math.fsum(losses.tolist()) / training.steps)
        self.curves["train_accuracy"].append(100 * int(correct.sum()) / training.shown)
        self.curves["test_accuracy"].append(accuracy)
