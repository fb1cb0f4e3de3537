"""§2.4.1  Refuting ICS: noise behind BatchNorm, and gradients before and after the update of earlier layers."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Definition,
    Every,
    NonInferiority,
    Norm,
    Superiority,
    log_ratio,
    log_reading,
    points,
)
from bnlab.formulas import shift_and_correlation
from bnlab.paper import SMALLEST_RATIO, VGG, first_epoch, related

NOISY = Norm(layer="bnlab.norms.noisy:NoisyBatchNorm")
SETUP = {"net": VGG, "epochs": 6, "optimizer": "sgd", "lr": 0.1}  # of [21]: plain SGD, 3,000 steps

uncorrelated = log_reading("1 - cosine of G and G'", above="covariate_shift/uncorrelated")
shift = log_reading("shift from G to G' / length of G", above="covariate_shift/relative")
more_than_nothing = Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)


@pytest.mark.claim("§2.4.1", "§1")
def test_noise_behind_batchnorm_costs_no_accuracy(lab, judge):
    """VGG-11 with noise behind every BatchNorm is as accurate as with BatchNorm alone.

    "These experiments showed that there was no drop in performance between the noise-injected network and the one with
    standard BatchNorm." (§2.4.1)
    """
    noisy, batchnorm = lab.train(related(NOISY, **SETUP)), lab.train(related(BATCHNORM, **SETUP))

    verdict = judge(NonInferiority(margin=points(1.0)), noisy.accuracy, batchnorm.accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1")
def test_vgg_without_batchnorm_trails_even_noisy_batchnorm(lab, judge):
    """VGG-11 is more accurate with BatchNorm, noise behind it or not, than with None.

    "In addition, both networks significantly outperformed a VGG neural net that did not use BatchNorm." (§2.4.1)
    """
    noisy, batchnorm = lab.train(related(NOISY, **SETUP)), lab.train(related(BATCHNORM, **SETUP))
    none = lab.train(related(NONE, **SETUP)).accuracy

    verdict = judge(Every(Superiority()), (noisy.accuracy, batchnorm.accuracy), (none, none))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1")
def test_noise_brings_covariate_shift_back(lab, judge):
    """On VGG-11, the update of earlier layers moves a layer's gradient further with noise behind BatchNorm.

    "... these experiments show that BatchNorm improves the performance of VGG, even when ICS is increasing." (§2.4.1)
    """
    noisy = lab.train(related(NOISY, **SETUP), probes=("covariate_shift",))
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("covariate_shift",))

    verdict = judge(more_than_nothing, noisy.measure(shift), batchnorm.measure(shift))

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


@pytest.mark.claim("§2.4.1", reading="as written")
def test_batchnorm_increases_the_correlation_of_gradients(lab, judge):
    """On VGG-11, the update of earlier layers turns a layer's gradient less with BatchNorm than with None.

    "However, the authors of [21] obtained the surprising result that a network with BatchNorm was increasing the
    correlation between these variables." (§2.4.1)
    """
    none = lab.train(related(NONE, **SETUP), probes=("covariate_shift",))
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("covariate_shift",))

    verdict = judge(more_than_nothing, none.measure(uncorrelated), batchnorm.measure(uncorrelated))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", reading="corrected")
def test_batchnorm_increases_covariate_shift(lab, judge):
    """On VGG-11, the update of earlier layers moves a layer's gradient further, for its length, with BatchNorm."""
    batchnorm = lab.train(related(BATCHNORM, **SETUP), probes=("covariate_shift",))
    none = lab.train(related(NONE, **SETUP), probes=("covariate_shift",))

    verdict = judge(more_than_nothing, batchnorm.measure(shift), none.measure(shift))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.1", "§4.2.2")
def test_batchnorm_minus_controls_covariate_shift_most_tightly(lab, judge):
    """In the first epoch of ResNet18, gradients move less with BatchNorm-minus than with BatchNorm or AffineLayer.

    "Since AffineLayer includes the two parameters that bring ICS back into the model, this is additional evidence that
    ICS reduction is not the reason for the success of BatchNorm. In fact, BatchNorm-minus would provide the tightest
    ICS control ..." (§4.2.2)
    """
    minus = first_epoch(lab, BATCHNORM_MINUS, shift, "covariate_shift")
    batchnorm = first_epoch(lab, BATCHNORM, shift, "covariate_shift")
    affine_layer = first_epoch(lab, AFFINE_LAYER, shift, "covariate_shift")

    verdict = judge(Every(more_than_nothing), (*batchnorm, *affine_layer), (*minus, *minus))

    assert verdict.held, verdict.reason
