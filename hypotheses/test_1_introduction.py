"""§1  Introduction."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Every,
    Interaction,
    Pooled,
    ResNet,
    Superiority,
    first_accuracy,
    generalization_gap,
    log_ratio,
    log_reading,
    train_accuracy,
)
from bnlab.paper import NETS, SMALLEST_RATIO, arms, facts, untrained

more_than_nothing = Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)


@pytest.mark.claim("§1")
def test_batchnorm_increases_training_accuracy(lab, judge):
    """BatchNorm ends with a higher training accuracy than None, over all networks and batch sizes.

    "The use of BatchNorm yields an empirical increase in training accuracy, a reduction in the number of training
    steps, and it improves overfitting, in the sense of decreasing the number of dropout layers that are required." (§1)
    """
    batchnorm = arms(lab, BATCHNORM, metric=train_accuracy)
    none = arms(lab, NONE, metric=train_accuracy)

    verdict = judge(Pooled(Superiority()), batchnorm, none)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1")
def test_batchnorm_takes_fewer_steps(lab, judge):
    """After the first epoch BatchNorm is ahead of None, over all networks and batch sizes.

    "... a reduction in the number of training steps ..." (§1)
    """
    batchnorm = arms(lab, BATCHNORM, metric=first_accuracy)
    none = arms(lab, NONE, metric=first_accuracy)

    verdict = judge(Pooled(Superiority()), batchnorm, none)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1")
def test_batchnorm_overfits_less(lab, judge):
    """Training accuracy exceeds test accuracy by less with BatchNorm than with None, over all networks.

    "... and it improves overfitting ..." (§1)
    """
    none = arms(lab, NONE, metric=generalization_gap)
    batchnorm = arms(lab, BATCHNORM, metric=generalization_gap)

    verdict = judge(Pooled(Superiority()), none, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1")
@pytest.mark.parametrize(
    ("shallow", "deep"),
    [
        pytest.param(ResNet(18), ResNet(34), id="from-ResNet18-to-ResNet34"),
        pytest.param(ResNet(50), ResNet(101), id="from-ResNet50-to-ResNet101"),
    ],
)
def test_batchnorm_keeps_deeper_networks_from_degrading(lab, judge, shallow, deep):
    """The deeper network gains accuracy with BatchNorm, compared with what it gains with None.

    "... unlocked the ability to develop networks with much greater complexity that did not experience the degradation
    in performance that had previously been observed" (§1)
    """
    batchnorm_deep = arms(lab, BATCHNORM, deep)
    batchnorm_shallow = arms(lab, BATCHNORM, shallow)
    none_deep = arms(lab, NONE, deep)
    none_shallow = arms(lab, NONE, shallow)

    verdict = judge(Pooled(Interaction()), batchnorm_deep, batchnorm_shallow, none_deep, none_shallow)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1", "§2.1.1", reading="as written")
def test_batchnorm_has_two_parameters_for_each_layer(judge):
    """The norm layers of each network have two trained parameters each, a shift and a scale.

    "The shift and scale parameters provide two additional trainable parameters—and hence two additional degrees of
    freedom—for each layer, which could account for some of the improvements observed in BatchNorm." (§1)
    """
    batchnorm = facts(BATCHNORM)

    verdict = judge(
        Definition(), (batchnorm.norm_layers, batchnorm.affine_parameters), ((20, 36, 53, 104), (40, 72, 106, 208))
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1", "§2.1.1", "§3.2", reading="corrected")
def test_batchnorm_has_two_parameters_for_each_channel(judge):
    """The norm layers of each network have two trained parameters for each channel.

    "These parameters offer two additional degrees of freedom for each neuron, which may allowing for more expressive
    models." (§3.2)
    """
    batchnorm = facts(BATCHNORM)

    verdict = judge(
        Definition(),
        (batchnorm.norm_channels, batchnorm.affine_parameters),
        ((4800, 8512, 26560, 52672), (9600, 17024, 53120, 105344)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§1")
def test_batchnorm_evens_out_gradients(lab, judge):
    """In the first update, lengths of gradients differ less from layer to layer with BatchNorm than with None.

    "... deeper networks are more likely to result in so-called vanishing and exploding gradients. [...] In order to
    avoid these pitfalls, a number of approaches have been suggested with, arguably, the most notable being Batch
    Normalization" (§1)
    """
    ratio = log_reading("gradient length, longest / shortest layer", above="at_initialization/gradient/ratio")

    verdict = judge(Every(more_than_nothing), untrained(lab, NONE, NETS, ratio), untrained(lab, BATCHNORM, NETS, ratio))

    assert verdict.held, verdict.reason
