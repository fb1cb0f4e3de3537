"""The kinds of hypothesis on means: which contrasts each looks at, and which regions decide."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bnlab.errors import StatisticsError
from bnlab.stats import words
from bnlab.stats.arms import Arms
from bnlab.stats.hypothesis import OnMeans, status_of, summary
from bnlab.stats.margins import Margin, check_margin, points
from bnlab.stats.rule import Rule
from bnlab.stats.sample import Sample
from bnlab.stats.verdict import Status

SIDE_BY_SIDE = (0.5, 1.0, 2.0)
"""Margins in points at which every equivalence is shown, so that the choice of one is visible."""

_ZERO, _HALF_A_POINT, _ONE_POINT, _TWO_POINTS = points(0.0), points(0.5), points(1.0), points(2.0)

_DIFFERENCE = {1: ((1.0,),), 2: ((1.0, -1.0),), 4: ((1.0, -1.0, -1.0, 1.0),)}
"""A mean against 0, the difference of two, or the difference of two differences."""


@dataclass(frozen=True, kw_only=True)
class _WithMargin(OnMeans):
    """Kinds with a margin of their own, 1 point unless given."""

    margin: Margin = _ONE_POINT

    def __post_init__(self) -> None:
        super().__post_init__()
        check_margin(self, "margin", self.margin)

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.margin.unit

    def _within(self) -> tuple[float, float]:
        return -self.margin.value, self.margin.value

    def _above(self) -> tuple[float, float]:
        return -self.margin.value, math.inf


@dataclass(frozen=True, kw_only=True)
class Equivalence(_WithMargin):
    """A and B differ by less than the margin: the interval of A - B lies inside (-margin, +margin).

    Refuted if it lies wholly outside. A single sample is compared with 0; of four, a - b is compared with c - d.
    """

    kind: ClassVar[str] = "equivalence"
    takes: ClassVar[tuple[int, int | None]] = (1, 4)

    def check_count(self, samples: tuple[object, ...]) -> None:
        """One, two or four samples."""
        if len(samples) not in _DIFFERENCE:
            raise StatisticsError(f"Equivalence takes 1, 2 or 4 samples, not {len(samples)}: give one for each arm")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin.value == 0:
            raise StatisticsError(
                f"no two means are equal to the last digit: give {type(self).__name__} a margin above 0"
            )

    def rule(self, arms: int) -> Rule:
        """The difference inside the open interval of the margin."""
        region = self._within()
        return Rule(weights=_DIFFERENCE[arms], hold=region, refute=region, level=self.level)

    def margins(self, rule: Rule, arms: Arms) -> dict[float, Status]:
        """The status at 0.5, 1 and 2 points."""
        if self.unit != "points":
            return {}
        rules = {margin: replace(rule, hold=(-margin, margin), refute=(-margin, margin)) for margin in SIDE_BY_SIDE}
        return {margin: status_of(other.decide(arms)) for margin, other in rules.items()}


@dataclass(frozen=True, kw_only=True)
class NonInferiority(_WithMargin):
    """A is not worse than B by the margin: the interval of A - B lies above -margin.

    Refuted if it lies below. A single sample is compared with 0.
    """

    kind: ClassVar[str] = "non-inferiority"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)

    def rule(self, arms: int) -> Rule:
        """A - B above -margin."""
        return Rule(weights=_DIFFERENCE[arms], hold=self._above(), refute=self._above(), level=self.level)


@dataclass(frozen=True, kw_only=True)
class Replication(_WithMargin):
    """The arm's mean is within the margin of the published one, by the t interval.

    Refuted if it lies wholly outside. The published number is itself a mean over few Runs whose
    spread nobody printed; it is taken as exact, so the margin has to allow for its error too, and a
    refutation says how large that error is for a mean of four Runs with the spread of ours.
    """

    published: float
    margin: Margin = _TWO_POINTS

    kind: ClassVar[str] = "replication"
    needs_all_epochs: ClassVar[bool] = True
    takes: ClassVar[tuple[int, int | None]] = (1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.margin.value == 0:
            raise StatisticsError("no mean equals a published one to the last digit: give Replication a margin above 0")
        fraction = self.unit == "points" and 0 < self.published <= 1
        if not math.isfinite(self.published) or fraction:
            expected = "percent, such as 76.65" if self.unit == "points" else self.unit
            raise StatisticsError(f"published is {self.published!r}: expected the printed number in {expected}")

    def rule(self, arms: int) -> Rule:
        """Mean - published inside the open interval of the margin."""
        region = self._within()
        return Rule(weights=_DIFFERENCE[1], hold=region, refute=region, reference=self.published, level=self.level)

    def difference(self, labels: Sequence[str], weights: Sequence[float]) -> str:
        """Mean - published in words."""
        return f"{labels[0]} - published {self.published:.2f}"

    def caveat(self, status: Status, samples: tuple[Sample, ...]) -> str:
        """The error of the published mean."""
        sd = summary(samples[0]).sd
        error = f"; a published mean of four such Runs has a standard error of {sd / 2:.2f} itself" if sd else ""
        return error if status == "refuted" else ""


@dataclass(frozen=True, kw_only=True)
class Superiority(OnMeans):
    """A is better than B by more than `by`: the interval of A - B lies above `by`.

    Refuted if it lies below. With by = 0 a claim whose true difference is 0 could hardly ever be
    refuted, so there the interval has to lie below `smallest`, the smallest effect of interest
    (used only there, in the unit of `by`). The rule, in order: an interval above 0 is held;
    otherwise one below `smallest` is refuted; otherwise inconclusive. A true difference between 0
    and `smallest` is so small that neither answer counts as false; an interval inside that band is
    held and says so.

    A single sample is compared with 0: the sign of a reading, such as
    `judge(Superiority(by=log_ratio(0.0), smallest=log_ratio(0.1)), arm.measure(narrowing))`.
    """

    by: Margin = _ZERO
    smallest: Margin = _HALF_A_POINT

    kind: ClassVar[str] = "superiority"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_margin(self, "by", self.by)
        check_margin(self, "smallest", self.smallest)
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
        return self._above(_DIFFERENCE[arms])

    @property
    def _by_any(self) -> bool:
        return self.by.value == 0

    def _above(self, weights: tuple[tuple[float, ...], ...]) -> Rule:
        below = self.smallest if self._by_any else self.by
        return Rule(weights=weights, hold=(self.by.value, math.inf), refute=(below.value, math.inf), level=self.level)

    def where(self, rule: Rule, place: Status, high: float) -> str:
        """Where the interval lies; with by = 0, whether that is a negligible effect or none."""
        if not self._by_any:
            return super().where(rule, place, high)
        smallest = words.bound(self.smallest.value)
        if place == "held" and high < self.smallest.value:
            return f"inside (0, {smallest}), so small that it may be held or refuted"
        negligible = f"below {smallest}, at most a negligible effect"
        phrases: dict[Status, str] = {"held": "above 0", "refuted": "below 0" if high <= 0 else negligible}
        return phrases.get(place, f"neither above 0 nor below {smallest}, the smallest effect of interest")


@dataclass(frozen=True, kw_only=True)
class Interaction(Superiority):
    """(a - b) exceeds (c - d) by more than `by`: superiority of a difference of differences.

    The samples come in the order a, b, c, d.
    """

    kind: ClassVar[str] = "interaction"
    takes: ClassVar[tuple[int, int | None]] = (4, 4)

    def rule(self, arms: int) -> Rule:
        """Weights (1, -1, -1, 1)."""
        return self._above(((1.0, -1.0, -1.0, 1.0),))


@dataclass(frozen=True, kw_only=True)
class Ordering(_WithMargin):
    """The first sample is the best of all; with a margin, nobody beats it by that much.

    Held if the interval of first - other lies above -margin for every other, uncorrected; refuted
    if it lies below for some other, at the Bonferroni level over the others.
    """

    margin: Margin = _ZERO

    kind: ClassVar[str] = "ordering"
    takes: ClassVar[tuple[int, int | None]] = (2, None)

    def rule(self, arms: int) -> Rule:
        """First - other above -margin, for every other."""
        weights = tuple((1.0, *(-1.0 if arm == other else 0.0 for arm in range(1, arms))) for other in range(1, arms))
        return Rule(weights=weights, hold=self._above(), refute=self._above(), level=self.level)


@dataclass(frozen=True, kw_only=True)
class Beaten(OnMeans):
    """Some other sample beats the first by more than `by`: the complement of Ordering(margin=by).

    Held where that is refuted and refuted where it is held, with the same estimate and interval of
    first - other.
    """

    by: Margin = _ZERO

    kind: ClassVar[str] = "beaten"
    takes: ClassVar[tuple[int, int | None]] = (2, None)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_margin(self, "by", self.by)

    @property
    def unit(self) -> str:
        """Unit of the margin."""
        return self.by.unit

    def rule(self, arms: int) -> Rule:
        """The rule of Ordering(margin=by), whose answer is turned round."""
        return replace(Ordering(margin=self.by, level=self.level).rule(arms), turned=True)
