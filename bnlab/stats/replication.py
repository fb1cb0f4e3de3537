"""Replication: one arm against a number that somebody published."""

import math
from dataclasses import dataclass
from typing import ClassVar

from bnlab.errors import StatisticsError
from bnlab.stats.hypothesis import Hypothesis
from bnlab.stats.margins import Margin, points
from bnlab.stats.rule import Rule

_TWO_POINTS = points(2.0)


@dataclass(frozen=True, kw_only=True)
class Replication(Hypothesis):
    """The arm's mean is within the margin of the published one: the t interval of mean - published is inside ± margin.

    Refuted if it lies wholly outside. The published number is itself a mean over few runs whose spread nobody printed;
    it is taken as exact, so the margin has to allow for its error too.
    """

    published: float
    margin: Margin = _TWO_POINTS

    kind: ClassVar[str] = "replication"
    takes: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.published):
            raise StatisticsError(f"published is {self.published!r}: expected the printed number, in {self.unit}")
        if self.margin.value == 0:
            raise StatisticsError("no mean equals a published one to the last digit: give Replication a margin above 0")

    @property
    def unit(self) -> str:
        """Unit of the margin and of the published number."""
        return self.margin.unit

    @property
    def reference(self) -> float:
        """The published number."""
        return self.published

    def rule(self, arms: int) -> Rule:
        """Mean - published inside the open interval of the margin."""
        region = (-self.margin.value, self.margin.value)
        return Rule(weights=((1.0,),), hold=region, refute=region, level=self.level)

    def _difference(self, labels: list[str]) -> str:
        return f"{labels[0]} - published {self.published:.2f}"
