"""What norm layers say that they have learned, at the end of a training."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bnlab.probes.probe import Moment, Probe, View


class Learned(Probe):
    """Of every number that layers give by a method `learned()`, the mean over the layers after the last step.

    SwitchableNorm gives the weights of its kinds, UnitizedBatchNorm the size of alpha.
    """

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def wants(self, moment: Moment) -> bool:
        """The last step."""
        return (moment.epoch + 1, moment.step + 1) == (moment.epochs, moment.steps)

    def read(self, moment: Moment, view: View) -> None:
        """Ask the layers."""
        modules = view.network().modules()
        told: list[Mapping[str, float]] = [module.learned() for module in modules if hasattr(module, "learned")]  # type: ignore[operator]
        names = sorted({name for one in told for name in one})
        self.found = {name: float(np.mean([one[name] for one in told if name in one])) for name in names}

    def readings(self) -> dict[str, float]:
        """The means by name."""
        return dict(self.found)

    def state(self) -> dict[str, Any]:
        """The means."""
        return dict(self.found)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with these means."""
        self.found = dict(state)
