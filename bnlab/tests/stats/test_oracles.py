"""Intervals, p-values and q-values against scipy, statsmodels and published worked examples."""

import math

import numpy as np
import pytest
from scipy import special, stats

from bnlab.errors import StatisticsError
from bnlab.stats import Equivalence, Interaction, NonInferiority, Ordering, Superiority, family, points
from bnlab.stats.arms import Arms
from bnlab.stats.interval import welch
from bnlab.stats.rule import Rule
from bnlab.tests.stats.samples import drawn, sample

PAIRS = [(seed, n, ratio) for seed in range(3) for n in (2, 4, 16) for ratio in (1.0, 3.0)]

# pingouin's documentation of tost, and its tests, which give R's equivalence::tost for the same data
PINGOUIN = ([4, 7, 8, 6, 3, 2], [6, 8, 7, 10, 11, 9])


@pytest.mark.parametrize(("seed", "n", "ratio"), PAIRS)
@pytest.mark.parametrize("level", [0.90, 0.99])
def test_interval_is_scipys_welch_interval(seed, n, ratio, level):
    a, b = drawn(seed, n, (1.0, 0.0), (ratio, 1.0))

    verdict = Superiority(by=points(3.0), level=level).judge(a, b)

    oracle = stats.ttest_ind(a.values, b.values, equal_var=False)
    interval = oracle.confidence_interval(level)
    assert (verdict.low, verdict.high) == pytest.approx((interval.low, interval.high), abs=1e-10)
    assert verdict.estimate == pytest.approx(np.mean(a.values) - np.mean(b.values), abs=1e-10)
    assert verdict.level == level


def test_interval_is_scipys_welch_interval_when_arms_differ_in_size():
    a, b = np.random.default_rng(0).normal(size=7), np.random.default_rng(1).normal(scale=3, size=4)

    contrast = welch(np.array([a.mean(), b.mean()]), np.array([a.var(ddof=1), b.var(ddof=1)]), [7, 4], [[1, -1]])

    oracle = stats.ttest_ind(a, b, equal_var=False)
    assert contrast.df[0] == pytest.approx(oracle.df, abs=1e-10)
    assert np.ravel(contrast.interval(0.99)) == pytest.approx(list(oracle.confidence_interval(0.99)), abs=1e-10)


@pytest.mark.parametrize(("seed", "n", "ratio"), PAIRS)
def test_equivalence_p_values_are_statsmodels_tost(seed, n, ratio):
    ttost_ind = pytest.importorskip("statsmodels.stats.weightstats", reason="needs bnlab[dev]").ttost_ind
    a, b = drawn(seed, n, (0.5, 0.0), (ratio, 1.0))

    verdict = Equivalence(margin=points(1.0)).judge(a, b)

    p, (lower, *_), (upper, *_) = ttost_ind(np.array(a.values), np.array(b.values), -1.0, 1.0, usevar="unequal")
    assert verdict.p_hold == pytest.approx(p, abs=1e-10)
    df = stats.ttest_ind(a.values, b.values, equal_var=False).df
    assert verdict.p_refute == pytest.approx(min(stats.t.cdf(lower, df), stats.t.sf(upper, df)), abs=1e-10)


@pytest.mark.parametrize(("hypothesis", "threshold"), [(Superiority(by=points(3.0)), 3.0), (NonInferiority(), -1.0)])
@pytest.mark.parametrize(("seed", "n", "ratio"), PAIRS)
def test_one_sided_p_values_are_scipys(hypothesis, threshold, seed, n, ratio):
    a, b = drawn(seed, n, (threshold + 0.5, 0.0), (ratio, 1.0))

    verdict = hypothesis.judge(a, b)

    moved = np.array(a.values) - threshold
    above, below = (
        stats.ttest_ind(moved, b.values, equal_var=False, alternative=side).pvalue for side in ("greater", "less")
    )
    assert verdict.p_hold == pytest.approx(above, abs=1e-10)
    assert verdict.p_refute == pytest.approx(below, abs=1e-10)


def test_pingouins_example_with_welchs_correction():
    a, b = (sample(label, values) for label, values in zip("AB", PINGOUIN, strict=True))

    assert Equivalence(margin=points(1.0)).judge(a, b).p_hold == pytest.approx(0.9643479, abs=5e-8)


def test_pingouins_default_example_differs_from_ours_in_the_degrees_of_freedom_alone():
    # its default pools the variances, which for arms of one size gives the same t, on 10 instead of 9.49 df
    a, b = map(np.array, PINGOUIN)
    contrast = welch(np.array([a.mean(), b.mean()]), np.array([a.var(ddof=1), b.var(ddof=1)]), [6, 6], [[1, -1]])

    t = (contrast.estimate[0] + 1) / contrast.se[0]

    assert special.stdtr(10, -t) == pytest.approx(0.965097, abs=5e-7)
    assert round(float(contrast.df[0]), 2) == 9.49


