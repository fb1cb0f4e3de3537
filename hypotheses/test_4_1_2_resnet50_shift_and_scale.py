"""§4.1.2  ResNet50: shift and scale."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Equivalence,
    Every,
    Interaction,
    Pooled,
    ResNet,
    Superiority,
    points,
)
from bnlab.paper import BY_STATISTICS, arms

statistics = pytest.mark.parametrize("metric", BY_STATISTICS, ids=["running", "recalibrated"])


@pytest.mark.claim("§4.1.2, Tables 4 and 5")
def test_affine_layer_increases(lab, judge):
    """The accuracy of AffineLayer increases from ResNet18 to ResNet50, at both batch sizes.

    "In contrast to BatchNorm-minus, the performance of AffineLayer increases for ResNet50, as compared to ResNet18."
    (§4.1.2; section 4.4 compares the increase with that of None)
    """
    resnet50 = arms(lab, AFFINE_LAYER, ResNet(50))
    resnet18 = arms(lab, AFFINE_LAYER, ResNet(18))

    verdict = judge(Every(Superiority()), resnet50, resnet18)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", reading=BY_STATISTICS)
@statistics
def test_shift_and_scale_matter_more_than_on_resnet18(lab, judge, metric):
    """Shift and scale gain BatchNorm clearly more accuracy on ResNet50 than on ResNet18, at both batch sizes.

    "Whatever the reason, it appears that for ResNet50, the affine parameters play a much more significant role than in
    ResNet18." (§4.1.2)
    """
    batchnorm50 = arms(lab, BATCHNORM, ResNet(50), metric=metric)
    minus50 = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)
    batchnorm18 = arms(lab, BATCHNORM, ResNet(18), metric=metric)
    minus18 = arms(lab, BATCHNORM_MINUS, ResNet(18), metric=metric)

    verdict = judge(Every(Interaction(by=points(3.0))), batchnorm50, minus50, batchnorm18, minus18)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2", reading="control")
@pytest.mark.parametrize("norm", [GAMMA_ONLY, BETA_ONLY], ids=str)
def test_one_of_shift_and_scale_is_enough(lab, judge, norm):
    """On ResNet50, BatchNorm with the scale or the shift alone is as accurate as BatchNorm with both.

    "We conjecture that the 1 × 1 convolution of the ResNet50 bottleneck architecture is stripping the model of
    information, while the additional shift and scale parameters enable the model to recover some of that information."
    (§4.1.2; asked here is which of the two does it, not whether the convolution is the cause)
    """
    one_alone = arms(lab, norm, ResNet(50))
    batchnorm = arms(lab, BATCHNORM, ResNet(50))

    verdict = judge(Pooled(Equivalence(margin=points(1.0))), one_alone, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading=BY_STATISTICS)
@statistics
def test_affine_layer_clearly_outperforms_batchnorm_minus(lab, judge, metric):
    """On ResNet50, AffineLayer is clearly more accurate than BatchNorm-minus, at both batch sizes.

    "Another takeaway is that AffineLayer, which has no normalization step, is clearly outperforming BatchNorm-minus,
    regardless of the batch size. These results indicate that the normalization step is not the primary driver of
    improved performance in this case." (§4.1.2)
    """
    affine_layer = arms(lab, AFFINE_LAYER, ResNet(50), metric=metric)
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)

    verdict = judge(Every(Superiority(by=points(3.0))), affine_layer, minus)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading="corrected")
def test_normalization_gains_clearly_where_shift_and_scale_are_there(lab, judge):
    """On ResNet50, normalization gains clearly with shift and scale, and clearly more with them than without."""
    batchnorm = arms(lab, BATCHNORM, ResNet(50))
    affine_layer = arms(lab, AFFINE_LAYER, ResNet(50))
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50))
    none = arms(lab, NONE, ResNet(50))

    verdict = judge(
        Every(
            Pooled(Superiority(by=points(3.0))).of(batchnorm, affine_layer),
            Pooled(Interaction(by=points(3.0))).of(batchnorm, affine_layer, minus, none),
        )
    )

    assert verdict.held, verdict.reason
