"""The registered looks: how many seeds an arm has when a claim is judged, and at which level."""

LEVELS = {4: 0.999, 8: 0.995, 16: 0.99}
"""Two-sided level of the intervals at each registered number of seeds."""

LAST = max(LEVELS)
"""The last registered look."""

FUTILE_FROM = 8
"""First look at which a claim stops if `LAST` seeds are unlikely to decide it."""


def level_at(seeds: int) -> float:
    """The level at so many seeds per arm: that of the last registered look reached, or the first."""
    return LEVELS[max((look for look in LEVELS if look <= seeds), default=min(LEVELS))]


def over_looks(p: float, seeds: int) -> float:
    """The p-value of the whole sequence of looks, from that of the look at which it ended.

    At p = (1 - level)/2 the look would just decide. Multiplying all three bounds by a common factor
    multiplies the chance of any false decision by at most that factor, so this p is the factor at
    which the look would just decide, times the sum of the three bounds (a repeated p-value).

    Source: Jennison & Turnbull (1989), "Interim analyses: the repeated confidence interval
    approach", JRSS B 51.
    """
    return min(1.0, p * sum(1 - level for level in LEVELS.values()) / (1 - level_at(seeds)))
