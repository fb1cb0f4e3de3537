"""§2.4  Related work: formulas, as printed and corrected."""

import pytest

from bnlab import Definition
from bnlab.formulas import (
    covariance_after_whitening,
    covariance_squared,
    gap_between_domains,
    sharpest_bend,
    shift_and_correlation,
    steepest_slope,
)


@pytest.mark.claim("§2.4.1", reading="as written")
def test_a_larger_lipschitz_constant_means_a_smoother_function(judge):
    """Of two sines, the one with the larger Lipschitz constant K bends less.

    "A larger K implies a smoother loss function, which is a good thing with respect to convergence via gradient
    descent." (§2.4.1)
    """
    found = (steepest_slope(4.0) > steepest_slope(1.0), sharpest_bend(4.0) < sharpest_bend(1.0))

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="corrected")
def test_a_smaller_lipschitz_constant_means_a_smoother_function(judge):
    """Of two sines, the one with the smaller Lipschitz constant K bends less."""
    found = (steepest_slope(1.0) < steepest_slope(4.0), sharpest_bend(1.0) < sharpest_bend(4.0))

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="as written")
def test_less_covariate_shift_means_less_correlation(judge):
    """Gradients before and after an update that differ by less have the smaller cosine similarity.

    "If BatchNorm was indeed reducing ICS, as defined by the metric in the previous paragraph, then the use of BatchNorm
    layers would decrease the correlation between G and G' since BatchNorm would cause less cross-layer dependency."
    (§2.4.1)
    """
    (less, of_less), (more, of_more) = shift_and_correlation(0.2), shift_and_correlation(1.2)

    verdict = judge(Definition(), (less < more, of_less < of_more), (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="corrected")
def test_less_covariate_shift_means_more_correlation(judge):
    """Gradients before and after an update that differ by less have the larger cosine similarity."""
    (less, of_less), (more, of_more) = shift_and_correlation(0.2), shift_and_correlation(1.2)

    verdict = judge(Definition(), (less < more, of_less > of_more), (True, True))

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


@pytest.mark.claim("§2.4.9", reading="as written")
def test_alpha_of_one_leaves_domains_unaligned(judge):
    """AutoDIAL leaves two domains further apart at alpha = 1 than at alpha = 0.5.

    "If α = 1, then the domains are not aligned while α = 0.5 indicates that they are partially aligned." (§2.4.9)
    """
    verdict = judge(Definition(), gap_between_domains(1.0) > gap_between_domains(0.5), True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.9", reading="corrected")
def test_alpha_of_one_aligns_domains(judge):
    """AutoDIAL takes both domains to the same mean at alpha = 1, and leaves them furthest apart at alpha = 0.5."""
    gaps = (gap_between_domains(1.0), gap_between_domains(1.0) < gap_between_domains(0.75) < gap_between_domains(0.5))

    verdict = judge(Definition(), gaps, (0.0, True))

    assert verdict.held, verdict.reason
