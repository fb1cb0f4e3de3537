"""§2.4.11  Instance normalization."""

import pytest

from bnlab import BATCHNORM, NONE, Definition, Norm, Superiority, describe_layer, points, same_layer
from bnlab.paper import related

INSTANCENORM = Norm(layer="bnlab.norms.instancenorm:InstanceNorm")
ONE_CHANNEL_A_GROUP = Norm(layer="bnlab.norms.groupnorm:GroupNorm", options={"groups": 8})


@pytest.mark.claim("§2.4.11")
def test_instancenorm_is_layernorm_for_each_channel(judge):
    """InstanceNorm is a LayerNorm over each of eight channels by itself, and looks at no other image.

    "InstanceNorm is a variation of LayerNorm that works across RGB channels instead of features [27]." (§2.4.11)
    """
    found = (same_layer(INSTANCENORM, ONE_CHANNEL_A_GROUP), describe_layer(INSTANCENORM).looks_at_batch)

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.11", reading="as written")
def test_instancenorm_maximizes_contrast(judge):
    """The map with the most contrast leaves InstanceNorm with more than it had.

    "This is an attempt at maximizing contrast within images and it has been applied with success to GANs." (§2.4.11)
    """
    verdict = judge(Definition(), describe_layer(INSTANCENORM).raises_contrast, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.11", reading="corrected")
def test_instancenorm_takes_contrast_away(judge):
    """Whatever contrast and brightness each channel of each image has, InstanceNorm gives the same."""
    instancenorm = describe_layer(INSTANCENORM)

    verdict = judge(
        Definition(),
        (instancenorm.ignores_scale_of_maps, describe_layer(BATCHNORM).ignores_scale_of_maps),
        (True, False),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.11", reading="control")
def test_instancenorm_leaves_nothing_to_global_pooling(judge):
    """The mean of every map is 0 behind an untrained InstanceNorm, other than behind BatchNorm."""
    found = (describe_layer(INSTANCENORM).centres_maps, describe_layer(BATCHNORM).centres_maps)

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.11", "§1")
def test_instancenorm_improves_on_none(lab, judge):
    """On ResNet-20, InstanceNorm is more accurate than None.

    "... normalization over layers, weights, and color channels each provide improvement, as compared to a standard
    model with no normalization." (§1)
    """
    verdict = judge(Superiority(), lab.train(related(INSTANCENORM)).accuracy, lab.train(related(NONE)).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.11", reading="control")
def test_instancenorm_trails_batchnorm(lab, judge):
    """On ResNet-20, InstanceNorm is less accurate than BatchNorm by more than a point."""
    batchnorm, instancenorm = lab.train(related(BATCHNORM)).accuracy, lab.train(related(INSTANCENORM)).accuracy

    verdict = judge(Superiority(by=points(1.0)), batchnorm, instancenorm)

    assert verdict.held, verdict.reason
