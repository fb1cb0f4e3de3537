"""The norm slots of K replicas: each holds the parameters and statistics of one layer for every replica.

A slot maps x [k, b, h, w, c] to the same shape in one of four modes: `train` (batch statistics, running ones move),
`eval` (running statistics), `batch` (batch statistics, nothing moves) and `calibrate` (batch statistics, which become
the running ones by cumulative average). What follows a norm in a ResNet is part of the call: the residual that is
added, and the ReLU.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor

Mode = Literal["train", "eval", "batch", "calibrate"]
State = dict[str, Tensor]


class Slot(Protocol):
    """One norm layer of K replicas."""

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Apply the layer of replica k to x[k] [b, h, w, c], then add the residual, then the ReLU."""

    def parameters(self) -> dict[str, list[Tensor]]:
        """Trained leaves by the layer's own parameter name: one stacked leaf, or one leaf a replica."""

    def rows(self, name: str) -> range:
        """The replicas that a stacked leaf has rows for, in order."""

    def buffers(self, k: int) -> State:
        """What replica k's layer holds beside its trained parameters, under torchvision's names; live views."""

    def statistics(self) -> list[Tensor]:
        """The tensors that a training step moves beside the parameters, for all replicas."""

    def counters(self) -> list[Tensor]:
        """The tensors among them that count batches, for the program to count in one go."""

    def start_calibration(self) -> None:
        """Forget the running statistics and average the coming batches with equal weights."""

    def running(self, k: int) -> bool:
        """Whether replica k's layer keeps running statistics."""


def finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Add the residual, then the ReLU; in place only on a sum, since y is a view, whose gradient would be copied."""
    if residual is not None:
        y = y + residual
        return torch.relu_(y) if relu else y
    return torch.relu(y) if relu else y


class IdentitySlot:
    """No normalisation."""

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """x itself, and what follows."""
        return finish(x, residual, relu)

    def parameters(self) -> dict[str, list[Tensor]]:
        """None."""
        return {}

    def rows(self, name: str) -> range:
        """Nobody's."""
        return range(0)

    def buffers(self, k: int) -> State:
        """None."""
        return {}

    def statistics(self) -> list[Tensor]:
        """None."""
        return []

    def counters(self) -> list[Tensor]:
        """None."""
        return []

    def start_calibration(self) -> None:
        """Nothing to calibrate."""

    def running(self, k: int) -> bool:
        """No statistics."""
        return False
