"""§2.4  Related work: formulas, as printed and corrected."""

import pytest

from bnlab import Definition
from bnlab.formulas import (
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