@pytest.mark.parametrize(
    ("values", "bound", "p"),
    [
        (np.subtract(*PINGOUIN), 0.5, 0.954854),  # the paired example
        (PINGOUIN[0], 4.0, 0.825967),  # the one-sample example
    ],
)
def test_pingouins_examples_with_a_single_arm(values, bound, p):
    rule = Rule(weights=((1.0,),), hold=(-bound, bound), refute=(-bound, bound), level=0.99)

    decision = rule.decide(Arms.stable(np.array([np.mean(values)]), np.array([np.var(values, ddof=1)]), 6))

    assert decision.p_hold == pytest.approx(p, abs=5e-7)


def test_interaction_of_equally_noisy_arms_has_the_textbook_interval():
    # four arms with s² = 1 and n = 3: se² = 4/3 on 8 degrees of freedom; means 5, 2, 1, 0
    arms = [sample(label, [mean - 1, mean, mean + 1]) for label, mean in zip("ABCD", (5, 2, 1, 0), strict=True)]

    verdict = Interaction(by=points(3.0), level=0.99).judge(*arms)

    half = 3.355387 * math.sqrt(4 / 3)  # t(0.995, 8) from a printed table
    assert verdict.estimate == pytest.approx((5 - 2) - (1 - 0))
    assert (verdict.low, verdict.high) == pytest.approx((2 - half, 2 + half), abs=1e-5)


def test_weights_enter_the_degrees_of_freedom():
    # one arm against the mean of two others, s² = 1 and n = 3: v = 1/3, 1/12, 1/12, so se² = 1/2 and
    # df = (1/4) / ((1/9 + 2/144) / 2) = 4
    contrast = welch(np.array([3.0, 2.0, 1.0]), np.ones(3), [3, 3, 3], [[1.0, -0.5, -0.5]])

    assert contrast.estimate[0] == pytest.approx(1.5)
    assert contrast.se[0] == pytest.approx(math.sqrt(0.5))
    assert contrast.df[0] == pytest.approx(4.0)


def test_ordering_takes_the_worst_p_to_hold_and_bonferronis_p_to_refute():
    arms = drawn(5, 4, (0.3, 0.0, 0.4, -0.3), (0.3, 0.5, 0.2, 0.9))

    verdict = Ordering().judge(*arms)

    tests = [
        stats.ttest_ind(arms[0].values, other.values, equal_var=False, alternative="greater") for other in arms[1:]
    ]
    assert verdict.p_hold == pytest.approx(max(test.pvalue for test in tests), abs=1e-10)
    assert verdict.p_refute == pytest.approx(min(1.0, 3 * min(1 - test.pvalue for test in tests)), abs=1e-10)


def test_rho_is_pearsons_correlation_over_seeds():
    a, b = drawn(1, 8, (0.0, 0.0), (1.0, 1.0))
    shuffled = [7, 3, 1, 0, 2, 6, 5, 4]
    b_shuffled = sample("B", [b.values[i] for i in shuffled], seeds=tuple(shuffled))

    expected = pytest.approx(stats.pearsonr(a.values, b.values).statistic, abs=1e-10)
    assert Superiority().judge(a, b).rho == expected
    assert Superiority().judge(a, b_shuffled).rho == expected


@pytest.mark.parametrize("claims", [1, 2, 60])
def test_q_values_are_scipys_over_the_whole_registry(claims):
    p = np.random.default_rng(claims).uniform(size=claims) ** 3
    registry = claims + 5

    q = family({f"claim {i}": float(value) for i, value in enumerate(p)}, registry)

    oracle = stats.false_discovery_control(np.concatenate([p, np.ones(registry - claims)]))
    assert list(q.values()) == pytest.approx([oracle[int(name.split()[1])] for name in q], abs=1e-12)
    assert all(type(value) is float for value in q.values())


def test_no_claims_have_no_q_values():
    assert family({}, 60) == {}


@pytest.mark.parametrize(
    ("p_values", "registry", "words"),
    [
        ({"a": 0.1, "b": 0.2}, 1, "2 contrasts were judged out of a registry of 1: count every registered one"),
        ({"a": math.nan}, 1, "the p-value of a is nan: expected a number from 0 to 1"),
    ],
)
def test_a_family_that_cannot_be_is_an_error(p_values, registry, words):
    with pytest.raises(StatisticsError) as error:
        family(p_values, registry)
    assert str(error.value) == words
