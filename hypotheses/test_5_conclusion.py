"""§5  Conclusion: normalization, shift and scale."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Every,
    Interaction,
    NonInferiority,
    Pooled,
    ResNet,
    Superiority,
    points,
)
from bnlab.paper import BASIC, BOTTLENECK, NETS, arms


@pytest.mark.claim("§5, Tables 4 to 7", reading="as written")
def test_shift_and_scale_increase_expressiveness_of_bottleneck_nets(lab, judge):
    """Shift and scale gain BatchNorm more accuracy with bottleneck blocks than with basic blocks, over all networks.

    "... for ResNet50 and ResNet101, the trainable shift and scale parameters appear to increase the expressiveness of
    the model, allowing it to recover more information after the dimensionality reduction step that occurs inside
    bottleneck residual blocks." (§5)
    """
    with_both = arms(lab, BATCHNORM, BOTTLENECK)
    without = arms(lab, BATCHNORM_MINUS, BOTTLENECK)
    basic_with_both = arms(lab, BATCHNORM, BASIC)
    basic_without = arms(lab, BATCHNORM_MINUS, BASIC)

    verdict = judge(Pooled(Interaction()), with_both, without, basic_with_both, basic_without)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5", "§4.1.2", reading="control")
def test_bottleneck_nets_of_equal_expressiveness_are_equally_accurate(lab, judge):
    """With bottleneck blocks, AffineLayer is as accurate as None with convolution biases, which is as expressive."""
    affine_layer = arms(lab, AFFINE_LAYER, BOTTLENECK)
    biased = arms(lab, NONE, (ResNet(50, conv_bias=True), ResNet(101, conv_bias=True)))

    verdict = judge(Pooled(Equivalence(margin=points(1.0))), affine_layer, biased)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5, Tables 4 and 6")
def test_normalization_is_beneficial_with_basic_blocks(lab, judge):
    """With basic blocks, normalization gains accuracy with and without shift and scale, in each of four cells.

    "In contrast, for ResNet18 and ResNet34 which use basic residual blocks, we found that normalization was beneficial,
    but that the additional degrees of freedom provided by shift and scale parameters did not improve the accuracy."
    (§5)
    """
    with_both = arms(lab, (BATCHNORM, BATCHNORM_MINUS), BASIC)
    without = arms(lab, (AFFINE_LAYER, NONE), BASIC)

    verdict = judge(Every(Superiority()), with_both, without)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5, Tables 4 and 6", "§4.4")
def test_shift_and_scale_do_not_improve_accuracy_with_basic_blocks(lab, judge):
    """On ResNet18 and on ResNet34, BatchNorm-minus is no less accurate than BatchNorm.

    "... the additional degrees of freedom provided by shift and scale parameters did not improve the accuracy." (§5)
    "... a simpler and more efficient normalization scheme can be used with such models, without any appreciable loss in
    performance." (§4.4)
    """
    minus18, minus34 = arms(lab, BATCHNORM_MINUS, ResNet(18)), arms(lab, BATCHNORM_MINUS, ResNet(34))
    batchnorm18, batchnorm34 = arms(lab, BATCHNORM, ResNet(18)), arms(lab, BATCHNORM, ResNet(34))
    no_worse = Pooled(NonInferiority(margin=points(1.0)))

    verdict = judge(Every(no_worse.of(minus18, batchnorm18), no_worse.of(minus34, batchnorm34)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5", reading="control")
@pytest.mark.parametrize("net", NETS, ids=str)
def test_normalization_gains_more_with_shift_and_scale_than_without(lab, judge, net):
    """Normalization gains more accuracy with shift and scale than without them.

    "Our main results involve the relative contribution of the normalization and re-parameterization steps for the
    various ResNet architectures tested." (§5)
    """
    batchnorm = arms(lab, BATCHNORM, net)
    affine_layer = arms(lab, AFFINE_LAYER, net)
    minus = arms(lab, BATCHNORM_MINUS, net)
    none = arms(lab, NONE, net)

    verdict = judge(Pooled(Interaction()), batchnorm, affine_layer, minus, none)

    assert verdict.held, verdict.reason
