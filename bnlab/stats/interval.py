"""The Welch–Satterthwaite interval for a contrast of arm means."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Weighted sums of arm means, with their standard errors and degrees of freedom.

    All three have the shape [..., contrasts].
    """

    estimate: Numbers
    se: Numbers
    df: Numbers

    def interval(self, level: float) -> tuple[Numbers, Numbers]:
        """The two-sided interval estimate ± t(level, df)·se."""
        half = self.quantile((1 - level) / 2) * self.se
        return self.estimate - half, self.estimate + half

    def quantile(self, tail: float) -> Numbers:
        """Student's t that is exceeded with probability `tail`."""
        t: Numbers = -special.stdtrit(self.df, tail)
        return t

    def p_above(self, threshold: float) -> Numbers:
        """One-sided p-value of "theta is above the threshold"."""
        p: Numbers = special.stdtr(self.df, (threshold - self.estimate) / self.se)
        return p

    def p_below(self, threshold: float) -> Numbers:
        """One-sided p-value of "theta is below the threshold"."""
        p: Numbers = special.stdtr(self.df, (self.estimate - threshold) / self.se)
        return p


def welch(means: Numbers, variances: Numbers, n: npt.ArrayLike, weights: Sequence[Sequence[float]]) -> Contrast:
    """Contrasts of independent arms whose variances may differ.

    `means`, `variances` (n - 1 in the denominator) and the Runs `n` behind them have the shape
    [..., arms] (`n` also [arms]), `weights` has the shape [contrasts, arms]. With v = w²s²/n per
    arm: se² = Σv, df = (Σv)² / Σ(v²/(n−1)).

    Source: Welch (1947), "The generalization of Student's problem when several different population
    variances are involved", Biometrika 34.
    """
    w = np.asarray(weights, dtype=np.float64)
    counts = np.asarray(n, dtype=np.float64)
    estimate: Numbers = means @ w.T
    v_total: Numbers = (variances / counts) @ (w**2).T
    v_squares: Numbers = ((variances / counts) ** 2 / (counts - 1)) @ (w**4).T
    return Contrast(estimate=estimate, se=np.sqrt(v_total), df=v_total**2 / v_squares)
