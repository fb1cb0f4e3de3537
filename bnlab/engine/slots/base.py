"""The norm slots of K replicas: each holds the parameters and statistics of one layer for every replica.

A slot maps x [k, b, h, w, c] to the same shape in one of four modes: `train` (batch statistics, running ones move),
`eval` (running statistics), `batch` (batch statistics, nothing moves) and `calibrate` (batch statistics, which become
the running ones by cumulative average). What follows a norm in a ResNet is part of the call: the residual that is
added, and the ReLU.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

Mode = Literal["train", "eval", "batch", "calibrate"]
State = dict[str, Tensor]


class Slot(ABC):
    """One norm layer of K replicas. The defaults are those of a layer without parameters, statistics and draws."""

    @abstractmethod
    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Apply the layer of replica k to x[k] [b, h, w, c], then add the residual, then the ReLU."""

    def for_readers(
        self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False, readers: int = 1
    ) -> tuple[Tensor, ...]:
        """The same for so many operations that read it: one tensor, or more of them if that saves adding gradients."""
        return (self(x, mode, residual, relu=relu),)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Trained leaves by the layer's own parameter name: one stacked leaf, or one leaf a replica."""
        return {}

    def rows(self, name: str) -> range:
        """The replicas that a stacked leaf has rows for, in order."""
        return range(0)

    def buffers(self, k: int) -> State:
        """What replica k's layer holds beside its trained parameters, under the layer's own names; live views."""
        return {}

    def statistics(self) -> list[Tensor]:
        """The tensors that a training step moves beside the parameters, for all replicas."""
        return []

    def counters(self) -> list[Tensor]:
        """The tensors among them that count batches, for the program to count in one operation."""
        return []

    def buffers_kept(self) -> AbstractContextManager[None]:
        """Put tensors that a pass replaces back afterwards; those that it changes are `statistics`."""
        return nullcontext()

    def evaluations(self, k: int) -> tuple[str, ...]:
        """Tests of replica k that its layer asks for beside the one with running statistics."""
        return ()

    def start_calibration(self) -> None:  # noqa: B027  # nothing to do without statistics
        """Forget the running statistics and average the coming batches with equal weights."""

    def next_calibration_batch(self) -> None:  # noqa: B027
        """Give the coming batch its share in the average; a call in mode `calibrate` does it by itself."""

    def seed(self, moments: Sequence[str]) -> None:  # noqa: B027  # nothing to do without draws
        """Say what the random numbers of the coming pass are a function of: a text for each replica."""

    def generators(self) -> list[torch.Generator]:
        """The generators that `seed` sets, which a captured step has to know."""
        return []

    def uncapturable(self) -> str:
        """Why a step through this layer cannot be captured as a CUDA graph; empty where it can.

        Known after the first call.
        """
        return ""


def finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Add the residual, then the ReLU; in place only on a sum, since y is a view, whose gradient would be copied."""
    if residual is not None:
        y = y + residual
        return torch.relu_(y) if relu else y
    return torch.relu(y) if relu else y


class IdentitySlot(Slot):
    """No normalisation."""

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """x itself, then the residual, then the ReLU."""
        return finish(x, residual, relu)
