"""§4.4  Discussion."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Every,
    Interaction,
    Pooled,
    ResNet,
    Superiority,
    points,
    recalibration_gain,
)
from bnlab.paper import BASIC, BOTTLENECK, BY_STATISTICS, NORMS, arms

statistics = pytest.mark.parametrize("metric", BY_STATISTICS, ids=["running", "recalibrated"])


@pytest.mark.claim("§4.4, Tables 5 to 7", reading="as written")
@pytest.mark.parametrize("net", [ResNet(34), ResNet(50), ResNet(101)], ids=str)
def test_batch_sizes_differ_minimally(lab, judge, net):
    """Beyond ResNet18 too, every arm is about as accurate with a batch of 20 as with one of 50.

    "Since we find minimal differences between the results for batch sizes of 20 and 50, for each model and
    normalization scheme, we have graphed the better of the results for batch size 20 or 50." (§4.4)
    """
    batch20 = arms(lab, NORMS, net, 20)
    batch50 = arms(lab, NORMS, net, 50)

    verdict = judge(Every(Equivalence(margin=points(2.0))), batch20, batch50)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 5 and 7", reading="corrected")
@pytest.mark.parametrize(
    ("norm", "net", "better", "worse"),
    [
        pytest.param(BATCHNORM_MINUS, ResNet(50), 50, 20, id="BatchNorm-minus-on-ResNet50-at-50"),
        pytest.param(BATCHNORM_MINUS, ResNet(101), 20, 50, id="BatchNorm-minus-on-ResNet101-at-20"),
        pytest.param(BATCHNORM, ResNet(101), 20, 50, id="BatchNorm-on-ResNet101-at-20"),
    ],
)
def test_some_arms_depend_on_the_batch_size(lab, judge, norm, net, better, worse):
    """The arms whose printed accuracies are more than two points apart are better with the one batch size."""
    verdict = judge(Superiority(), *arms(lab, norm, net, better), *arms(lab, norm, net, worse))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 4 and 6", reading=BY_STATISTICS)
@statistics
def test_batchnorm_minus_performs_as_well_with_basic_blocks(lab, judge, metric):
    """With basic blocks, BatchNorm-minus is as accurate as BatchNorm, over two networks and batch sizes.

    "... for the models tested that employ basic blocks, namely, ResNet18 and ResNet34, BatchNorm-minus performs as well
    as standard BatchNorm." (§4.4)
    """
    minus = arms(lab, BATCHNORM_MINUS, BASIC, metric=metric)
    batchnorm = arms(lab, BATCHNORM, BASIC, metric=metric)

    verdict = judge(Pooled(Equivalence(margin=points(1.0))), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 5 and 7", reading=BY_STATISTICS)
@statistics
def test_shift_and_scale_are_critical_with_bottleneck_blocks(lab, judge, metric):
    """With bottleneck blocks, BatchNorm is clearly more accurate than BatchNorm-minus, in each of four cells.

    "Hence, we conclude that the additional degrees of freedom provided by the shift and scale parameters are critical
    for these models ..." (§4.4)
    """
    batchnorm = arms(lab, BATCHNORM, BOTTLENECK, metric=metric)
    minus = arms(lab, BATCHNORM_MINUS, BOTTLENECK, metric=metric)

    verdict = judge(Every(Superiority(by=points(3.0))), batchnorm, minus)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 4 to 7", reading="control")
@pytest.mark.parametrize("nets", [BOTTLENECK, BASIC], ids=["bottleneck", "basic"])
def test_recalibration_gains_batchnorm_minus_more_than_batchnorm(lab, judge, nets):
    """Statistics taken anew gain BatchNorm-minus more than BatchNorm: part of its gap is how it was tested.

    "... for models tested that include bottleneck blocks, namely, ResNet50 and ResNet101, BatchNorm-minus performs
    relatively poorly." (§4.4)
    """
    minus = arms(lab, BATCHNORM_MINUS, nets, metric=recalibration_gain)
    batchnorm = arms(lab, BATCHNORM, nets, metric=recalibration_gain)

    verdict = judge(Pooled(Superiority()), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 4 to 7", reading="as written")
def test_affine_layer_is_better_with_bottleneck_blocks(lab, judge):
    """AffineLayer is more accurate with bottleneck blocks than with basic blocks.

    "... AffineLayer—which includes trainable shift and scale parameters—performs better on the bottleneck block
    architectures as compared to the basic block architectures." (§4.4)
    """
    bottleneck = arms(lab, AFFINE_LAYER, BOTTLENECK)
    basic = arms(lab, AFFINE_LAYER, BASIC)

    verdict = judge(Pooled(Superiority()), bottleneck, basic)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 4 to 7", "§4.1.2", reading="corrected")
def test_affine_layer_gains_more_than_none_with_bottleneck_blocks(lab, judge):
    """AffineLayer gains more accuracy from bottleneck blocks instead of basic blocks than None does."""
    affine_bottleneck = arms(lab, AFFINE_LAYER, BOTTLENECK)
    affine_basic = arms(lab, AFFINE_LAYER, BASIC)
    none_bottleneck = arms(lab, NONE, BOTTLENECK)
    none_basic = arms(lab, NONE, BASIC)

    verdict = judge(Pooled(Interaction()), affine_bottleneck, affine_basic, none_bottleneck, none_basic)

    assert verdict.held, verdict.reason
