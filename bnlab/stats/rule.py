"""The one rule by which every kind decides: intervals of contrasts against two regions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnlab.stats.interval import Contrast, Numbers, welch

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a Rule says about summarised arms: `held` and `refuted` are never both true.

    `contrasts` have the shape [..., contrasts], `held` and `refuted` [...].
    """

    contrasts: Contrast
    held: Flags
    refuted: Flags


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Held if every contrast's interval lies inside the open region `hold`, refuted if some lies outside `refute`.

    Holding takes every contrast and needs no correction (intersection–union); refuting takes one of m contrasts, so
    its intervals have level 1 - (1 - level)/m (Bonferroni). `hold` lies within `refute`; where the two differ, a
    contrast between them is wrong neither way, and an interval that satisfies both sides is held.

    A verdict that is false has probability (1 - level)/2 at most: held with some theta outside `hold`, or refuted with
    every theta inside `refute`.
    """

    weights: tuple[tuple[float, ...], ...]
    hold: tuple[float, float]
    refute: tuple[float, float]
    level: float

    @property
    def refuting_level(self) -> float:
        """Level of the intervals that refute."""
        return 1 - (1 - self.level) / len(self.weights)

    def decide(self, means: Numbers, variances: Numbers, n: Sequence[int]) -> Decision:
        """Decide on arms with these `means` and `variances`, [..., arms], of `n` seeds each."""
        contrasts = welch(means, variances, n, self.weights)
        low, high = contrasts.interval(self.level)
        one = len(self.weights) == 1
        wide_low, wide_high = (low, high) if one else contrasts.interval(self.refuting_level)
        held: Flags = np.asarray(((low > self.hold[0]) & (high < self.hold[1])).all(axis=-1))
        outside: Flags = np.asarray(((wide_high < self.refute[0]) | (wide_low > self.refute[1])).any(axis=-1))
        return Decision(contrasts=contrasts, held=held, refuted=outside & ~held)

    def p_values(self, contrasts: Contrast) -> tuple[Numbers, Numbers]:
        """One-sided p-values of both decisions, below (1 - level)/2 exactly where the intervals decide so."""
        refute = np.minimum(contrasts.p_below(self.refute[0]), contrasts.p_above(self.refute[1])).min(axis=-1)
        return self._p_inside(contrasts).max(axis=-1), np.minimum(1.0, len(self.weights) * refute)

    def critical(self, contrasts: Contrast) -> int:
        """Index of the contrast on which an unbatched decision hangs: the one least likely to hold."""
        return int(np.argmax(self._p_inside(contrasts)))

    def _p_inside(self, contrasts: Contrast) -> Numbers:
        p: Numbers = np.maximum(contrasts.p_above(self.hold[0]), contrasts.p_below(self.hold[1]))
        return p
