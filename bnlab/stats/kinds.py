"""The kinds of hypothesis: which contrasts of means each looks at, and which regions decide."""

import math
import reprlib
from dataclasses import dataclass, replace
from typing import ClassVar

from bnlab.errors import StatisticsError
from bnlab.stats.hypothesis import Hypothesis, bound, status_of, summarise
from bnlab.stats.margins import Margin, points
from bnlab.stats.rule import Rule
from bnlab.stats.sample import Sample
from bnlab.stats.verdict import Status, Verdict

SIDE_BY_SIDE = (0.5, 1.0, 2.0)
"""Margins in points at which every equivalence is shown, so that the choice of one is visible."""

_ZERO, _HALF_A_POINT, _ONE_POINT = points(0.0), points(0.5), points(1.0)
_DIFFERENCE = ((1.0, -1.0),)


@dataclass(frozen=True, kw_only=True)
class Equivalence(Hypothesis):
    """A and B differ by less than the margin: the interval of A - B lies inside (-margin, +margin).

    Refuted if it lies wholly outside.
    """

    margin: Margin = _ONE_POINT

    kind: ClassVar[str] = "equivalence"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin.value == 0:
            raise StatisticsError("no two arms are equal to the last digit: give Equivalence a margin above 0")

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.margin.unit

    def rule(self, arms: int) -> Rule:
        """A - B inside the open interval of the margin."""
        region = (-self.margin.value, self.margin.value)
        return Rule(weights=_DIFFERENCE, hold=region, refute=region, level=self.level)

    def _margins(self, samples: tuple[Sample, ...]) -> dict[float, Status]:
        if self.unit != "points":
            return {}
        summary = summarise(samples)
        rules = {margin: replace(self, margin=points(margin)).rule(2) for margin in SIDE_BY_SIDE}
        return {margin: status_of(rule.decide(*summary)) for margin, rule in rules.items()}


@dataclass(frozen=True, kw_only=True)
class Superiority(Hypothesis):
    """A is better than B by more than `by`: the interval of A - B lies above `by`; refuted if it lies below.

    With by = 0 a claim whose true difference is 0 could hardly ever be refuted, so there the interval has to lie below
    `smallest`, the smallest effect of interest (used only there, in the unit of `by`). The rule, in order: an interval
    above 0 is held; otherwise one below `smallest` is refuted; otherwise inconclusive. A true difference between 0 and
    `smallest` is so small that neither answer counts as false; an interval inside that band is held and says so.
    """

    by: Margin = _ZERO
    smallest: Margin = _HALF_A_POINT

    kind: ClassVar[str] = "superiority"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._by_any and (self.smallest.unit != self.by.unit or self.smallest.value == 0):
            raise StatisticsError(
                f"{type(self).__name__} by {self.by} was given {self.smallest} as the smallest effect of interest: "
                f"give smallest=, a margin above 0 in {self.by.unit}"
            )

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.by.unit

    def rule(self, arms: int) -> Rule:
        """A - B above `by`; refuted below `by`, or below `smallest` if by is 0."""
        return self._above(_DIFFERENCE)

    @property
    def _by_any(self) -> bool:
        return self.by.value == 0

    def _above(self, weights: tuple[tuple[float, ...], ...]) -> Rule:
        below = self.smallest if self._by_any else self.by
        return Rule(weights=weights, hold=(self.by.value, math.inf), refute=(below.value, math.inf), level=self.level)

    def _where(self, rule: Rule, place: Status, high: float) -> str:
        if not self._by_any:
            return super()._where(rule, place, high)
        smallest = bound(self.smallest.value)
        if place == "held" and high < self.smallest.value:
            return f"inside (0, {smallest}), so small that it may be held or refuted"
        words: dict[Status, str] = {"held": "above 0", "refuted": f"below {smallest}, the smallest effect of interest"}
        return words.get(place, f"neither above 0 nor below {smallest}")


@dataclass(frozen=True, kw_only=True)
class Interaction(Superiority):
    """The difference of a and b exceeds that of c and d by more than `by`: (a - b) - (c - d) as superiority.

    The samples come in the order a, b, c, d.
    """

    kind: ClassVar[str] = "interaction"
    takes: ClassVar[int | None] = 4

    def rule(self, arms: int) -> Rule:
        """Weights (1, -1, -1, 1)."""
        return self._above(((1.0, -1.0, -1.0, 1.0),))


@dataclass(frozen=True, kw_only=True)
class NonInferiority(Hypothesis):
    """A is not worse than B by the margin: the interval of A - B lies above -margin; refuted if it lies below."""

    margin: Margin = _ONE_POINT

    kind: ClassVar[str] = "non-inferiority"

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.margin.unit

    def rule(self, arms: int) -> Rule:
        """A - B above -margin."""
        return _above_minus(self.margin, _DIFFERENCE, self.level)


@dataclass(frozen=True, kw_only=True)
class Ordering(Hypothesis):
    """The first sample is the best of all; with a margin, nobody beats it by that much.

    Held if the interval of first - other lies above -margin for every other, uncorrected; refuted if it lies below for
    some other, at the Bonferroni level over the others.
    """

    margin: Margin = _ZERO

    kind: ClassVar[str] = "ordering"
    takes: ClassVar[int | None] = None

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.margin.unit

    def rule(self, arms: int) -> Rule:
        """First - other above -margin, for every other."""
        return _above_minus(self.margin, _first_minus_each(arms), self.level)


@dataclass(frozen=True, kw_only=True)
class Beaten(Hypothesis):
    """Some other sample beats the first by more than `by`: the complement of Ordering(margin=by).

    Held where that is refuted and refuted where it is held, with the same estimate and interval of first - other.
    """

    by: Margin = _ZERO

    kind: ClassVar[str] = "beaten"
    takes: ClassVar[int | None] = None
    turned: ClassVar[bool] = True

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.by.unit

    def rule(self, arms: int) -> Rule:
        """The rule of Ordering(margin=by), whose answer is turned round."""
        return Ordering(margin=self.by, level=self.level).rule(arms)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What was got equals what the claim states: counts and exact identities, which no training decides."""

    kind: ClassVar[str] = "identity"

    def judge(self, got: object, expected: object) -> Verdict:
        """Held if `got == expected`, else refuted; both plain values."""
        equal = got == expected
        if not isinstance(equal, bool):
            raise StatisticsError(
                f"comparing {type(got).__name__} with {type(expected).__name__} gave no yes or no: give plain values"
            )
        stated = "exactly as stated" if equal else f"where {reprlib.repr(expected)} is stated"
        status: Status = "held" if equal else "refuted"
        return Verdict(kind=self.kind, status=status, reason=f"{reprlib.repr(got)}, {stated}: {status}.")


def _above_minus(margin: Margin, weights: tuple[tuple[float, ...], ...], level: float) -> Rule:
    region = (-margin.value, math.inf)
    return Rule(weights=weights, hold=region, refute=region, level=level)


def _first_minus_each(arms: int) -> tuple[tuple[float, ...], ...]:
    return tuple((1.0, *(-1.0 if arm == other else 0.0 for arm in range(1, arms))) for other in range(1, arms))
