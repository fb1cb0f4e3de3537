"""What a probe is, and what it sees of one replica."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Reading = float | NDArray[Any]
"""A number, or an array that is kept beside the numbers of the Run."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An optimizer step: the epoch and the step within it, from 0, of so many epochs and steps an epoch."""

    epoch: int
    step: int
    epochs: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What the step was shown: standardised and augmented images [b, 3, 32, 32], labels [b], training indices [b]."""

    images: Tensor
    labels: Tensor
    indices: Tensor


class View(Protocol):
    """One replica as if it trained alone; all tensors are copies, under torch's names and in torch's shapes."""

    @property
    def layers(self) -> Sequence[str]:
        """Names of the convolutions and linear layers outside the norms, in the order of the network."""
        ...

    @property
    def batch(self) -> Batch:
        """What this step is shown, on the device."""
        ...

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the step's batch in nats, without a penalty; after the step."""
        ...

    def weight(self, name: str) -> Tensor:
        """A trained parameter as it is now, on the CPU; zero where a tap never meets data."""
        ...

    def gradient(self, name: str) -> Tensor:
        """What the step took as gradient, on the CPU; zero where a tap never meets data; after the step."""
        ...

    def network(self) -> nn.Module:
        """A copy of the network as it is now, a plain torch module in training mode, on the device.

        The Run does not notice what is done to it: forward and backward passes, other weights, random numbers.
        """
        ...

    def logits(self, mode: str, images: Tensor) -> Tensor:
        """Logits [n, classes] of `network()` for standardised images [n, 3, 32, 32], without gradients.

        `mode` is `train` (batch statistics) or `eval` (running statistics).
        """
        ...

    def activations(self, names: Sequence[str]) -> dict[str, Tensor]:
        """The outputs [b, ...] of these modules for the step's batch in training mode, with the weights as they are.

        They come from a forward pass of `network()`, so they equal those of the step but for rounding. Of a module that
        is called several times, the first output.
        """
        ...

    def inputs(self, names: Sequence[str]) -> dict[str, Tensor]:
        """What these modules are given, as in `activations`."""
        ...


class Probe:
    """Reads one replica while it trains and leaves the training unchanged; a subclass says what and when.

    An instance sees one replica, and needs no arguments to be made.
    """

    def wants(self, moment: Moment) -> bool:
        """Whether to look at this step."""
        return False

    def before(self, moment: Moment, view: View) -> None:
        """Look at the replica as the step will find it."""

    def read(self, moment: Moment, view: View) -> None:
        """Look at the replica as the step left it."""

    def readings(self) -> Mapping[str, Reading]:
        """What was read, by name, for the Run: numbers and arrays, 64 KiB at most."""
        return {}

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from, by name: numpy arrays and plain JSON values. Called between epochs."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""


def as_array(tensor: Tensor) -> NDArray[np.float64]:
    """The entries of a tensor in a row, in double precision."""
    return tensor.detach().cpu().double().flatten().numpy()
