"""Margins: how large a difference has to be to matter, with its unit."""

import math
from dataclasses import dataclass

from bnlab.errors import StatisticsError

_DECIMALS = {"points": 2, "nats": 3, "log ratio": 3, "ratio": 3}


@dataclass(frozen=True)
class Margin:
    """A difference in the unit of the metric: zero or above, fixed before anything trains."""

    value: float
    unit: str

    def __post_init__(self) -> None:
        if self.unit not in _DECIMALS:
            raise StatisticsError(f"unknown unit {self.unit!r}: a margin is in {', '.join(_DECIMALS)}")
        if not (math.isfinite(self.value) and self.value >= 0):
            raise StatisticsError(
                f"a margin is a finite number of {self.unit} of at least 0, not {self.value!r}: "
                "swap the samples to turn the direction round"
            )

    def __str__(self) -> str:
        return f"{self.value:g} {self.unit.removesuffix('s') if self.value == 1 else self.unit}"

    def __repr__(self) -> str:
        return f"{self.unit.replace(' ', '_')}({self.value:g})"


def points(value: float) -> Margin:
    """A margin in percentage points of accuracy."""
    return Margin(_number(value, "points"), "points")


def nats(value: float) -> Margin:
    """A margin in nats of cross-entropy."""
    return Margin(_number(value, "nats"), "nats")


def log_ratio(value: float) -> Margin:
    """A margin of a reading that is a natural logarithm of a ratio, where 0 is no change.

    `log_ratio(math.log(2))` is a factor of 2.
    """
    return Margin(_number(value, "log_ratio"), "log ratio")


def ratio(value: float) -> Margin:
    """A margin of a reading that is a ratio itself, where 1 is no change.

    Prefer the logarithm, which treats a ratio and its inverse alike.
    """
    return Margin(_number(value, "ratio"), "ratio")


def signed(value: float, unit: str) -> str:
    """A difference with its sign: two decimals for points, three for nats and ratios."""
    return f"{value:+.{_DECIMALS.get(unit, 2)}f}"


def check_margin(owner: object, name: str, margin: object) -> None:
    """StatisticsError unless this field of a hypothesis is a Margin."""
    if not isinstance(margin, Margin):
        raise StatisticsError(
            f"{type(owner).__name__}({name}={margin!r}): expected a margin with its unit, such as points({margin!r})"
        )


def _number(value: object, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise StatisticsError(f"{unit}({value!r}): expected a number, such as {unit}(1.0)")
    return float(value)
