"""§5  Conclusion: what follows in practice."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Beaten,
    Definition,
    Every,
    NonInferiority,
    Ordering,
    Pooled,
    mean_accuracy,
    points,
)
from bnlab.paper import BASIC, BOTTLENECK, arms, facts


@pytest.mark.claim("§5, Tables 5 and 7")
def test_batchnorm_should_be_used_with_bottleneck_blocks(lab, judge):
    """With bottleneck blocks, no arm beats BatchNorm by a point of accuracy or more, in each of four cells.

    "From a practical perspective, our results indicate that BatchNorm should be used with ResNet architectures that
    employ bottleneck blocks." (§5)
    """
    batchnorm = arms(lab, BATCHNORM, BOTTLENECK)
    affine_layer = arms(lab, AFFINE_LAYER, BOTTLENECK)
    minus = arms(lab, BATCHNORM_MINUS, BOTTLENECK)
    none = arms(lab, NONE, BOTTLENECK)

    verdict = judge(Every(Ordering(margin=points(1.0))), batchnorm, affine_layer, minus, none)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5", "§4.4")
def test_batchnorm_minus_is_slightly_more_efficient(judge):
    """BatchNorm-minus trains 9,600, 17,024, 53,120 and 105,344 numbers less, which is at most a quarter of a percent.

    "However, we also found that a simpler and slightly more efficient technique, BatchNorm-minus, can perform as well
    as BatchNorm on ResNet architectures that use basic residual blocks." (§5)
    """
    batchnorm, minus = facts(BATCHNORM), facts(BATCHNORM_MINUS)

    verdict = judge(
        Definition(),
        (batchnorm.affine_parameters, batchnorm.affine_share, minus.affine_parameters),
        ((9600, 17024, 53120, 105344), (0.086, 0.080, 0.226, 0.248), 4 * (0,)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5")
def test_batchnorm_minus_allows_for_smaller_batches(lab, judge):
    """With basic blocks, BatchNorm-minus gets there no later with a batch of 20 than with one of 50.

    "When appropriate, the use of the simpler BatchNorm-minus normalization could allow for smaller batch sizes without
    sacrificing the speed of convergence." (§5; in accuracy over all epochs, for as many passes over the images)
    """
    batch20 = arms(lab, BATCHNORM_MINUS, BASIC, 20, metric=mean_accuracy)
    batch50 = arms(lab, BATCHNORM_MINUS, BASIC, 50, metric=mean_accuracy)

    verdict = judge(Pooled(NonInferiority(margin=points(1.0))), batch20, batch50)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5, Tables 4 to 7")
@pytest.mark.parametrize("nets", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
def test_default_batchnorm_reduces_performance_for_a_block_type(lab, judge, nets):
    """Over the networks of a block type, some other arm is more accurate than the built-in BatchNorm.

    "Given that default implementations of ResNet come with BatchNorm built in, it is possible that there is some
    reduction in performance caused by assuming that it is optimal for all types of residual blocks." (§5)
    """
    batchnorm = arms(lab, BATCHNORM, nets)
    affine_layer = arms(lab, AFFINE_LAYER, nets)
    minus = arms(lab, BATCHNORM_MINUS, nets)
    none = arms(lab, NONE, nets)

    verdict = judge(Pooled(Beaten()), batchnorm, affine_layer, minus, none)

    assert verdict.held, verdict.reason
