"""Arms with collapsed Runs: seen, left out only where that works against the verdict, and otherwise undecided."""

import math
from dataclasses import replace

import numpy as np
import pytest

from bnlab.stats import Equivalence, Interaction, NonInferiority, Ordering, Superiority, nats, points
from bnlab.stats.arms import Arms
from bnlab.stats.stability import collapsed
from bnlab.tests.stats.samples import sample


def arm(label, values):
    """A sample of accuracies in points."""
    return sample(label, values, accuracies=tuple(float(value) for value in values))


def around(label, mean, n=8):
    return arm(label, mean + np.resize([-0.2, 0.2], n))


GOOD, OTHER = around("BatchNorm", 75.0), around("None", 70.0)
HALF = arm("BatchNorm-minus", np.resize([60.0, 20.0, 60.4, 20.4], 16))


def test_a_half_collapsed_arm_is_unstable_and_no_mean_of_it_is_shown():
    verdict = Equivalence(margin=points(3.0)).judge(HALF, arm("BatchNorm", 60.0 + np.resize([-0.2, 0.2], 16)))

    assert len(verdict.unstable) == 8
    assert verdict.inconclusive
    assert (verdict.low, verdict.high) == (None, None)
    assert ", but unstable arm, 8 of 32 runs (BatchNorm-minus, seed 1: 20.00 %, far below the 60.20 %" in verdict.reason


def test_collapsed_runs_of_the_worse_arm_do_not_hide_that_it_is_worse():
    # review: BatchNorm at 75, BatchNorm-minus with 57, 56.5, 56 and a collapsed 48 would be "unstable, inconclusive"
    batchnorm = around("BatchNorm", 75.0)
    minus = arm("BatchNorm-minus", (57.0, 56.5, 56.0, 56.8, 57.2, 56.1, 56.4, 40.0))

    verdict = Superiority(by=points(3.0)).judge(batchnorm, minus)

    assert verdict.held
    assert len(verdict.unstable) == 1
    assert verdict.estimate == pytest.approx(75.0 - np.mean(minus.values[:7]))
    assert verdict.reason.endswith("; decided without 1 collapsed run, which would only add to the difference.")
    assert verdict.arms[1].mean == pytest.approx(np.mean(minus.values))


def test_the_same_numbers_without_the_collapsed_run_give_the_same_interval():
    minus = (57.0, 56.5, 56.0, 56.8, 57.2, 56.1, 56.4)
    with_one = Superiority(by=points(3.0)).judge(around("A", 75.0), arm("B", (*minus, 40.0)))

    both = Arms.of([around("A", 75.0), arm("B", (*minus, 40.0))])

    assert both.counts.tolist() == [8.0, 7.0]
    assert both.means[1] == pytest.approx(np.mean(minus))
    assert both.variances[1] == pytest.approx(np.var(minus, ddof=1))
    assert with_one.low < with_one.estimate < with_one.high


ONE_DOWN = (75.1, 74.9, 75.2, 74.8, 75.0, 75.1, 74.9, 20.0)
"""An arm like GOOD with one collapsed Run."""


@pytest.mark.parametrize(
    ("hypothesis", "arms", "status"),
    [
        # held although B collapsed once: without that Run B is better, and still worse than A
        (Superiority(by=points(3.0)), (around("A", 80.0), arm("B", ONE_DOWN)), "held"),
        (Superiority(), (around("A", 80.0), arm("B", ONE_DOWN)), "held"),
        # A collapsed: its mean of the others would speak for the claim
        (Superiority(by=points(3.0)), (arm("A", ONE_DOWN), around("B", 70.0)), "inconclusive"),
        # refuted although A collapsed: A is below even without that Run
        (Superiority(), (arm("A", ONE_DOWN), around("B", 78.0)), "refuted"),
        (NonInferiority(), (arm("A", ONE_DOWN), around("B", 78.0)), "refuted"),
        # B collapsed, and without that it is far better: but with it, it might not be
        (Superiority(), (around("A", 70.0), arm("B", ONE_DOWN)), "inconclusive"),
        # equal without the collapsed Run, on either side
        (Equivalence(), (arm("A", ONE_DOWN), around("B", 75.0)), "inconclusive"),
        (Equivalence(), (around("A", 75.0), arm("B", ONE_DOWN)), "inconclusive"),
        (Equivalence(), (around("A", 80.0), arm("B", ONE_DOWN)), "refuted"),
        (Equivalence(), (around("A", 70.0), arm("B", ONE_DOWN)), "inconclusive"),
        # the best of three, where a rival collapsed once
        (Ordering(), (around("A", 80.0), arm("B", ONE_DOWN), around("C", 70.0)), "held"),
        (Ordering(), (arm("A", ONE_DOWN), around("B", 70.0), around("C", 70.0)), "inconclusive"),
        (Ordering(), (arm("A", ONE_DOWN), around("B", 80.0), around("C", 70.0)), "refuted"),
        # (a - b) - (c - d): b and c have the weight -1
        (Interaction(), (around("A", 80.0), arm("B", ONE_DOWN), around("C", 70.0), around("D", 70.0)), "held"),
        (Interaction(), (around("A", 80.0), around("B", 75.0), around("C", 75.0), arm("D", ONE_DOWN)), "inconclusive"),
        # both arms collapsed once: leaving out works for and against it
        (Superiority(), (arm("A", ONE_DOWN), arm("B", [v - 20 for v in ONE_DOWN])), "inconclusive"),
    ],
)
def test_collapsed_runs_are_left_out_only_where_that_works_against_the_verdict(hypothesis, arms, status):
    assert hypothesis.judge(*arms).status == status


