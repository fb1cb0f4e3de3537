"""Registered looks: levels, p-values over all looks, what stops early and what is not registered."""

import numpy as np
import pytest
from scipy import stats

from bnlab.errors import StatisticsError
from bnlab.stats import Equivalence, Ordering, Superiority, Verdict, points
from bnlab.stats.arms import Arms
from bnlab.stats.looks import LEVELS, level_at, over_looks
from bnlab.tests.stats.samples import drawn, sample


@pytest.mark.parametrize(
    ("seeds", "level"),
    [(2, 0.999), (4, 0.999), (7, 0.999), (8, 0.995), (15, 0.995), (16, 0.99), (64, 0.99)],
)
def test_the_level_follows_from_the_number_of_seeds(seeds, level):
    a, b = drawn(0, seeds, (9.0, 0.0), (0.3, 0.3))

    assert level_at(seeds) == level
    assert Superiority().judge(a, b).level == level


@pytest.mark.parametrize(("seeds", "half"), [(4, 5.9588), (8, 3.3257), (16, 2.7500)])
def test_intervals_have_students_quantiles_of_their_look(seeds, half):
    # t(0.9995, 6), t(0.9975, 14), t(0.995, 30) from printed tables; both arms have the same sd
    values = np.resize([79.0, 81.0], seeds)
    a, b = sample("A", values + 5), sample("B", values)
    se = np.sqrt(2 * np.var(values, ddof=1) / seeds)

    verdict = Superiority().judge(a, b)

    assert (verdict.high - verdict.low) / 2 == pytest.approx(half * se, rel=1e-4)


def test_four_seeds_that_decide_at_99_percent_need_not_decide_at_their_own_level():
    a, b = sample("A", (80.9, 80.9, 81.1, 81.1)), sample("B", (79.9, 79.9, 80.1, 80.1))

    assert Superiority(by=points(0.6), level=0.99).judge(a, b).held
    assert Superiority(by=points(0.6)).judge(a, b).inconclusive


def test_p_over_looks_is_a_chance_of_any_false_verdict():
    # one claim on its edge, judged at every look until it is decided, with bounds scaled to the p that is reported
    rng = np.random.default_rng(0)
    experiments = 200_000
    t = rng.normal(size=(experiments, 16)).cumsum(axis=1)
    smallest = np.ones(experiments)
    for look in LEVELS:
        p = stats.norm.sf(t[:, look - 1] / np.sqrt(look))
        smallest = np.minimum(smallest, p * over_looks(1e-6, look) / 1e-6)
    for bound in (0.001, 0.008, 0.05):
        share = (smallest < bound).mean()
        assert bound / 3 < share <= bound + 3 * np.sqrt(bound / experiments)


@pytest.mark.parametrize(("seeds", "times"), [(4, 16.0), (8, 3.2), (16, 1.6)])
def test_p_of_a_verdict_counts_the_looks(seeds, times):
    verdict = Superiority().judge(*drawn(0, seeds, (0.2, 0.0), (0.3, 0.3)))

    assert verdict.p == pytest.approx(min(1.0, times * min(verdict.p_hold, verdict.p_refute)))


@pytest.mark.parametrize(
    ("seeds", "registered"), [(2, False), (4, True), (8, True), (12, False), (16, True), (32, False)]
)
def test_a_verdict_at_other_seeds_than_the_registered_ones_is_marked(seeds, registered):
    verdict = Superiority().judge(*drawn(0, seeds, (9.0, 0.0), (0.3, 0.3)))

    assert verdict.registered == registered
    assert ("not a registered look" in verdict.reason) != registered


def test_a_verdict_without_seeds_is_registered():
    assert Verdict(kind="definition", status="held", reason="").registered


# sd 1 and 8 seeds: at 16 the interval is 2.75 * 0.354 = 0.97 wide to either side, a standard error now is 0.5; to be
# inside ±1 the estimate may be at most 0.53 away, outside at least 1.47
@pytest.mark.parametrize(
    ("difference", "stops"),
    [(0.0, None), (0.45, None), (0.6, "futile"), (1.4, "futile"), (1.6, None), (-1.0, "futile")],
)
def test_a_claim_that_the_last_look_is_unlikely_to_decide_stops_at_eight_seeds(difference, stops):
    values = np.resize([-1.0, 1.0], 8) * np.sqrt(7 / 8)
    a, b = sample("A", 80 + difference + values), sample("B", 80 + values)

    verdict = Equivalence().judge(a, b)

    assert verdict.inconclusive
    assert verdict.stops == stops
    assert verdict.reason.endswith("; no more seeds are trained.") == (stops is not None)


def test_nothing_is_futile_at_four_seeds_or_at_the_last_look():
    for seeds in (4, 16):
        values = np.resize([-1.0, 1.0], seeds)
        verdict = Equivalence().judge(sample("A", 81 + values), sample("B", 80 + values))
        assert verdict.inconclusive
        assert verdict.stops is None


def test_a_decided_claim_does_not_stop():
    assert Superiority().judge(*drawn(0, 8, (9.0, 0.0), (0.3, 0.3))).stops is None


@pytest.mark.slow
def test_what_stops_as_futile_would_seldom_have_been_decided():
    rng = np.random.default_rng(0)
    rule, ordering = Equivalence().rule(2), Ordering().rule(3)
    for tester, means, most in (
        (rule, (0.5, 0.0, 0.0), 0.08),
        (rule, (1.0, 0.0, 0.0), 0.08),
        (ordering, (0.4, 0.0, 0.0), 0.08),
    ):
        values = rng.normal(size=(20_000, 3, 16)) * 0.9 + np.array(means)[:, None]
        values = values[:, : 2 if tester is rule else 3]
        at8, at16 = (
            Arms.stable(values[..., :n].mean(axis=-1), values[..., :n].var(axis=-1, ddof=1), n) for n in (8, 16)
        )
        first, last = tester.decide(at8), tester.decide(at16)
        open_at_8 = ~first.held & ~first.refuted
        hold, refute = tester.hopeful(at8)
        stopped = open_at_8 & ~hold & ~refute
        assert stopped.mean() > 0.1
        assert (last.held | last.refuted)[stopped].mean() < most


@pytest.mark.parametrize("level", ["0.99", 1, 0.5, 1 - 1e-16, float("nan"), True])
def test_a_level_that_is_none_is_an_error_in_words(level):
    with pytest.raises(StatisticsError, match=r"expected a number from 0\.5 to 0\.99999, such as 0\.99, or None"):
        Superiority(level=level)
