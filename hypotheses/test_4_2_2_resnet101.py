"""§4.2.2  ResNet101."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Every,
    NonInferiority,
    Ordering,
    Pooled,
    ResNet,
    Superiority,
    points,
)
from bnlab.paper import BASIC, BY_STATISTICS, NORMS, arms, replicates_table

statistics = pytest.mark.parametrize("metric", BY_STATISTICS, ids=["running", "recalibrated"])


@pytest.mark.claim("§4.2.2, Table 7")
def test_table_7_replicates(lab, judge):
    """On ResNet101, every arm reaches the accuracy that Table 7 gives for it.

    "Table 7: ResNet101 experimental results" (§4.2.2)
    """
    verdict = judge(replicates_table(lab, ResNet(101), margin=points(2.0)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Tables 5 and 7")
def test_resnet101_is_analogous_to_resnet50(lab, judge):
    """Normalization gains about as much beside shift and scale on ResNet101 as on ResNet50.

    "The results in Table 7 for ResNet101 are analogous to what we observed for ResNet50." (§4.2.2)
    """
    batchnorm50 = arms(lab, BATCHNORM, ResNet(50))
    affine50 = arms(lab, AFFINE_LAYER, ResNet(50))
    batchnorm101 = arms(lab, BATCHNORM, ResNet(101))
    affine101 = arms(lab, AFFINE_LAYER, ResNet(101))

    verdict = judge(Pooled(Equivalence(margin=points(2.0))), batchnorm50, affine50, batchnorm101, affine101)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Tables 4, 6 and 7", reading="as written")
def test_each_normalization_is_worse(lab, judge):
    """Every arm is less accurate on ResNet101 than on ResNet18 and ResNet34, at both batch sizes.

    "In this case, the performance for each normalization is worse than ResNet18 or ResNet34 and, crucially, the
    drop-off for BatchNorm-minus is large." (§4.2.2)
    """
    shallower = arms(lab, NORMS, BASIC)
    resnet101 = arms(lab, NORMS, ResNet(101))

    verdict = judge(Every(Superiority()), shallower, 2 * resnet101)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Tables 4, 6 and 7", reading="corrected")
def test_unnormalized_arms_are_no_worse(lab, judge):
    """The arms that do not normalize are no less accurate on ResNet101 than on ResNet18 and ResNet34."""
    resnet101 = arms(lab, (AFFINE_LAYER, NONE), ResNet(101))
    shallower = arms(lab, (AFFINE_LAYER, NONE), BASIC)

    verdict = judge(Every(NonInferiority(margin=points(1.0))), 2 * resnet101, shallower)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Tables 4, 6 and 7", reading=BY_STATISTICS)
@statistics
def test_drop_off_of_batchnorm_minus_is_large(lab, judge, metric):
    """BatchNorm-minus is clearly less accurate on ResNet101 than on ResNet18 and ResNet34, at both batch sizes.

    "... crucially, the drop-off for BatchNorm-minus is large." (§4.2.2)
    """
    shallower = arms(lab, BATCHNORM_MINUS, BASIC, metric=metric)
    resnet101 = arms(lab, BATCHNORM_MINUS, ResNet(101), metric=metric)

    verdict = judge(Every(Superiority(by=points(3.0))), shallower, 2 * resnet101)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Table 7", reading=BY_STATISTICS)
@statistics
def test_affine_layer_is_the_best_performer(lab, judge, metric):
    """On ResNet101, AffineLayer is more accurate than every other arm, at both batch sizes.

    "AffineLayer is the best performer in this case." (§4.2.2)
    """
    affine_layer = arms(lab, AFFINE_LAYER, ResNet(101), metric=metric)
    batchnorm = arms(lab, BATCHNORM, ResNet(101), metric=metric)
    minus = arms(lab, BATCHNORM_MINUS, ResNet(101), metric=metric)
    none = arms(lab, NONE, ResNet(101), metric=metric)

    verdict = judge(Every(Ordering()), affine_layer, batchnorm, minus, none)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Table 7")
def test_batchnorm_minus_is_the_worst_performer(lab, judge):
    """On ResNet101, every other arm is more accurate than BatchNorm-minus, at both batch sizes.

    "In fact, BatchNorm-minus would provide the tightest ICS control, and it gives us the worst results in this case."
    (§4.2.2)
    """
    others = arms(lab, (BATCHNORM, AFFINE_LAYER, NONE), ResNet(101))
    minus = arms(lab, BATCHNORM_MINUS, ResNet(101))

    verdict = judge(Every(Superiority()), others, 3 * minus)

    assert verdict.held, verdict.reason
