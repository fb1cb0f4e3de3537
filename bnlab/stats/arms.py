"""Arms: samples as arrays, one experiment or many at once, with their collapsed Runs told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnlab.stats.interval import Flags, Numbers
from bnlab.stats.sample import Sample
from bnlab.stats.stability import collapsed

WORST = {"points": -np.inf, "nats": np.inf}
"""What a value that is not finite stands for, by unit; in any other unit nobody can say."""

LEAST_STABLE = 0.5
"""Share of an arm's Runs that has to remain without the collapsed ones: with 2 or 3 of 8 Runs,
Welch's interval against 8 is false 2 to 4 times as often as its level says, with half of them 1.2
times."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Arms of equally many seeds, `look`, summarised over the Runs that have not collapsed.

    `means`, `variances` (n - 1), the Runs behind them `counts`, and `shift` have the shape [...,
    arms]. `shift` is what leaving out its collapsed Runs adds to an arm's mean: 0 without any,
    infinite or NaN where a value is not finite, and NaN where less than half of the Runs remain.
    `values` and `collapsed` are the Runs themselves, [..., arms, look], which only exact kinds ask
    for.
    """

    look: int
    means: Numbers
    variances: Numbers
    counts: Numbers
    shift: Numbers
    values: Numbers
    collapsed: Flags

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Arms":
        """The arms of one experiment: samples of equally many seeds."""
        values = np.array([sample.values for sample in samples], dtype=np.float64)
        worst = np.array([[WORST.get(sample.unit, np.nan)] for sample in samples])
        accuracies = np.array([sample.accuracies for sample in samples], dtype=np.float64)
        diverged = np.array([sample.diverged for sample in samples], dtype=np.bool_)
        return cls.summarised(np.where(np.isfinite(values), values, worst), collapsed(accuracies, diverged))

    @classmethod
    def summarised(cls, values: Numbers, collapsed: Flags) -> "Arms":
        """The arms with these values and collapsed Runs, both [..., arms, look]."""
        stable = ~collapsed
        counts = stable.sum(axis=-1).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(stable, values, 0.0).sum(axis=-1) / counts
            squares = np.where(stable, (values - means[..., None]) ** 2, 0.0).sum(axis=-1)
            variances = squares / np.where(counts > 1, counts - 1, np.nan)
            shift = np.where(collapsed.any(axis=-1), means - values.mean(axis=-1), 0.0)
            shift[counts < LEAST_STABLE * values.shape[-1]] = np.nan
        return cls(
            look=values.shape[-1],
            means=means,
            variances=variances,
            counts=counts,
            shift=shift,
            values=values,
            collapsed=collapsed,
        )

    @classmethod
    def stable(cls, means: Numbers, variances: Numbers, look: int) -> "Arms":
        """Arms of which nothing has collapsed and only means and variances are known."""
        nothing = np.empty((*means.shape, 0))
        return cls(
            look=look,
            means=means,
            variances=variances,
            counts=np.full(means.shape[-1], float(look)),
            shift=np.zeros(means.shape[-1]),
            values=nothing,
            collapsed=nothing.astype(np.bool_),
        )

    def take(self, arms: Sequence[int]) -> "Arms":
        """Some of the arms, in this order."""
        index = list(arms)
        return Arms(
            look=self.look,
            means=self.means[..., index],
            variances=self.variances[..., index],
            counts=self.counts[..., index],
            shift=self.shift[..., index],
            values=self.values[..., index, :],
            collapsed=self.collapsed[..., index, :],
        )

    def against(self, weights: Numbers) -> tuple[Flags, Flags]:
        """Whether leaving out collapsed Runs lowers a contrast, and raises it, [..., contrasts].

        A contrast without collapsed Runs counts as both. Where it was lowered and still lies above
        a threshold, the contrast of all Runs lies above it all the more.
        """
        if not self.shift.any():
            free = np.ones((*self.means.shape[:-1], len(weights)), dtype=np.bool_)
            return free, free
        with np.errstate(invalid="ignore"):
            pull = np.where(weights == 0, 0.0, weights * self.shift[..., None, :])
        return np.asarray((pull <= 0).all(axis=-1)), np.asarray((pull >= 0).all(axis=-1))
