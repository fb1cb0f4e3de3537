"""§2.4.7  Decorrelated batch normalization."""

import pytest

from bnlab import BATCHNORM, Definition, Norm, Superiority, describe_effects, replace
from bnlab.formulas import (
    angle_of_principal_axes,
    covariance_after_whitening,
    covariance_squared,
    distance_of_whitening,
)
from bnlab.paper import related

DECORRELATED = Norm(layer="bnlab.norms.whitening:DecorrelatedBatchNorm", options={"group_size": 4})
STEM = Norm(layer="bnlab.norms.whitening:decorrelated_stem", name="decorrelated stem")
STEM_MINUS = replace(STEM, options={"scale": False, "shift": False}, name="decorrelated stem, minus")


@pytest.mark.claim("§2.4.7")
def test_batchnorm_scales_and_standardizes_but_does_not_decorrelate(judge):
    """BatchNorm gives channels mean 0 and variance 1, and leaves them correlated, which Decorrelated BN does not.

    "One of the motivations behind the development of BatchNorm was the idea that inputs to the activations should be
    whitened, which requires scaling, standardizing, and decorrelating. BatchNorm however only implements the first two
    ..." (§2.4.7)
    """
    batchnorm, whitened = describe_effects(BATCHNORM), describe_effects(DECORRELATED)
    found = ((batchnorm.standardises, batchnorm.decorrelates), (whitened.standardises, whitened.decorrelates))

    verdict = judge(Definition(), found, ((True, False), (True, True)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.7")
def test_zca_does_not_rotate_the_axes(judge):
    """Of the rotations of a whitened sample, the one by 0 degrees changes it less than PCA's by 22.5 degrees.

    "This process involves scaling along eigenvectors, and is similar to Principal Component Analysis, except that it
    but does not rotate the coordinate axes." (§2.4.7)
    """
    angle = angle_of_principal_axes()

    verdict = judge(Definition(), (angle, distance_of_whitening(0) < distance_of_whitening(angle)), (-22.5, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.7", reading="as written")
def test_the_square_root_of_the_covariance_whitens(judge):
    """The square root of the covariance matrix takes a sample to the identity as its covariance.

    "The authors use the transformation x̂_i = Σ^{1/2} (x_i − μ) where μ is the mean of the mini-batch and Σ is the
    covariance matrix of the mini-batch." (§2.4.7)
    """
    verdict = judge(Definition(), covariance_after_whitening(0.5), ((1.0, 0.0), (0.0, 1.0)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.7", reading="corrected")
def test_the_inverse_square_root_of_the_covariance_whitens(judge):
    """The inverse square root takes a sample to the identity, where the square root squares its covariance."""
    found = (covariance_after_whitening(-0.5), covariance_after_whitening(0.5))

    verdict = judge(Definition(), found, (((1.0, 0.0), (0.0, 1.0)), covariance_squared()))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.7")
def test_whitening_improves_on_batchnorm(lab, judge):
    """On ResNet-20, whitening in place of the first BatchNorm, as the authors of [8] trained ResNets, is more accurate.

    "Testing on CIFAR10, and the more challenging CIFAR100 dataset, using ResNet the authors of [8] note that the
    whitening process creates an improvement in performance over vanilla BatchNorm." (§2.4.7)
    """
    whitened = lab.train(related(STEM))
    batchnorm = lab.train(related(BATCHNORM))

    verdict = judge(Superiority(), whitened.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.7")
def test_shift_and_scale_improve_whitening(lab, judge):
    """On ResNet-20 with the whitened stem, shift and scale in its norms gain accuracy.

    "They also recommend including shift and scale parameters, since these also improved performance." (§2.4.7)
    """
    whitened = lab.train(related(STEM))
    minus = lab.train(related(STEM_MINUS))

    verdict = judge(Superiority(), whitened.accuracy, minus.accuracy)

    assert verdict.held, verdict.reason
