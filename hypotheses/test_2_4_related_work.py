"""§2.4  Related work: formulas, as printed and corrected."""

import pytest

from bnlab import Definition
from bnlab.formulas import (
    covariance_after_whitening,
    covariance_squared,
    gap_between_domains,
)


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
