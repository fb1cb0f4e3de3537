"""§4.1.2  ResNet50: the arms compared."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Every,
    Ordering,
    ResNet,
    Stability,
    Superiority,
    nats,
    points,
    train_loss,
)
from bnlab.paper import BY_STATISTICS, arms, replicates_table

statistics = pytest.mark.parametrize("metric", BY_STATISTICS, ids=["running", "recalibrated"])


@pytest.mark.claim("§4.1.2, Table 5")
def test_table_5_replicates(lab, judge):
    """On ResNet50, every arm reaches the accuracy that Table 5 gives for it.

    "As can be observed by comparing Table 5 to Table 4, we obtain much different results with ResNet50 as compared to
    ResNet18." (§4.1.2)
    """
    verdict = judge(replicates_table(lab, ResNet(50), margin=points(2.0)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", reading=BY_STATISTICS)
@statistics
def test_batchnorm_minus_drops_dramatically(lab, judge, metric):
    """The accuracy of BatchNorm-minus drops dramatically from ResNet18 to ResNet50, at both batch sizes.

    "Specifically, the performance of BatchNorm-minus dropped dramatically, while BatchNorm is the best performer in the
    ResNet50 case." (§4.1.2)
    """
    resnet18 = arms(lab, BATCHNORM_MINUS, ResNet(18), metric=metric)
    resnet50 = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)

    verdict = judge(Every(Superiority(by=points(3.0))), resnet18, resnet50)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading=BY_STATISTICS)
@statistics
def test_batchnorm_is_the_best_performer(lab, judge, metric):
    """On ResNet50, BatchNorm is more accurate than every other arm, at both batch sizes.

    "... while BatchNorm is the best performer in the ResNet50 case." (§4.1.2)
    """
    batchnorm = arms(lab, BATCHNORM, ResNet(50), metric=metric)
    affine_layer = arms(lab, AFFINE_LAYER, ResNet(50), metric=metric)
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)
    none = arms(lab, NONE, ResNet(50), metric=metric)

    verdict = judge(Every(Ordering()), batchnorm, affine_layer, minus, none)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2", reading="as written")
def test_batchnorm_minus_has_trouble_converging(lab, judge):
    """On ResNet50, BatchNorm-minus is left with a clearly higher training loss than BatchNorm.

    "Lacking those additional training parameters, BatchNorm-minus has trouble converging, and even under-performs the
    case where no normalization is used." (§4.1.2)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=train_loss)
    batchnorm = arms(lab, BATCHNORM, ResNet(50), metric=train_loss)

    verdict = judge(Every(Superiority(by=nats(0.2))), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2", reading="corrected")
def test_runs_of_batchnorm_minus_collapse(lab, judge):
    """On ResNet50, fewer Runs of BatchNorm than of BatchNorm-minus diverge or collapse, at both batch sizes."""
    batchnorm = arms(lab, BATCHNORM, ResNet(50))
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50))

    verdict = judge(Every(Stability()), batchnorm, minus)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading=BY_STATISTICS)
@statistics
def test_batchnorm_minus_underperforms_none(lab, judge, metric):
    """On ResNet50, BatchNorm-minus is less accurate than None, at both batch sizes.

    "... and even under-performs the case where no normalization is used." (§4.1.2)
    """
    none = arms(lab, NONE, ResNet(50), metric=metric)
    minus = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)

    verdict = judge(Every(Superiority()), none, minus)

    assert verdict.held, verdict.reason
