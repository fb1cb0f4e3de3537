"""Margins: how large a difference has to be to matter, with its unit."""

import math
from dataclasses import dataclass

from bnlab.errors import StatisticsError

_DECIMALS = {"points": 2, "nats": 3}


@dataclass(frozen=True)
class Margin:
    """A difference of means in the unit of the metric: zero or above, fixed before anything trains."""

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in _DECIMALS:
            raise StatisticsError(f"unknown unit {self.unit!r}: a margin is in {' or '.join(_DECIMALS)}")
        if not (math.isfinite(self.value) and self.value >= 0):
            raise StatisticsError(
                f"a margin is a finite number of {self.unit} of at least 0, not {self.value!r}: "
                "swap the samples to turn the direction round"
            )

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit[:-1] if self.value == 1 else self.unit}"

    def __repr__(self) -> str:
        return f"{self.unit}({self.value:g})"


def points(value: float) -> Margin:
    """A margin in percentage points of accuracy."""
    return Margin(float(value), "points")


def nats(value: float) -> Margin:
    """A margin in nats of cross-entropy."""
    return Margin(float(value), "nats")


def signed(value: float, unit: str) -> str:
    """A difference as reports write it, with its sign: two decimals for points, three for nats."""
    return f"{value:+.{_DECIMALS.get(unit, 2)}f}"
