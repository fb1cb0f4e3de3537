"""How widely the entries of a gradient spread early and late in the first epoch (paper section 4.3)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from bnlab.probes.probe import Moment, Probe, View, as_array

UPDATES = 20
"""Updates that the paper calls early (the first ones) and late (the last ones of the first epoch)."""


@dataclass
class Spread:
    """Count, sum and sum of squares of the entries seen."""

    n: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def add(self, entries: NDArray[Any]) -> None:
        """See more entries."""
        self.n += entries.size
        self.total += float(entries.sum())
        self.squares += float((entries * entries).sum())

    @property
    def deviation(self) -> float:
        """Their standard deviation, dividing by n."""
        return math.sqrt(max(self.squares / self.n - (self.total / self.n) ** 2, 0.0))  # NaN stays NaN


class GradientSpread(Probe):
    """Standard deviation of the gradient's entries over 20 updates, of the first and last layer, early and late.

    Readings: `input/early`, `input/late`, `final/early` and `final/late`, in units of the gradient; the entries of all
    20 updates are taken together. In an epoch of fewer than 40 updates early and late overlap.
    """

    def __init__(self) -> None:
        self.spreads: dict[str, Spread] = {}

    def wants(self, moment: Moment) -> bool:
        """The first and the last UPDATES of the first epoch."""
        return moment.epoch == 0 and bool(times(moment))

    def read(self, moment: Moment, view: View) -> None:
        """Add this step's gradients to the sums of their layer and time."""
        for layer, name in ends(view).items():
            entries = as_array(view.gradient(f"{name}.weight"))
            for when in times(moment):
                self.spreads.setdefault(f"{layer}/{when}", Spread()).add(entries)

    def readings(self) -> dict[str, float]:
        """The four standard deviations."""
        return {where: spread.deviation for where, spread in sorted(self.spreads.items())}

    def state(self) -> dict[str, Any]:
        """Count, sum and sum of squares by layer and time."""
        return {where: [spread.n, spread.total, spread.squares] for where, spread in self.spreads.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from those sums."""
        self.spreads = {where: Spread(*sums) for where, sums in state.items()}


def times(moment: Moment) -> list[str]:
    """`early`, `late`, both or neither, within an epoch."""
    early, late = moment.step < UPDATES, moment.step >= moment.steps - UPDATES
    return [when for when, within in (("early", early), ("late", late)) if within]


def ends(view: View) -> dict[str, str]:
    """The paper's words for the first and the last layer, and their names."""
    return {"input": view.layers[0], "final": view.layers[-1]}
