"""How widely the entries of a gradient spread early and late in the first epoch (paper section 4.3)."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnlab.probes import View

UPDATES = 20
"""Updates that the paper calls early (the first ones) and late (the last ones of the first epoch)."""

LAYERS = {"input": "conv1.weight", "final": "fc.weight"}
"""The paper's words for the first and the last layer."""


class GradientSpread:
    """Standard deviation of the gradient's entries over 20 updates, of the first and last layer, early and late.

    Readings: `gradient_spread/input/early`, `/input/late`, `/final/early`, `/final/late`, in units of the gradient; the
    entries of all 20 updates are taken together. In an epoch of fewer than 40 updates early and late overlap.
    """

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}

    def wants(self, epoch: int, step: int, steps: int) -> bool:
        """The first and the last UPDATES of the first epoch."""
        return epoch == 0 and bool(self._times(step, steps))

    def read(self, epoch: int, step: int, steps: int, view: "View") -> None:
        """Add this step's gradients to the sums of their layer and time."""
        for layer, name in LAYERS.items():
            entries = view.gradient(name).double()
            for when in self._times(step, steps):
                held = self.sums.setdefault(f"{layer}/{when}", [0.0, 0.0, 0.0])
                held[0] += entries.numel()
                held[1] += float(entries.sum())
                held[2] += float(entries.square().sum())

    def readings(self) -> dict[str, float]:
        """The four standard deviations, dividing by n."""
        return {
            f"gradient_spread/{where}": math.sqrt(max(0.0, squares / n - (total / n) ** 2))
            for where, (n, total, squares) in sorted(self.sums.items())
        }

    def state(self) -> dict[str, Any]:
        """Count, sum and sum of squares by layer and time."""
        return {"sums": self.sums}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from those sums."""
        self.sums = {where: list(held) for where, held in state["sums"].items()}

    @staticmethod
    def _times(step: int, steps: int) -> list[str]:
        return [when for when, within in (("early", step < UPDATES), ("late", step >= steps - UPDATES)) if within]
