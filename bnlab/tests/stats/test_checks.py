"""What is an error in words and not a verdict, and what makes an arm unstable."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from bnlab.errors import StatisticsError
from bnlab.stats import (
    Beaten,
    Definition,
    Equivalence,
    Interaction,
    NonInferiority,
    Ordering,
    Superiority,
    nats,
    points,
)
from bnlab.stats.checks import check_samples
from bnlab.stats.margins import Margin
from bnlab.stats.sample import Sample
from bnlab.stats.stability import unstable_runs
from bnlab.tests.stats.samples import sample

GOOD = (80.1, 80.4, 79.9, 80.2)
B = sample("B", (80.3, 80.0, 80.2, 79.8))

ERRORS = {
    "NaN": (
        sample("A", (80.1, math.nan, 79.9, 80.2)),
        "A has the value nan at seed 1, a Run that is not marked as diverged: check the metric and the store",
    ),
    "infinity": (
        sample("A", (80.1, 80.4, math.inf, 80.2)),
        "A has the value inf at seed 2, a Run that is not marked as diverged: check the metric and the store",
    ),
    "NaN accuracy": (
        sample("A", GOOD, accuracies=(80.0, 80.0, 80.0, math.nan)),
        "A has the value nan at seed 3, a Run that is not marked as diverged: check the metric and the store",
    ),
    "zero variance": (
        sample("A", (93.1,) * 4),
        "all 4 values of A are 93.1, from Runs that differ: a variance of 0 would prove anything; take images or a "
        "metric on which seeds differ",
    ),
    "duplicate in an arm": (
        sample("A", GOOD, digests=("one", "two", "one", "three")),
        "A seed 0 and A seed 2 are one and the same Run (digest one): every seed of every arm needs a Run of its own; "
        "check the store",
    ),
    "duplicate across arms": (
        sample("A", GOOD, digests=("one", "two", "B/3", "three")),
        "A seed 2 and B seed 3 are one and the same Run (digest B/3): every seed of every arm needs a Run of its own; "
        "check the store",
    ),
    "one seed": (
        sample("A", (80.1,)),
        "A has n = 1: an interval takes at least 2 seeds; train more",
    ),
    "no seed": (
        sample("A", ()),
        "A has n = 0: an interval takes at least 2 seeds; train more",
    ),
    "fewer seeds": (
        sample("A", GOOD[:3]),
        "A has the seeds 0, 1, 2 and B has 0, 1, 2, 3: arms are compared on the same seeds; train the missing ones",
    ),
    "other seeds": (
        sample("A", GOOD, seeds=(0, 1, 2, 5)),
        "A has the seeds 0, 1, 2, 5 and B has 0, 1, 2, 3: arms are compared on the same seeds; train the missing ones",
    ),
    "a seed twice": (
        sample("A", GOOD, seeds=(0, 1, 2, 2)),
        "A has the seeds 0, 1, 2, 2: every seed may stand once; check the store",
    ),
    "unit": (
        sample("A", GOOD, unit="nats"),
        "A is measured in nats and the margin is in points: give the margin in nats",
    ),
    "ragged": (
        sample("A", GOOD, seeds=(0, 1, 2)),
        "the sample A has 4 values but 3, 4, 4, 4 seeds, digests, diverged marks and accuracies: give one of each per "
        "Run",
    ),
}


@pytest.mark.parametrize(("a", "words"), ERRORS.values(), ids=ERRORS)
def test_a_sample_that_proves_nothing_is_an_error_in_one_sentence(a, words):
    with pytest.raises(StatisticsError) as error:
        Equivalence().judge(a, B)
    assert str(error.value) == words


@pytest.mark.parametrize("hypothesis", [Superiority(), NonInferiority(), Ordering(), Beaten()])
def test_every_kind_refuses_what_a_store_bug_would_return(hypothesis):
    # four times one Run against another, 0.01 points apart: Welch's p is 0
    with pytest.raises(StatisticsError, match="a variance of 0 would prove anything"):
        hypothesis.judge(sample("A", (93.10,) * 4), sample("C", (93.09,) * 4))


@pytest.mark.parametrize(
    ("hypothesis", "samples", "words"),
    [
        (Equivalence(), 0, "Equivalence takes 1, 2 or 4 samples, not 0: give one for each arm"),
        (Equivalence(), 3, "Equivalence takes 1, 2 or 4 samples, not 3: give one for each arm"),
        (Superiority(), 3, "Superiority takes 1 or 2 samples, not 3: give one for each arm"),
        (Interaction(), 2, "Interaction takes 4 samples, not 2: give one for each arm"),
        (Ordering(), 1, "Ordering takes 2 samples or more, not 1: give one for each arm"),
        (Beaten(), 0, "Beaten takes 2 samples or more, not 0: give one for each arm"),
    ],
)
def test_a_wrong_number_of_samples_is_an_error(hypothesis, samples, words):
    with pytest.raises(StatisticsError) as error:
        hypothesis.judge(*[B] * samples)
    assert str(error.value) == words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: points(-1),
            "a margin is a finite number of points of at least 0, not -1.0: swap the samples to turn the direction "
            "round",
        ),
        (lambda: Margin(1.0, "percent"), "unknown unit 'percent': a margin is in points, nats, log ratio, ratio"),
        (
            lambda: Equivalence(margin=points(0)),
            "no two means are equal to the last digit: give Equivalence a margin above 0",
        ),
        (
            lambda: Superiority(by=nats(0)),
            "Superiority by 0 nats was given 0.5 points as the smallest effect of interest: "
            "give smallest=, a margin above 0 in nats",
        ),
        (
            lambda: Interaction(smallest=points(0)),
            "Interaction by 0 points was given 0 points as the smallest effect of interest: "
            "give smallest=, a margin above 0 in points",
        ),
        (
            lambda: Ordering(level=99),
            "level is 99: expected a number from 0.5 to 0.99999, such as 0.99, or None for the registered one",
        ),
    ],
)
def test_a_hypothesis_that_cannot_be_is_an_error(make, words):
    with pytest.raises(StatisticsError) as error:
        make()
    assert str(error.value) == words


def test_identity_of_arrays_is_an_error():
    with pytest.raises(StatisticsError, match="comparing ndarray with ndarray gave no yes or no: give plain values"):
        Definition().judge(np.zeros(2), np.zeros(2))


STABILITY = {
    "like its arm": ((80.0, 80.5, 79.5, 80.2), ()),
    "4.9 points below the median": ((80.0, 80.0, 80.0, 75.1), ()),
    "5.1 points below the median": (
        (80.0, 80.0, 80.0, 74.9),
        ("A, seed 3: 74.90 %, far below the 80.00 % of the others",),
    ),
    "9 above the others": ((80.0, 80.0, 80.0, 89.0), ()),
    "one of four trained": (
        (20.0, 20.5, 21.0, 60.0),
        (
            "A, seed 0: 20.00 %, far below the 60.00 % of the others",
            "A, seed 1: 20.50 %, far below the 60.00 % of the others",
            "A, seed 2: 21.00 %, far below the 60.00 % of the others",
        ),
    ),
    "half of the arm": (
        (60.0, 20.0, 60.5, 20.5),
        (
            "A, seed 1: 20.00 %, far below the 60.25 % of the others",
            "A, seed 3: 20.50 %, far below the 60.25 % of the others",
        ),
    ),
    "spread out by 9 points a step": ((40.0, 49.0, 58.0, 67.0), ()),
    # a gap of 12 points, 4 sd of the groups is 13
    "two groups as wide as their gap": ((50.0, 54.5, 66.5, 71.0), ()),
    # absolute deviations 0, 1, 1, 1, 8: 6 * 1.4826 * 1 = 8.9 points
    "8 below, where the arm spreads by 1": ((80.0, 81.0, 79.0, 81.0, 72.0), ()),
    "9 below, where the arm spreads by 1": (
        (80.0, 81.0, 79.0, 81.0, 71.0),
        ("A, seed 4: 71.00 %, far below the 80.25 % of the others",),
    ),
    "all at chance": ((10.0, 12.0), ("A, seed 0: 10.00 %, at chance", "A, seed 1: 12.00 %, at chance")),
    "just above chance": ((12.1, 12.3), ()),
}


@pytest.mark.parametrize(("accuracies", "phrases"), STABILITY.values(), ids=STABILITY)
def test_an_unstable_run_is_at_chance_or_far_below_its_arm(accuracies, phrases):
    assert unstable_runs(sample("A", range(len(accuracies)), accuracies=accuracies)) == phrases


def test_a_diverged_run_is_inconclusive_counted_and_shown():
    a = sample(
        "A", (80.1, math.nan, 79.9, 80.2), diverged=(False, True, False, False), accuracies=(80.1, 10, 79.9, 80.2)
    )

    verdict = Superiority().judge(a, B)

    assert verdict.reason == "unstable arm, 1 of 8 runs (A, seed 1: diverged): inconclusive (n = 4 + 4)."
    assert verdict.unstable == ("A, seed 1: diverged",)
    assert verdict.n == (4, 4)
    assert (verdict.estimate, verdict.low, verdict.high, verdict.arms[0].mean) == (None, None, None, None)
    assert verdict.p_hold == 1.0
    json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize("wild", [math.inf, -math.inf])
def test_infinities_of_diverged_runs_leave_no_trace_in_json(wild):
    losses = sample(
        "A", (0.5, 0.6, wild, wild), unit="nats", diverged=(False, False, True, True), accuracies=(80, 80, math.nan, 10)
    )
    other = sample("B", (0.5, 0.6, 0.4, 0.7), unit="nats")

    verdict = Superiority(by=nats(0.1)).judge(losses, other)

    assert verdict.unstable == ("A, seed 2: diverged", "A, seed 3: diverged")
    json.dumps(verdict.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "hypothesis",
    [Equivalence(), Superiority(), Superiority(by=points(3.0)), NonInferiority(), Ordering(), Beaten()],
    ids=lambda hypothesis: repr(hypothesis),
)
def test_an_arm_at_chance_decides_no_kind_on_means(hypothesis):
    # a collapsed network names one class for every image, so all its accuracies are 10 % exactly: no store bug
    collapsed = sample("None", (10.0,) * 4, accuracies=(10.0,) * 4)

    verdict = hypothesis.judge(B, collapsed)

    assert verdict.inconclusive
    assert verdict.estimate == pytest.approx(70.075)
    assert verdict.low is None
    assert verdict.reason == (
        "B - None = +70.08 points, but unstable arm, 4 of 8 runs (None, seed 0: 10.00 %, at chance; None, seed 1: "
        "10.00 %, at chance; None, seed 2: 10.00 %, at chance; and 1 more): inconclusive (n = 4 + 4); no more "
        "seeds are trained."
    )


def test_stability_is_judged_on_accuracy_whatever_the_metric():
    losses = sample("A", (0.5, 0.6, 0.55, 0.52), unit="nats", accuracies=(80.0, 80.1, 79.8, 70.0))
    other = sample("B", (1.5, 1.6, 1.55, 1.52), unit="nats")

    verdict = Equivalence(margin=nats(0.1)).judge(other, losses)

    assert verdict.unstable == ("A, seed 3: 70.00 %, far below the 79.97 % of the others",)


@pytest.mark.parametrize("n", [2, 3])
def test_a_few_honest_ties_are_inconclusive_and_no_fault_of_the_store(n):
    tied = sample("A", (75.03,) * n)

    verdict = Superiority().judge(tied, sample("B", (70.0, 70.1, 70.2)[:n]))

    assert verdict.inconclusive
    assert verdict.stops is None
    assert verdict.reason == (
        f"the {n} values of A tie at 75.03, so their spread is unknown: inconclusive (n = {n} + {n}, not a registered "
        "look)."
    )


def test_a_tie_of_what_did_not_collapse_is_a_tie():
    tied = sample("A", (75.03, 75.03, 10.0, 10.0), accuracies=(75.03, 75.03, 10.0, 10.0))

    assert "the 2 values of A tie at 75.03" in NonInferiority().judge(tied, B).reason


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: Equivalence(margin=1.0),
            "Equivalence(margin=1.0): expected a margin with its unit, such as points(1.0)",
        ),
        (lambda: Beaten(by=2), "Beaten(by=2): expected a margin with its unit, such as points(2)"),
        (
            lambda: Superiority(smallest=0.5),
            "Superiority(smallest=0.5): expected a margin with its unit, such as points(0.5)",
        ),
        (lambda: points("1"), "points('1'): expected a number, such as points(1.0)"),
        (
            lambda: Superiority().judge(
                replace(B, label="A", values=(80.0, None, 80.2, 80.1), digests=tuple("abcd")), B
            ),
            "A has the value None at seed 1: a metric has to give a number",
        ),
        (
            lambda: Superiority().judge(
                replace(B, label="A", values=(80.0, "80.1", 80.2, 80.1), digests=tuple("abcd")), B
            ),
            "A has the value '80.1' at seed 1: a metric has to give a number",
        ),
    ],
)
def test_what_is_no_number_and_no_margin_is_an_error_in_words(make, words):
    with pytest.raises(StatisticsError) as error:
        make()
    assert str(error.value) == words


def test_two_metrics_of_one_run_may_be_compared():
    adapted = Sample(
        label="A, adapted",
        unit="points",
        values=(70.0, 71.0),
        seeds=(0, 1),
        digests=("r0", "r1"),
        diverged=(False, False),
        accuracies=(70.0, 71.0),
        metric="adapted",
    )
    source = replace(adapted, label="A, source", values=(60.0, 62.0), metric="source")

    check_samples([adapted, source], "points")
    with pytest.raises(StatisticsError, match="one and the same Run"):
        check_samples([adapted, replace(source, metric="adapted")], "points")
