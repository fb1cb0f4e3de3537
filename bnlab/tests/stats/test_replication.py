"""Replication against scipy's one-sample t test."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bnlab.errors import StatisticsError
from bnlab.stats import Replication, Sample, nats, points
from bnlab.stats.arms import Arms

FOUR = (76.1, 76.9, 76.4, 77.0)


def sample(*values: float) -> Sample:
    return Sample(
        label="BatchNorm",
        unit="points",
        values=values,
        seeds=tuple(range(len(values))),
        digests=tuple(f"{i:064d}" for i in range(len(values))),
        diverged=(False,) * len(values),
        accuracies=values,
    )


@pytest.mark.parametrize("level", [0.90, 0.99])
@pytest.mark.parametrize("n", [2, 4, 16])
def test_interval_is_the_one_sample_t_interval(n, level):
    values = tuple(np.random.default_rng(n).normal(76.0, 0.5, n))

    verdict = Replication(published=76.65, level=level).judge(sample(*values))

    oracle = stats.ttest_1samp(values, 76.65).confidence_interval(level)
    assert verdict.estimate == pytest.approx(np.mean(values) - 76.65, abs=1e-10)
    assert (verdict.low, verdict.high) == pytest.approx((oracle.low - 76.65, oracle.high - 76.65), abs=1e-10)


def test_p_values_are_those_of_two_one_sided_t_tests():
    verdict = Replication(published=76.65, margin=points(2.0)).judge(sample(*FOUR))

    above = stats.ttest_1samp(FOUR, 74.65, alternative="greater").pvalue
    below = stats.ttest_1samp(FOUR, 78.65, alternative="less").pvalue
    assert verdict.p_hold == pytest.approx(max(above, below), rel=1e-10)


@pytest.mark.parametrize(
    ("published", "margin", "status"),
    [
        (76.65, 2.0, "held"),
        (76.65, 0.5, "inconclusive"),
        (80.00, 2.0, "refuted"),
        (73.20, 2.0, "refuted"),
        (78.00, 2.0, "inconclusive"),
    ],
)
def test_verdict_follows_from_where_the_interval_lies(published, margin, status):
    verdict = Replication(published=published, margin=points(margin), level=0.99).judge(sample(*FOUR))

    assert verdict.status == status
    assert (verdict.seeds_needed is not None) == (status == "inconclusive")


def test_reason_sets_the_mean_beside_the_published_number():
    verdict = Replication(published=76.65, margin=points(2.0), level=0.99).judge(sample(*FOUR))

    assert verdict.reason == (
        "BatchNorm - published 76.65 = -0.05 points, 99 % interval [-1.29, +1.19], inside (-2, +2): held (n = 4)."
    )
    assert verdict.arms[0].mean == pytest.approx(76.6)


def test_diverged_run_leaves_the_arm_unstable():
    broken = replace(sample(*FOUR), diverged=(False, True, False, False))

    verdict = Replication(published=76.65).judge(broken)

    assert verdict.inconclusive
    assert verdict.unstable == ("BatchNorm, seed 1: diverged",)


@pytest.mark.parametrize(
    ("values", "message"),
    [((76.1,), "at least 2 seeds"), ((76.1, 76.1, 76.1, 76.1), "variance of 0"), ((76.1, float("nan")), "value nan")],
)
def test_sample_from_which_nothing_follows_is_an_error_in_words(values, message):
    with pytest.raises(StatisticsError, match=message):
        Replication(published=76.65).judge(sample(*values))


def test_two_arms_are_an_error_in_words():
    with pytest.raises(StatisticsError, match="takes 1 sample, not 2"):
        Replication(published=76.65).judge(sample(*FOUR), sample(*FOUR))


def test_false_replications_stay_at_the_nominal_rate_on_the_boundary():
    experiments, rng = 4000, np.random.default_rng(0)
    rule = Replication(published=76.65, margin=points(2.0), level=0.99).rule(1)
    values = rng.normal(78.65, 0.5, (experiments, 4, 1))

    decision = rule.decide(Arms.stable(values.mean(axis=1), values.var(axis=1, ddof=1), 4))

    nominal = 0.005
    assert decision.held.mean() <= nominal + 3 * (nominal * (1 - nominal) / experiments) ** 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"published": float("nan")}, "expected the printed number in percent"),
        ({"published": 0.7665}, "published is 0.7665: expected the printed number in percent, such as 76.65"),
        ({"published": 76.65, "margin": points(0.0)}, "margin above 0"),
    ],
)
def test_replication_of_nothing_is_an_error_in_words(fields, message):
    with pytest.raises(StatisticsError, match=message):
        Replication(**fields)


def test_margin_in_another_unit_than_the_sample_is_an_error_in_words():
    with pytest.raises(StatisticsError, match="the margin is in nats"):
        Replication(published=0.5, margin=nats(0.2)).judge(sample(*FOUR))
