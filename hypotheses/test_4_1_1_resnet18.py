"""§4.1.1  ResNet18."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Every,
    Interaction,
    Pooled,
    ResNet,
    Superiority,
    mean_accuracy,
    points,
)
from bnlab.paper import NORMS, arms, replicates_table


@pytest.mark.claim("§4.1.1, Table 4")
def test_table_4_replicates(lab, judge):
    """On ResNet18, every arm reaches the accuracy that Table 4 gives for it.

    "Table 4 compares the four normalization—in terms of validation accuracy—based on the average of four different
    runs of each." (§4.1.1)
    """
    verdict = judge(replicates_table(lab, ResNet(18), margin=points(2.0)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", "§4.4", reading="as written")
def test_batch_sizes_differ_marginally(lab, judge):
    """On ResNet18, every arm is about as accurate with a batch of 20 as with one of 50.

    "The differences between batch sizes of 20 and 50 are marginal." (§4.1.1)
    """
    batch20 = arms(lab, NORMS, ResNet(18), 20)
    batch50 = arms(lab, NORMS, ResNet(18), 50)

    verdict = judge(Every(Equivalence(margin=points(2.0))), batch20, batch50)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", reading="corrected")
def test_none_gains_from_the_larger_batch(lab, judge):
    """On ResNet18, None is more accurate with a batch of 50 than with one of 20."""
    batch50 = arms(lab, NONE, ResNet(18), 50)
    batch20 = arms(lab, NONE, ResNet(18), 20)

    verdict = judge(Superiority(), *batch50, *batch20)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", reading="as written")
def test_batchnorm_minus_is_slightly_better_than_batchnorm(lab, judge):
    """On ResNet18, BatchNorm-minus is more accurate than BatchNorm by up to two points, at both batch sizes.

    "From Table 4 we observe that BatchNorm-minus achieves slightly better results than BatchNorm." (§4.1.1)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(18))
    batchnorm = arms(lab, BATCHNORM, ResNet(18))

    verdict = judge(Every(Superiority(), Equivalence(margin=points(2.0))), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", reading="corrected")
def test_batchnorm_minus_matches_batchnorm(lab, judge):
    """On ResNet18, BatchNorm without shift and scale is as accurate as BatchNorm."""
    minus = arms(lab, BATCHNORM_MINUS, ResNet(18))
    batchnorm = arms(lab, BATCHNORM, ResNet(18))

    verdict = judge(Pooled(Equivalence(margin=points(1.0))), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4")
def test_smaller_batches_speed_up_batchnorm_minus_more_than_batchnorm(lab, judge):
    """On ResNet18, a batch of 20 instead of 50 speeds up BatchNorm-minus by more than BatchNorm.

    "This suggests that for ResNet18, it may be better to use BatchNorm-minus, since a smaller batch sizes have been
    empirically linked to improved convergence properties [12]." (§4.1.1)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(18), metric=mean_accuracy)
    batchnorm = arms(lab, BATCHNORM, ResNet(18), metric=mean_accuracy)

    verdict = judge(Interaction(), *minus, *batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", reading="as written")
def test_normalization_matters_more_than_shift_and_scale(lab, judge):
    """On ResNet18, normalization alone gains more over None than shift and scale alone, at both batch sizes.

    "Also, for ResNet18, our BatchNorm-minus results provide evidence that the shift and scale parameters are not as
    important as the normalization step." (§4.1.1)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(18))
    affine_layer = arms(lab, AFFINE_LAYER, ResNet(18))

    verdict = judge(Every(Superiority()), minus, affine_layer)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1", "§2.1.1", reading="control")
def test_normalization_matters_more_than_shift_and_scale_per_layer(lab, judge):
    """On ResNet18, normalization alone gains more over None than one shift and one scale per layer.

    "... where γ_ℓ and β_ℓ are per-layer parameters that are updated through backpropagation, alongside the weights."
    (§2.1.1)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(18))
    per_layer = arms(lab, AFFINE_PER_LAYER, ResNet(18))

    verdict = judge(Every(Superiority()), minus, per_layer)

    assert verdict.held, verdict.reason
