"""§2.4.6  Residual learning without normalization."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Every,
    Group,
    Net,
    NonInferiority,
    Norm,
    Superiority,
    describe_start,
    log_ratio,
    log_reading,
    points,
)
from bnlab.paper import NETS, SMALLEST_RATIO, facts, related, untrained

FIXUP = Norm(layer="bnlab.norms.scalars:fixup", name="Fixup")
FIXUP_18 = Net(build="bnlab.nets.fixup:build", options={"depth": 18}, name="Fixup ResNet18", macs=37e6, layers=18)
FIXUP_20 = Net(build="bnlab.nets.fixup:build", options={"depth": 20}, name="Fixup ResNet-20", macs=40.6e6, layers=20)
SCALARS_SLOWLY = (Group("norms", lr=0.1),)


@pytest.mark.claim("§2.4.6")
def test_output_varies_more_in_deeper_networks(lab, judge):
    """Untrained and without norms, ResNet34 gives outputs of larger variance than ResNet18, 50 than 34, 101 than 50.

    "... the deeper the neural net, the larger the variance of its output will tend to be." (§2.4.6)
    """
    deviations = untrained(
        lab, NONE, NETS, log_reading("deviation of the outputs", above="at_initialization/output/last")
    )
    deeper, shallower = deviations[1:], deviations[:-1]

    verdict = judge(Every(Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)), deeper, shallower)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.6")
def test_fixup_starts_with_outputs_of_zero(judge):
    """Fixup starts with logits of 0, a loss of ln 10, and gradients that reach one part of the network after another.

    "This method is another attempt to solve the exploding and vanishing gradient issue ..." (§2.4.6)
    """
    start = describe_start(FIXUP_20, FIXUP)

    verdict = judge(
        Definition(),
        (start.largest_logit, start.loss, start.reached),
        (0.0, 2.302585, (("head",), ("ends", "stem"), ("insides",))),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.6", reading="as written")
def test_fixup_has_a_shift_and_scale_similar_to_batchnorm(judge):
    """On ResNet18 Fixup trains as many shifts and scales as BatchNorm.

    "Fixup introduces a rescaling of the standard weight initializations and it also includes trainable shift and scale
    parameter similar to BatchNorm." (§2.4.6)
    """
    (batchnorm, *_), fixup = facts(BATCHNORM).affine_parameters, describe_start(FIXUP_18, FIXUP).scalars

    verdict = judge(Definition(), (batchnorm, fixup), (9600, 9600))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.6", reading="corrected")
def test_fixup_has_a_number_for_each_layer(judge):
    """On ResNet18 Fixup trains four shifts and a scale a block and two shifts more: 42 numbers, BatchNorm 9,600."""
    (batchnorm, *_), fixup = facts(BATCHNORM).affine_parameters, describe_start(FIXUP_18, FIXUP).scalars

    verdict = judge(Definition(), (batchnorm, fixup), (9600, 8 * (4 + 1) + 2))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.6")
def test_fixup_is_superior_to_batchnorm(lab, judge):
    """Fixup is more accurate than BatchNorm on ResNet-20.

    "The authors claim that using their Fixup, they can obtain results that are superior to BatchNorm on the CIFAR10
    dataset, based on a ResNet architecture." (§2.4.6)
    """
    fixup = lab.train(related(FIXUP, net=FIXUP_20, groups=SCALARS_SLOWLY))
    batchnorm = lab.train(related(BATCHNORM))

    verdict = judge(Superiority(), fixup.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.6", "abstract")
def test_better_initialization_performs_as_well_as_batchnorm(lab, judge):
    """With Fixup's initial weights alone, and nothing in place of norms, ResNet-20 is as accurate as with BatchNorm.

    "Another way in which BatchNorm could be improving deep neural nets is by making the weight initializations more
    consistent at the start of each epoch." (§2.4.6; the abstract asks whether that is its primary benefit)
    """
    initialization = lab.train(related(NONE, net=FIXUP_20))
    batchnorm = lab.train(related(BATCHNORM))

    verdict = judge(NonInferiority(margin=points(1.0)), initialization.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason
