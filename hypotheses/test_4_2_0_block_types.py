"""§4.2  ResNet34 and ResNet101: the block type."""

import pytest

from bnlab import BATCHNORM, BATCHNORM_MINUS, Definition, Every, Interaction, ResNet, points
from bnlab.paper import BY_STATISTICS, arms, facts


@pytest.mark.claim("§4.2, Tables 5 and 6", reading=BY_STATISTICS)
@pytest.mark.parametrize("metric", BY_STATISTICS, ids=["running", "recalibrated"])
def test_bottleneck_blocks_benefit_from_batchnorm(lab, judge, metric):
    """BatchNorm's gain over BatchNorm-minus is clearly larger with ResNet50's blocks than with ResNet34's.

    "One possible explanation for this difference is that the bottleneck block of ResNet50—which is not present in
    ResNet18— benefits from BatchNorm. To test this hypothesis, in this section we consider a series of experiments
    involving ResNet34 and ResNet101." (§4.2)
    """
    batchnorm50 = arms(lab, BATCHNORM, ResNet(50), metric=metric)
    minus50 = arms(lab, BATCHNORM_MINUS, ResNet(50), metric=metric)
    batchnorm34 = arms(lab, BATCHNORM, ResNet(34), metric=metric)
    minus34 = arms(lab, BATCHNORM_MINUS, ResNet(34), metric=metric)

    verdict = judge(Every(Interaction(by=points(3.0))), batchnorm50, minus50, batchnorm34, minus34)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2", reading="as written")
def test_resnet34_and_resnet50_differ_in_the_block_type(judge):
    """ResNet34 and ResNet50 have the same number of residual blocks, in the one basic, in the other bottleneck.

    "ResNet34 has the same general structure as ResNet50 and the same number of residual blocks but uses basic blocks
    instead of bottleneck blocks. Thus, other than the difference in depth, the primary difference between ResNet34 and
    ResNet50 is the block type." (§4.2)
    """
    both = facts(BATCHNORM, (ResNet(34), ResNet(50)))

    verdict = judge(Definition(), (both.blocks, both.block), ((16, 16), ("basic", "bottleneck")))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2", reading="corrected")
def test_resnet34_and_resnet50_differ_in_width_too(judge):
    """Beside depth and block type, the stages of ResNet50 are four times as wide as those of ResNet34."""
    both = facts(BATCHNORM, (ResNet(34), ResNet(50)))

    verdict = judge(Definition(), both.widths, ((64, 128, 256, 512), (256, 512, 1024, 2048)))

    assert verdict.held, verdict.reason
