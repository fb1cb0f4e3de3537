"""The one rule by which every kind on means decides: intervals of contrasts against two regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bnlab.stats.arms import Arms
from bnlab.stats.interval import Contrast, Flags, Numbers, welch
from bnlab.stats.looks import FUTILE_FROM, LAST, level_at


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The one-sided p-values of both answers at one look, [...], and the level of the look.

    Held and refuted are never both true.
    """

    p_hold: Numbers
    p_refute: Numbers
    level: float

    @property
    def held(self) -> Flags:
        """Whether the claim is held."""
        return np.asarray(self.p_hold < (1 - self.level) / 2)

    @property
    def refuted(self) -> Flags:
        """Whether the claim is refuted; where both bounds are passed it is held."""
        return np.asarray(self.p_refute < (1 - self.level) / 2) & ~self.held


class Tester(Protocol):
    """Anything that decides on arms, one experiment or many at once."""

    def decide(self, arms: Arms) -> Decision:
        """The decision at this look."""
        ...

    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Whether the last look could still hold the claim, and whether it could refute it."""
        ...

    def contrasts_of(self, labels: Sequence[str]) -> frozenset[str]:
        """What is compared, of arms with these labels."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Held if every interval lies inside the open region `hold`, refuted if one is outside `refute`.

    Holding takes every contrast and needs no correction (intersection–union); refuting takes one of
    m contrasts, so its intervals have level 1 - (1 - level)/m (Bonferroni). `hold` lies within
    `refute`; where the two differ, a contrast between them is wrong neither way, and an interval
    that satisfies both sides is held. A rule that is `turned` is held where this refutes and
    refuted where this holds. `reference` is taken off every contrast; `level` is the registered one
    of the look unless given.

    A verdict that is false has probability (1 - level)/2 at most: held with some theta outside
    `hold`, or refuted with every theta inside `refute`.

    Collapsed Runs are left out, and an end of a region counts only where that works against the
    answer.
    """

    weights: tuple[tuple[float, ...], ...]
    hold: tuple[float, float]
    refute: tuple[float, float]
    turned: bool = False
    reference: float = 0.0
    level: float | None = None

    def level_at(self, look: int) -> float:
        """The level at this look."""
        return self.level or level_at(look)

    def refuting(self, level: float) -> float:
        """Level of the intervals that refute."""
        return 1 - (1 - level) / len(self.weights)

    def contrasts(self, arms: Arms, seeds: int | None = None) -> Contrast:
        """The contrasts of the arms, or of as many `seeds` with the means and variances of now."""
        counts = arms.counts if seeds is None else arms.counts * (seeds / arms.look)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = welch(arms.means, arms.variances, counts, self.weights)
        return Contrast(estimate=found.estimate - self.reference, se=found.se, df=found.df)

    def decide(self, arms: Arms) -> Decision:
        """Decide on these arms."""
        now = self.contrasts(arms)
        lowered, raised = arms.against(np.asarray(self.weights))

        def p(threshold: float, above: bool) -> Numbers:
            side = now.p_above(threshold) if above else now.p_below(threshold)
            return np.where((lowered if above else raised) & np.isfinite(now.se), side, 1.0)

        p_hold = np.max([p(*end) for end in self._inward], axis=0).max(axis=-1)
        p_refute = np.min([p(*end) for end in self._outward], axis=0).min(axis=-1)
        answers = p_hold, np.minimum(1.0, len(self.weights) * p_refute)
        p_hold, p_refute = answers[::-1] if self.turned else answers
        return Decision(p_hold=p_hold, p_refute=p_refute, level=self.level_at(arms.look))

    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Whether the last look could hold the claim, and whether it could refute it.

        Its intervals, with the variances of now, have to reach far enough after every estimate has
        moved by one standard error of now. Before `FUTILE_FROM` seeds that is asked of contrasts
        with collapsed Runs alone.
        """
        last = max(LAST, arms.look)
        now, then, level = self.contrasts(arms), self.contrasts(arms, last), self.level_at(last)
        lowered, raised = arms.against(np.asarray(self.weights))
        early = lowered & raised & (arms.look < FUTILE_FROM)

        def near(threshold: float, above: bool, level: float) -> Flags:
            distance = now.estimate - threshold if above else threshold - now.estimate
            needed = then.quantile((1 - level) / 2) * then.se - now.se
            return (lowered if above else raised) & (early | (distance > needed))

        can_hold = np.all([near(*end, level) for end in self._inward], axis=0).all(axis=-1)
        can_refute = np.any([near(*end, self.refuting(level)) for end in self._outward], axis=0).any(axis=-1)
        return (can_refute, can_hold) if self.turned else (can_hold, can_refute)

    def contrasts_of(self, labels: Sequence[str]) -> frozenset[str]:
        """Weights and thresholds of each contrast, with a positive weight for the first label."""
        found = set()
        for row in self.weights:
            weighed = sorted((label, weight) for label, weight in zip(labels, row, strict=True) if weight)
            sign = math.copysign(1.0, weighed[0][1]) if weighed else 1.0
            ends = {end + self.reference for end in (*self.hold, *self.refute) if math.isfinite(end)}
            found.add(repr(([(label, sign * weight) for label, weight in weighed], sorted(sign * end for end in ends))))
        return frozenset(found)

    def step(self, arms: Arms) -> Numbers:
        """The smallest move of the means, [arms], that raises the deciding contrast by one se."""
        now = self.contrasts(arms)
        critical = self.critical(now)
        weights = np.asarray(self.weights[critical])
        move: Numbers = now.se[critical] * weights / (weights @ weights)
        return move

    @property
    def _inward(self) -> list[tuple[float, bool]]:
        """The thresholds that every contrast has to lie above (True) or below (False) to hold."""
        ends = zip(self.hold, (True, False), strict=True)
        return [(threshold, above) for threshold, above in ends if math.isfinite(threshold)]

    @property
    def _outward(self) -> list[tuple[float, bool]]:
        """The thresholds that one contrast has to lie above (True) or below (False) to refute."""
        ends = zip(self.refute, (False, True), strict=True)
        return [(threshold, above) for threshold, above in ends if math.isfinite(threshold)]

    def critical(self, contrasts: Contrast) -> int:
        """Index of the deciding contrast: its estimate has the fewest se to the edge."""
        (low, high), theta = self.hold, contrasts.estimate
        return int(np.argmin(np.minimum(theta - low, high - theta) / contrasts.se))
