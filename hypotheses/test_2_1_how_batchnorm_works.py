"""§2.1  How BatchNorm works."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Every,
    Pooled,
    Superiority,
    describe_layer,
    log_ratio,
    reading,
    replace,
    train_accuracy,
)
from bnlab.paper import NETS, SMALLEST_RATIO, VGG, arms, related, untrained

AFTER = replace(VGG, options={"order": "after"}, name="VGG-11 with norms after the activations")


@pytest.mark.claim("§2.1.1", "§1")
def test_batchnorm_computes_the_formula(judge):
    """BatchNorm gives the z-score of its input over the batch, times a scale plus a shift.

    "Then we normalize so that (μ, σ) = (0, 1), and we compute the z-score." (§1) "Finally, we calculate the output
    y_j = γ_ℓ x̂_j + β_ℓ" (§2.1.1)
    """
    verdict = judge(Definition(), describe_layer(BATCHNORM).computes_batchnorm, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1.1")
def test_shift_and_scale_can_restore_what_normalization_took(judge):
    """With the mean of the batch as shift and its standard deviation as scale, BatchNorm gives back its input.

    "... the purpose of the scale and shift parameters γ and β is to restore information that may be lost through the
    normalization process of zeroing the mean." (§2.1.1)
    """
    verdict = judge(Definition(), describe_layer(BATCHNORM).restores_input, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1")
def test_validation_takes_the_shift_and_scale_of_training(judge):
    """In validation BatchNorm takes shift and scale from training, and its running statistics as well.

    "During the validation phase, the shift and scale parameters from the training phase are used to evaluate inputs."
    (§2.1)
    """
    verdict = judge(Definition(), describe_layer(BATCHNORM).evaluates_with_running_statistics, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1.2", "§1")
def test_statistics_of_deeper_layers_shift_more(lab, judge):
    """With None, the first update moves what the last third of the layers is given more than what the first third is.

    "The more layers the neural network has, the more the statistics of each layer change as a result of the preceding
    layers" (§2.1.2)
    """
    drift = reading("at_initialization/drift/deep", unit="log ratio")

    verdict = judge(Every(Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)), untrained(lab, NONE, NETS, drift))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1.3")
def test_batchnorm_performs_better_with_larger_batches(lab, judge):
    """BatchNorm is more accurate with a batch of 50 than with one of 20, over all networks.

    "... it seems to perform better with a batch size of 30 or more." (§2.1.3)
    """
    batch50 = arms(lab, BATCHNORM, batch_sizes=50)
    batch20 = arms(lab, BATCHNORM, batch_sizes=20)

    verdict = judge(Pooled(Superiority()), batch50, batch20)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1.3", "§1")
def test_batchnorm_after_the_activation_performs_better(lab, judge):
    """On VGG-11, BatchNorm behind the activations is more accurate than BatchNorm before them.

    "However, in practice it has been observed that BatchNorm performs as well—or even better—when it is applied to the
    output of the activation function." (§2.1.3; "achieves better results" in section 1)
    """
    after = lab.train(related(BATCHNORM, net=AFTER))
    before = lab.train(related(BATCHNORM, net=VGG))

    verdict = judge(Superiority(), after.accuracy, before.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.1.3")
def test_batchnorm_improves_a_network_before_and_after_the_activation(lab, judge):
    """On VGG-11, BatchNorm before the activations and behind them reaches a higher training accuracy than None.

    "Part of the evidence for this latter perspective is that we can place the BatchNorm layer anywhere and obtain
    improvements, as compared to no such normalization." (§2.1.3)
    """
    before = lab.train(related(BATCHNORM, net=VGG)).measure(train_accuracy)
    after = lab.train(related(BATCHNORM, net=AFTER)).measure(train_accuracy)
    none = lab.train(related(NONE, net=VGG)).measure(train_accuracy)

    verdict = judge(Every(Superiority()), (before, after), (none, none))

    assert verdict.held, verdict.reason
