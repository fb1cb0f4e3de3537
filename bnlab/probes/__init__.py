"""Probes: readings taken while training that leave the training unchanged.

A probe is asked for by its name in RunSpec.probes. Every replica has an instance of its own, which sees that replica as
if it trained alone, and which goes into its snapshots as plain JSON values.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from bnlab.errors import SpecError
from bnlab.probes.gradients import GradientSpread

__all__ = ["Probe", "View", "probes"]


class View(Protocol):
    """One replica after an optimizer step."""

    def weight(self, name: str) -> Tensor:
        """A parameter under its torchvision name and in its shape, as the step left it; a copy on the CPU."""
        ...

    def gradient(self, name: str) -> Tensor:
        """The gradient that the step used; zero where a tap never meets data. A copy on the CPU."""
        ...


class Probe(Protocol):
    """What reads one replica."""

    def wants(self, epoch: int, step: int, steps: int) -> bool:
        """Whether to read after this step, numbered from 0 within an epoch of `steps`."""
        ...

    def read(self, epoch: int, step: int, steps: int, view: View) -> None:
        """Take a reading."""
        ...

    def readings(self) -> dict[str, float]:
        """What was read, by name, for the Run."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain JSON values from which `restore` goes on."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        ...


KNOWN: dict[str, type[Probe]] = {"gradient_spread": GradientSpread}
"""Probes by name."""


def probes(names: Sequence[str]) -> list[Probe]:
    """New instances of these probes; an unknown name is a SpecError."""
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        raise SpecError(f"unknown probe {unknown[0]!r}: expected one of {', '.join(KNOWN)}")
    return [KNOWN[name]() for name in names]
