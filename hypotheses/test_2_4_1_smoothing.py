"""§2.4.1  Refuting ICS: the smoothness of the loss."""

import pytest

from bnlab import (
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Definition,
    Equivalence,
    Every,
    NonInferiority,
    Norm,
    Superiority,
    log_ratio,
    log_reading,
    points,
)
from bnlab.formulas import sharpest_bend, steepest_slope
from bnlab.paper import FACTOR_OF_TWO, SMALLEST_RATIO, VGG, first_epoch, related

L1 = Norm(layer="bnlab.norms.lp:LpNorm", options={"p": 1.0}, name="L1 norm")
SETUP = {"net": VGG, "epochs": 6, "optimizer": "sgd", "lr": 0.1}  # of [21]: plain SGD, 3,000 steps

slope = log_reading("loss, slope along the gradient", above="loss_surface/lipschitz")
variation = log_reading("loss, variation along the gradient", above="loss_surface/variation")
bend = log_reading("gradient, change per length of the step", above="loss_surface/smoothness")
change = log_reading("gradient, change along the gradient", above="loss_surface/predictiveness")
scale_free = log_reading("gradient, change per length of the step in kernels", above="loss_surface/scale_free")
more_than_nothing = Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)


@pytest.mark.claim("§2.4.1", reading="as written")
def test_a_larger_lipschitz_constant_means_a_smoother_function(judge):
    """Of two sines, the one with the larger Lipschitz constant K bends less.

    "A larger K implies a smoother loss function, which is a good thing with respect to convergence via gradient
    descent." (§2.4.1)
    """
    found = (steepest_slope(4.0) > steepest_slope(1.0), sharpest_bend(4.0) < sharpest_bend(1.0))

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="corrected")
def test_a_smaller_lipschitz_constant_means_a_smoother_function(judge):
    """Of two sines, the one with the smaller Lipschitz constant K bends less."""
    found = (steepest_slope(1.0) < steepest_slope(4.0), sharpest_bend(1.0) < sharpest_bend(4.0))

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", "§1")
def test_batchnorm_smooths_the_loss(lab, judge):
    """On VGG-11, the loss is steeper along its gradient, and varies more, with None than with BatchNorm.

    "The authors of [21] discovered that BatchNorm did not just improve the Lipschitzness of the loss function ..."
    (§2.4.1)
    """
    none = lab.train(related(NONE, **SETUP), probes=("loss_surface",))
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("loss_surface",))

    verdict = judge(
        Every(more_than_nothing),
        (none.measure(slope), none.measure(variation)),
        (batchnorm.measure(slope), batchnorm.measure(variation)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1")
def test_batchnorm_smooths_the_gradient(lab, judge):
    """On VGG-11, the gradient changes more along itself, also per length of the step, with None than with BatchNorm.

    "... but also the Lipschitzness of its gradients, which implies increased convexity." (§2.4.1)
    """
    none = lab.train(related(NONE, **SETUP), probes=("loss_surface",))
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("loss_surface",))

    verdict = judge(
        Every(more_than_nothing),
        (none.measure(bend), none.measure(change)),
        (batchnorm.measure(bend), batchnorm.measure(change)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="control")
def test_batchnorm_smooths_the_gradient_whatever_the_length_of_the_kernels(lab, judge):
    """On VGG-11, the gradient changes more with None than with BatchNorm per step in lengths of the kernels."""
    none = lab.train(related(NONE, **SETUP), probes=("loss_surface",))
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("loss_surface",))

    verdict = judge(more_than_nothing, none.measure(scale_free), batchnorm.measure(scale_free))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="control")
def test_another_norm_than_the_standard_deviation_does_as_well(lab, judge):
    """On VGG-11, dividing by the mean absolute deviation is as accurate as BatchNorm's standard deviation."""
    l1, batchnorm = lab.train(related(L1, **SETUP)), lab.train(related(BATCHNORM, **SETUP))

    verdict = judge(NonInferiority(margin=points(1.0)), l1.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", "§4.1.2")
def test_batchnorm_minus_smooths_the_gradient_as_batchnorm_does(lab, judge):
    """In the first epoch of ResNet18, gradients change within a factor of two alike with BatchNorm-minus and BatchNorm.

    "Note that the hypotheses that the success of BatchNorm is due to smoothing the loss surface [21] or decoupling the
    length and direction of the weight vectors [14] both are related to the normalization step." (§4.1.2)
    """
    minus = first_epoch(lab, BATCHNORM_MINUS, bend, "loss_surface")
    batchnorm = first_epoch(lab, BATCHNORM, bend, "loss_surface")

    verdict = judge(Every(Equivalence(margin=FACTOR_OF_TWO)), minus, batchnorm)

    assert verdict.held, verdict.reason
