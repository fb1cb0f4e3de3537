"""§2.4.10  Layer normalization."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Equivalence,
    NonInferiority,
    Norm,
    Superiority,
    describe_layer,
    log_reading,
    points,
)
from bnlab.paper import FACTOR_OF_TWO, related

LAYERNORM = Norm(layer="bnlab.norms.layernorm:LayerNorm")
SIMPLE = Norm(layer=LAYERNORM.layer, options={"scale": False, "shift": False}, name="LayerNorm-simple")

shift = log_reading("shift from G to G' / length of G", above="covariate_shift/relative")


@pytest.mark.claim("§2.4.10")
def test_layernorm_needs_features_of_similar_scale(judge):
    """Rescaling single features changes what LayerNorm makes of all of them, rescaling all alike does not.

    "This works best when the features are similar to each other in scale." (§2.4.10)
    """
    layernorm, batchnorm = describe_layer(LAYERNORM), describe_layer(BATCHNORM)
    found = (layernorm.ignores_scale_of_channels, layernorm.ignores_scale_of_images)
    beside = (batchnorm.ignores_scale_of_channels, batchnorm.ignores_scale_of_images)

    verdict = judge(Definition(), (found, beside), ((False, True), (True, False)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10", reading="as written")
def test_layernorm_does_not_depend_on_the_layer_before(judge):
    """What LayerNorm gives does not change with the scales that the layer before gives its channels, BatchNorm's does.

    "Since it functions per layer, unlike BatchNorm, there are no dependencies between layers ..." (§2.4.10)
    """
    found = (
        describe_layer(LAYERNORM).ignores_scale_of_channels,
        describe_layer(BATCHNORM).ignores_scale_of_channels,
    )

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10", reading="corrected")
def test_layernorm_does_not_depend_on_the_other_images(judge):
    """What LayerNorm gives an image does not depend on the batch, in training and evaluation, as BatchNorm's does."""
    layernorm, batchnorm = describe_layer(LAYERNORM), describe_layer(BATCHNORM)
    found = (layernorm.looks_at_batch, layernorm.evaluates_as_it_trains)
    beside = (batchnorm.looks_at_batch, batchnorm.evaluates_as_it_trains)

    verdict = judge(Definition(), (found, beside), ((False, True), (True, False)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10")
def test_layernorm_does_not_decrease_covariate_shift(lab, judge):
    """On ResNet-20, updates of earlier layers move a layer's gradient with LayerNorm at least half as far as with None.

    "... and hence LayerNorm would not be expected to result in any decrease of ICS within a network." (§2.4.10)
    """
    layernorm = lab.train(related(LAYERNORM), probes=("covariate_shift",))
    none = lab.train(related(NONE), probes=("covariate_shift",))

    verdict = judge(NonInferiority(margin=FACTOR_OF_TWO), layernorm.measure(shift), none.measure(shift))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10", "§1")
def test_layernorm_improves_on_none(lab, judge):
    """On ResNet-20, LayerNorm is more accurate than None.

    "... normalization over layers, weights, and color channels each provide improvement, as compared to a standard
    model with no normalization." (§1)
    """
    verdict = judge(Superiority(), lab.train(related(LAYERNORM)).accuracy, lab.train(related(NONE)).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10", reading="control")
def test_layernorm_trails_batchnorm(lab, judge):
    """On ResNet-20, LayerNorm is less accurate than BatchNorm by more than a point."""
    batchnorm, layernorm = lab.train(related(BATCHNORM)).accuracy, lab.train(related(LAYERNORM)).accuracy

    verdict = judge(Superiority(by=points(1.0)), batchnorm, layernorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.10", reading="control")
def test_layernorm_needs_no_shift_and_scale(lab, judge):
    """On ResNet-20, LayerNorm without shift and scale is as accurate as LayerNorm, as [27] found in other networks."""
    simple, layernorm = lab.train(related(SIMPLE)).accuracy, lab.train(related(LAYERNORM)).accuracy

    verdict = judge(Equivalence(margin=points(1.0)), simple, layernorm)

    assert verdict.held, verdict.reason
