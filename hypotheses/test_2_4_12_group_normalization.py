"""§2.4.12  Group normalization."""

import pytest

from bnlab import BATCHNORM, Definition, Norm, Superiority, describe_layer, points, replace, same_layer
from bnlab.paper import related

GROUPNORM = Norm(layer="bnlab.norms.groupnorm:GroupNorm", options={"groups": 8})
ONE_GROUP = replace(GROUPNORM, options={"groups": 1})
LAYERNORM = Norm(layer="bnlab.norms.layernorm:LayerNorm")
INSTANCENORM = Norm(layer="bnlab.norms.instancenorm:InstanceNorm")
PAIRS = Norm(layer="bnlab.norms.ghost:GhostBatchNorm", options={"size": 2}, name="BatchNorm of pairs")


@pytest.mark.claim("§2.4.12")
def test_groupnorm_does_not_look_at_the_batch(judge):
    """GroupNorm gives an image the same in every batch, of any size, in training and in evaluation.

    "GroupNorm, does not normalize in batches, but instead normalizes along the feature dimension by considering groups
    of features." (§2.4.12)
    """
    groupnorm = describe_layer(replace(GROUPNORM, options={"groups": 2}))

    verdict = judge(Definition(), (groupnorm.looks_at_batch, groupnorm.evaluates_as_it_trains), (False, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.12", reading="control")
def test_groupnorm_lies_between_layernorm_and_instancenorm(judge):
    """With one group GroupNorm is LayerNorm, and with as many groups as channels, here eight, it is InstanceNorm."""
    found = (same_layer(ONE_GROUP, LAYERNORM), same_layer(GROUPNORM, INSTANCENORM), same_layer(GROUPNORM, LAYERNORM))

    verdict = judge(Definition(), found, (True, True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.12", "§2.1.3")
def test_batchnorm_requires_larger_batches_than_pairs(lab, judge):
    """On ResNet-20, BatchNorm is more accurate with the statistics of 100 images than with those of pairs of images.

    "For high-resolution images, smaller batches of size one or two are preferred, whereas BatchNorm requires larger
    batch sizes to perform well." (§2.4.12; steps are taken on 100 images either way)
    """
    verdict = judge(Superiority(), lab.train(related(BATCHNORM)).accuracy, lab.train(related(PAIRS)).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.12")
def test_groupnorm_beats_batchnorm_of_pairs(lab, judge):
    """On ResNet-20, GroupNorm is clearly more accurate than BatchNorm with the statistics of pairs of images.

    "GroupNorm has been shown to work well for batches of size two, and it may enhance object segmentation and
    detection." (§2.4.12)
    """
    groupnorm, pairs = lab.train(related(GROUPNORM)).accuracy, lab.train(related(PAIRS)).accuracy

    verdict = judge(Superiority(by=points(3.0)), groupnorm, pairs)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.12", reading="control")
def test_batchnorm_of_large_batches_is_better_than_groupnorm(lab, judge):
    """On ResNet-20 at batch 100, BatchNorm is more accurate than GroupNorm."""
    verdict = judge(Superiority(), lab.train(related(BATCHNORM)).accuracy, lab.train(related(GROUPNORM)).accuracy)

    assert verdict.held, verdict.reason