def test_no_verdict_depends_on_how_deep_a_run_fell():
    for depth in (30.0, 20.0, 5.0):
        bad = arm("B", (*ONE_DOWN[:7], depth))
        verdict = Superiority(by=points(3.0)).judge(around("A", 80.0), bad)
        assert (verdict.held, verdict.estimate) == (True, pytest.approx(5.0))


def test_a_diverged_run_counts_as_the_worst():
    values = (*ONE_DOWN[:7], math.nan)
    diverged = (False,) * 7 + (True,)
    bad = sample("B", values, diverged=diverged, accuracies=values)
    losses = sample("B", (0.5, 0.6, 0.55, 0.52, 0.57, 0.53, 0.51, math.nan), unit="nats", diverged=diverged)
    lower = sample("A", (0.1, 0.12, 0.11, 0.1, 0.12, 0.1, 0.11, 0.12), unit="nats")

    assert Superiority(by=points(3.0)).judge(around("A", 80.0), bad).held
    assert Superiority(by=points(3.0)).judge(bad, around("A", 70.0)).inconclusive
    # a loss that is not finite is high: more than any margin above the other arm's, which needs no estimate of it
    assert Superiority(by=nats(0.2)).judge(losses, lower).held
    assert Superiority(by=nats(0.2)).judge(lower, losses).refuted


def test_a_diverged_reading_in_a_unit_without_a_worst_value_decides_nothing():
    bad = sample("A", (0.5, 0.6, 0.55, math.nan), unit="ratio", diverged=(False, False, False, True))
    verdict = Superiority(by=replace(nats(0.1), unit="ratio")).judge(bad)

    assert verdict.inconclusive
    assert verdict.stops == "unstable"


def test_an_unstable_claim_trains_on_only_while_an_answer_is_open():
    beside, far = arm("B", ONE_DOWN[4:]), around("A", 80.0, 4)

    hopeless = Equivalence().judge(around("A", 75.0, 4), beside)
    undecided = Superiority(by=points(4.5)).judge(far, beside)

    assert hopeless.stops == "unstable"
    assert hopeless.reason.endswith("; no more seeds are trained.")
    assert undecided.inconclusive
    assert undecided.stops is None


@pytest.mark.parametrize(("fell", "status"), [(4, "held"), (5, "inconclusive"), (8, "inconclusive")])
def test_half_of_an_arm_has_to_remain(fell, status):
    values = np.where(np.arange(8) < fell, 10.0, 60.0 + 0.1 * np.arange(8))

    verdict = Superiority(by=points(3.0)).judge(around("A", 75.0), arm("B", values))

    assert verdict.status == status
    assert verdict.stops == ("unstable" if status == "inconclusive" else None)


EXPERIMENTS = 40_000


@pytest.mark.parametrize(("sd", "most"), [(0.5, 0.0), (1.0, 0.0005), (2.0, 0.02), (3.0, 0.035)], ids="sd{}".format)
def test_healthy_arms_are_seldom_called_unstable(sd, most):
    values = 60.0 + sd * np.random.default_rng(0).standard_normal((EXPERIMENTS, 16))

    alarm = np.zeros(EXPERIMENTS, dtype=bool)
    for n in (4, 8, 16):
        alarm |= collapsed(values[:, :n], np.zeros((EXPERIMENTS, n), dtype=bool)).any(axis=-1)

    assert alarm.mean() <= most


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("n", [4, 8, 16])
def test_arms_with_collapsed_runs_are_seldom_missed(share, n):
    rng = np.random.default_rng(0)
    fell = rng.random((EXPERIMENTS, n)) < share
    values = np.where(fell, rng.normal(20.0, 5.0, fell.shape), rng.normal(60.0, 1.0, fell.shape))
    partly = fell.any(axis=-1) & ~fell.all(axis=-1)

    seen = collapsed(values, np.zeros(fell.shape, dtype=bool))

    assert (~seen.any(axis=-1))[partly].mean() <= 0.04
    # and what is seen is what fell
    assert (seen == fell)[partly].mean() > 0.96


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.03, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("side", ["held", "refuted"])
def test_verdicts_a_fortiori_are_false_no_more_often_than_the_level_says(share, side):
    """On the edge for the healthy Runs of the arm that collapses; an arm that fell wholly has none."""
    rng = np.random.default_rng(0)
    worse, better = (75.0, 72.0) if side == "held" else (72.0, 75.0)
    values = rng.normal(0.0, 0.5, (EXPERIMENTS, 2, 8)) + np.array([[worse], [better]])
    fallible = 1 if side == "held" else 0
    fell = rng.random((EXPERIMENTS, 8)) < share
    values[:, fallible] = np.where(fell, rng.normal(20.0, 5.0, fell.shape), values[:, fallible])
    # held is false for A - B <= 3: so B collapses. Refuted of "above -3" is false for A - B >= -3: so A does
    tester = (Superiority(by=points(3.0)) if side == "held" else NonInferiority(margin=points(3.0))).rule(2)

    decision = tester.decide(Arms.summarised(values, collapsed(values, np.zeros(values.shape, dtype=bool))))

    nominal = 0.0025
    # with 4 of 8 Runs left Welch's interval errs 1.2 times as often as its level says
    assert getattr(decision, side)[~fell.all(axis=-1)].mean() <= 1.2 * nominal + 3 * np.sqrt(nominal / EXPERIMENTS)
