"""How many seeds a claim needs before it is likely to be decided."""

from functools import lru_cache

import numpy as np

from bnlab.stats.arms import Arms
from bnlab.stats.interval import Numbers
from bnlab.stats.rule import Tester

POWER = 0.8
"""Chance of a decision that makes a number of seeds enough."""

MOST = 64
"""Seeds beyond which nobody is asked to train."""

_EXPERIMENTS = 2000


def power(tester: Tester, means: Numbers, sds: Numbers, n: int) -> float:
    """Chance that a look at `n` normal seeds per arm, [arms], decides either way.

    The rule itself judges 2,000 simulated experiments, the same for every n, so no formula of a
    kind can disagree with the verdicts. The standard error at 80 % is 0.9 percentage points.
    """
    standard_means, standard_variances = (summaries[n - 2] for summaries in _experiments(len(means)))
    decision = tester.decide(Arms.stable(means + sds * standard_means, sds**2 * standard_variances, n))
    return float((decision.held | decision.refuted).mean())


def seeds_needed(tester: Tester, means: Numbers, sds: Numbers, more_than: int = 1) -> int | None:
    """The fewest seeds above `more_than` that decide with 80 % power; None if 64 are too few."""
    few, many = more_than + 1, MOST
    if few > many or power(tester, means, sds, many) < POWER:
        return None
    while few < many:
        middle = (few + many) // 2
        if power(tester, means, sds, middle) < POWER:
            few = middle + 1
        else:
            many = middle
    return few


def seeds_range(tester: Tester, arms: Arms, step: Numbers) -> tuple[int | None, int | None]:
    """The fewest and the most seeds that decide, for true means a step to either side.

    `step`, [arms], moves the contrast that matters by one standard error. None stands for more than
    64.
    """
    sds = np.sqrt(arms.variances)
    found = [seeds_needed(tester, arms.means + sign * step, sds, arms.look) for sign in (-1, 0, 1)]
    enough = [seeds for seeds in found if seeds is not None]
    return min(enough, default=None), None if None in found else max(enough)


@lru_cache(maxsize=4)
def _experiments(arms: int) -> tuple[Numbers, Numbers]:
    """Means and variances, [n - 2, experiments, arms], of the first n of 64 normal seeds."""
    noise = np.random.default_rng(arms).standard_normal((MOST, _EXPERIMENTS, arms))
    counts = np.arange(1, MOST + 1, dtype=np.float64).reshape(-1, 1, 1)
    means = noise.cumsum(axis=0) / counts
    squares = (noise**2).cumsum(axis=0) - counts * means**2
    return means[1:], squares[1:] / (counts[1:] - 1)
