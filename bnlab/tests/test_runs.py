"""What is read off a Run, and what tells that it collapsed."""

import math
from dataclasses import replace

import numpy
import pytest

from bnlab.errors import StatisticsError
from bnlab.runs import (
    Arm,
    Run,
    accuracy,
    batch_accuracy,
    best_epoch_gain,
    last_accuracy,
    log_reading,
    mean_accuracy,
    reading,
    recalibrated_accuracy,
    recalibration_gain,
    train_loss,
)
from bnlab.stats import Equivalence, Superiority, points
from bnlab.tests.labs import SPEC

CURVE = (50.0, 60.0, 70.0, 71.0, 69.0)


def run(seed=0, curve=CURVE, recalibrated=74.0):
    return Run(
        spec=SPEC,
        seed=seed,
        curves={"test_accuracy": curve, "train_loss": tuple(2.0 / (epoch + 1) for epoch in range(len(curve)))},
        readings={"test_accuracy_recalibrated": recalibrated, "test_accuracy_batch": 73.0},
        weights=f"{seed}",
    )


@pytest.mark.parametrize(
    ("epochs", "averaged"),
    [(15, 3), (10, 2), (5, 1), (4, 1), (1, 1)],
)
def test_accuracy_is_the_mean_over_the_last_fifth_of_the_epochs(epochs, averaged):
    curve = tuple(50.0 + epoch**2 for epoch in range(epochs))

    assert accuracy.read(run(curve=curve)) == pytest.approx(sum(curve[-averaged:]) / averaged)
    assert last_accuracy.read(run(curve=curve)) == curve[-1]


def test_other_metrics_of_a_curve():
    assert mean_accuracy.read(run()) == pytest.approx(64.0)
    assert best_epoch_gain.read(run()) == 2.0
    assert recalibration_gain.read(run()) == 5.0


@pytest.mark.parametrize(
    "metric", [accuracy, recalibrated_accuracy, batch_accuracy, reading("test_accuracy_batch", unit="points")]
)
def test_an_accuracy_tells_itself_which_runs_collapsed(metric):
    sample = Arm(spec=SPEC, runs=(run(),)).measure(metric)

    assert sample.accuracies == sample.values


@pytest.mark.parametrize("metric", [recalibration_gain, best_epoch_gain, train_loss])
def test_of_any_other_metric_the_test_accuracy_tells_it(metric):
    sample = Arm(spec=SPEC, runs=(run(),)).measure(metric)

    assert sample.accuracies == (69.0,)
    assert sample.values != (69.0,)


def test_a_small_gain_is_not_an_arm_at_chance():
    arm = Arm(spec=SPEC, runs=tuple(run(seed, recalibrated=70.0 + 0.1 * (-1) ** seed) for seed in range(4)))

    verdict = Superiority(by=points(0.0)).judge(arm.measure(recalibration_gain))

    assert verdict.unstable == ()
    assert verdict.held
    assert Equivalence(margin=points(2.0)).judge(arm.measure(recalibration_gain)).held


def test_what_is_read_in_the_first_update_counts_of_a_run_that_collapsed_or_diverged_later():
    lost = [
        replace(run(seed), curves={"test_accuracy": (10.0,)}, diverged_at=1, probes={"at_initialization": {"a": 2.0}})
        for seed in range(2)
    ]
    arm = Arm(spec=SPEC, runs=tuple(lost))

    for metric in (reading("at_initialization/a", unit="ratio"), log_reading("a", above="at_initialization/a")):
        sample = arm.measure(metric)
        assert (sample.diverged, sample.accuracies) == ((False, False), (100.0, 100.0))
    assert arm.measure(accuracy).diverged == (True, True)


def test_readings_of_a_probe_are_read_one_by_one_and_as_log_ratios():
    read = {"blocks": numpy.array([4.0, 2.0, 1.0]), "late": 0.5}
    probed = replace(run(), probes={"first_epoch": read})

    assert reading("first_epoch/blocks/1", unit="ratio").read(probed) == 2.0
    assert math.isnan(reading("first_epoch/blocks/3", unit="ratio").read(probed))
    focused = log_reading("focused", above="first_epoch/blocks/0", below="first_epoch/late")
    assert (focused.unit, focused.read(probed)) == ("log ratio", pytest.approx(math.log(8)))
    assert log_reading("late", above="first_epoch/late").read(probed) == pytest.approx(math.log(0.5))
    with pytest.raises(StatisticsError, match="is an array"):
        reading("first_epoch/blocks", unit="ratio").read(probed)
