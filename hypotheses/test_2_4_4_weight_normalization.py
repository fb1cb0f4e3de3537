"""§2.4.4  Weight normalization and BatchNorm."""

import pytest

from bnlab import BATCHNORM, NONE, Definition, NonInferiority, Norm, Part, Superiority, describe_effects, points
from bnlab.paper import facts, related

WEIGHT_NORM = Part(code="torch.nn.utils.parametrizations:weight_norm", name="WeightNorm")
FROM_DATA = Part(code="bnlab.nets.from_data:initialise", name="from data")
MEAN_ONLY = Norm(layer="bnlab.norms.mean_only:MeanOnlyBatchNorm", name="mean-only BatchNorm")


@pytest.mark.claim("§2.4.4", reading="as written")
def test_weight_norm_works_per_batch(judge):
    """In training, what an image gets from WeightNorm depends on the other images of the batch, as with BatchNorm.

    "This WeightNorm approach works per batch, similar to BatchNorm ..." (§2.4.4)
    """
    found = (describe_effects(BATCHNORM).depends_on_batch, describe_effects(NONE, WEIGHT_NORM).depends_on_batch)

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4", reading="corrected")
def test_weight_norm_does_not_look_at_the_batch(judge):
    """In training, what an image gets from WeightNorm is the same in every batch, other than with BatchNorm."""
    found = (describe_effects(BATCHNORM).depends_on_batch, describe_effects(NONE, WEIGHT_NORM).depends_on_batch)

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4")
def test_weight_norm_is_less_noisy(judge):
    """What an image gets varies over batches less with WeightNorm, even with mean-only BatchNorm, than with BatchNorm.

    "... but claims to be less noisy ..." (§2.4.4)
    """
    weight_norm = describe_effects(NONE, WEIGHT_NORM).noise
    mean_only = describe_effects(MEAN_ONLY, WEIGHT_NORM).noise
    batchnorm = describe_effects(BATCHNORM).noise

    verdict = judge(Definition(), (weight_norm == 0, 0 < mean_only < batchnorm), (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4", reading="as written")
def test_weight_norm_normalizes_fewer_numbers_than_batchnorm(judge):
    """On the paper's networks, a step at batch 50 has WeightNorm normalize fewer numbers than BatchNorm.

    "... and more computationally efficient, especially for shallower networks." (§2.4.4)
    """
    batches = facts(BATCHNORM).heavier_than_kernels

    verdict = judge(Definition(), max(batches) <= 50, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4", reading="corrected")
def test_weight_norm_normalizes_fewer_numbers_in_large_batches(judge):
    """WeightNorm normalizes fewer numbers a step than BatchNorm from batches of 221, 279, 104 and 128 images on.

    It normalizes the weights once a step and BatchNorm every activation of every image, and images of 32x32 leave these
    networks small maps. In order of depth the networks are ResNet18, 34, 50 and 101.
    """
    batches = facts(BATCHNORM).heavier_than_kernels

    verdict = judge(Definition(), batches, (221, 279, 104, 128))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4")
def test_weight_norm_decouples_direction_from_length(judge):
    """With WeightNorm the length of v changes nothing, and its gradient is at a right angle to it; not without.

    "The authors of WeightNorm emphasize that one advantage of their normalization is that it decouples the direction of
    the weight vector from its magnitude ..." (§2.4.4)
    """
    found = (describe_effects(NONE, WEIGHT_NORM).decouples, describe_effects(NONE).decouples)

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4")
def test_mean_only_batchnorm_centers_gradients(judge):
    """Mean-only BatchNorm gives each channel and its gradient a mean of 0 over the batch, and leaves its variance.

    "The authors of [20] combine this with a form of BatchNorm, meant only to center the gradients." (§2.4.4)
    """
    mean_only = describe_effects(MEAN_ONLY)
    found = (mean_only.centres, mean_only.centres_gradient, mean_only.keeps_variance, mean_only.standardises)

    verdict = judge(Definition(), found, (True, True, True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4", "§2.4.5")
def test_weight_norm_performs_as_well_as_batchnorm(lab, judge):
    """On ResNet-20, WeightNorm that starts from data is as accurate as BatchNorm, or more.

    "... and this has led to speculation that the performance of BatchNorm is also due to this property [14]." (§2.4.4)
    """
    weight_norm = lab.train(related(NONE, init=FROM_DATA, parametrization=WEIGHT_NORM))
    batchnorm = lab.train(related(BATCHNORM))

    verdict = judge(NonInferiority(margin=points(1.0)), weight_norm.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.4", "§1")
def test_weight_norm_improves_on_no_normalization(lab, judge):
    """On ResNet-20, WeightNorm that starts from data is more accurate than None.

    "... normalization over layers, weights, and color channels each provide improvement, as compared to a standard
    model with no normalization" (§1)
    """
    weight_norm = lab.train(related(NONE, init=FROM_DATA, parametrization=WEIGHT_NORM))
    none = lab.train(related(NONE))

    verdict = judge(Superiority(), weight_norm.accuracy, none.accuracy)

    assert verdict.held, verdict.reason
