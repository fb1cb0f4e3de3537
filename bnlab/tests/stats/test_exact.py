"""Stability and Separation against scipy's exact tests, and by counting."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from bnlab.errors import StatisticsError
from bnlab.stats import Separation, Stability, points
from bnlab.tests.stats.samples import sample


def arm(label, n, failures):
    """n Runs near 60 %, the first `failures` of them at 20 %."""
    values = [20.0 + 0.1 * i if i < failures else 60.0 + 0.1 * i for i in range(n)]
    return sample(label, values, accuracies=tuple(values))


def at_chance(label, n, failures):
    values = [10.0 if i < failures else 60.0 + 0.1 * i for i in range(n)]
    return sample(label, values, accuracies=tuple(values))


@pytest.mark.parametrize("n", [8, 16])
@pytest.mark.parametrize("failures", [0, 1, 4, 7])
def test_the_share_of_failures_has_clopper_and_pearsons_interval(n, failures):
    verdict = Stability(fails_below=0.5).judge(at_chance("A", n, failures))

    interval = stats.binomtest(failures, n).proportion_ci(verdict.level, method="exact")
    assert (verdict.low, verdict.high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-8)
    assert verdict.estimate == 100 * failures / n
    less, more = (stats.binomtest(failures, n, 0.5, alternative=side).pvalue for side in ("less", "greater"))
    assert (verdict.p_hold, verdict.p_refute) == pytest.approx((less, more), abs=1e-12)
    assert verdict.held == (verdict.high < 50)


@pytest.mark.parametrize(
    ("hypothesis", "failures", "status"),
    [
        (Stability(fails_below=0.5), 0, "held"),
        (Stability(fails_below=0.5), 2, "held"),
        (Stability(fails_below=0.5), 3, "inconclusive"),
        (Stability(fails_below=0.5), 16, "refuted"),
        (Stability(fails_above=0.5), 16, "held"),
        (Stability(fails_above=0.5), 13, "inconclusive"),
        (Stability(fails_above=0.5), 0, "refuted"),
    ],
)
def test_an_arm_trains_or_fails_as_its_share_of_collapsed_runs_says(hypothesis, failures, status):
    verdict = hypothesis.judge(at_chance("A", 16, failures))

    assert verdict.status == status
    assert len(verdict.unstable) == failures
    assert verdict.reason.startswith(f"{failures} of 16 runs of A collapsed, 99 % interval [")


@pytest.mark.parametrize(("first", "second"), list(itertools.product((0, 2, 5), (0, 5, 8))))
def test_two_arms_are_compared_by_fishers_exact_test(first, second):
    verdict = Stability().judge(at_chance("A", 16, first), at_chance("B", 16, second))

    table = [[first, 16 - first], [second, 16 - second]]
    assert verdict.p_hold == pytest.approx(stats.fisher_exact(table, alternative="less").pvalue, abs=1e-12)
    assert verdict.held == (verdict.p_hold < 0.005)
    assert verdict.p_refute == pytest.approx(stats.binom.cdf(second, 16, 0.3), abs=1e-12)


def test_an_arm_that_never_collapses_leaves_no_arm_to_be_stabler():
    verdict = Stability().judge(at_chance("A", 16, 0), at_chance("B", 16, 0))

    assert verdict.refuted
    assert verdict.reason == (
        "0 of 16 runs of A collapsed and 0 of 16 runs of B collapsed (of the second, fewer than 30 % with exact p = "
        "0.0033): refuted (n = 16 + 16)."
    )


def test_every_way_of_failing_counts():
    values = (60.1, math.nan, 10.0, 60.3, 60.2, 30.0, 60.4, 60.0)
    failing = sample("A", values, diverged=tuple(math.isnan(v) for v in values), accuracies=values)

    verdict = Stability(fails_below=0.5).judge(failing)

    assert verdict.estimate == 100 * 3 / 8
    assert [phrase.partition(": ")[0] for phrase in verdict.unstable] == ["A, seed 1", "A, seed 2", "A, seed 5"]
    json.dumps(verdict.to_json(), allow_nan=False)


def test_four_runs_separate_in_one_of_seventy_orders():
    # of all ways to deal 8 ranks to two arms of 4, one puts the first arm's wholly above
    deals = list(itertools.combinations(range(8), 4))
    separated = sum(min(deal) > max(set(range(8)) - set(deal)) for deal in deals)

    verdict = Separation().judge(sample("A", (5, 6, 7, 8)), sample("B", (1, 2, 3, 4)))

    assert verdict.p_hold == separated / len(deals) == 1 / 70
    assert verdict.p_hold == pytest.approx(
        stats.mannwhitneyu((5, 6, 7, 8), (1, 2, 3, 4), alternative="greater", method="exact").pvalue
    )
    assert verdict.inconclusive
    assert verdict.stops is None


@pytest.mark.parametrize(
    ("by", "status", "words"),
    [
        (0.0, "held", "worst of A - best of B = +4.00 points, above 0 (exact p = 1/12,870): held (n = 8 + 8)."),
        (3.0, "held", "worst of A - best of B = +4.00 points, above +3 (exact p = 1/12,870): held (n = 8 + 8)."),
        (
            5.0,
            "inconclusive",
            "worst of A - best of B = +4.00 points, not above +5 (the two overlap): inconclusive (n = 8 + 8); no "
            "more seeds are trained.",
        ),
        (
            40.0,
            "refuted",
            "best of A - worst of B = +18.00 points, below +40 (exact p = 1/12,870): refuted (n = 8 + 8).",
        ),
    ],
)
def test_separation_compares_the_worst_of_one_arm_with_the_best_of_the_other(by, status, words):
    a, b = sample("A", range(70, 78)), sample("B", (59, 60, 61, 62, 63, 64, 65, 66))

    verdict = Separation(by=points(by)).judge(a, b)

    assert (verdict.status, verdict.reason) == (status, words)


def test_separation_sees_an_arm_that_collapsed_and_one_that_diverged():
    good = sample("A", [74.0 + 0.1 * i for i in range(8)])
    values = (57.0, 56.5, 56.0, 48.0, 20.0, 10.0, math.nan, 55.0)
    bad = sample("B", values, diverged=tuple(math.isnan(v) for v in values), accuracies=values)

    there, back = Separation(by=points(3.0)).judge(good, bad), Separation(by=points(3.0)).judge(bad, good)

    assert there.held
    assert there.estimate == 17.0
    assert back.refuted
    json.dumps(back.to_json(), allow_nan=False)


@pytest.mark.slow
def test_separation_is_false_no_more_often_than_its_p_says():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200_000, 2, 4))

    separated = values[:, 0].min(axis=1) > values[:, 1].max(axis=1)

    assert separated.mean() == pytest.approx(1 / 70, abs=3 * math.sqrt(1 / 70 / 200_000))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Stability(fails_below=50.0),
            "Stability(fails_below=50.0): expected a share of the Runs between 0 and 1",
        ),
        (
            lambda: Stability().judge(arm("A", 8, 0)),
            "Stability with 1 sample and 0 shares: give fails_below or fails_above for one sample, neither for two",
        ),
        (
            lambda: Stability(fails_above=0.5).judge(arm("A", 8, 0), arm("B", 8, 0)),
            "Stability with 2 samples and 1 shares: give fails_below or fails_above for one sample, neither for two",
        ),
        (lambda: Separation().judge(arm("A", 8, 0)), "Separation takes 2 samples, not 1: give one for each arm"),
        (lambda: Separation(by=3.0), "Separation(by=3.0): expected a margin with its unit, such as points(3.0)"),
    ],
)
def test_what_an_exact_kind_cannot_judge_is_an_error_in_words(make, words):
    with pytest.raises(StatisticsError) as error:
        make()
    assert str(error.value) == words
