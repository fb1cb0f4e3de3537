"""§3.1  Architecture selection."""

import pytest

from bnlab import BATCHNORM, Definition
from bnlab.paper import BASIC, BOTTLENECK, facts


@pytest.mark.claim("§3.1", "§4.2")
def test_resnet34_and_resnet101_are_deeper_versions(judge):
    """ResNet34 has the blocks and widths of ResNet18, and ResNet101 those of ResNet50, only more of them.

    "Hence, ResNet34 can be viewed as a deeper version of ResNet18, and the same can be said of the pair ResNet101 and
    ResNet50." (§3.1) "ResNet101 is a deeper version of ResNet50 with the same bottleneck block structure." (§4.2)
    """
    basic, bottleneck = facts(BATCHNORM, BASIC), facts(BATCHNORM, BOTTLENECK)

    verdict = judge(
        Definition(),
        (basic.block_channels, basic.blocks, bottleneck.block_channels, bottleneck.blocks),
        (2 * basic.block_channels[:1], (8, 16), 2 * bottleneck.block_channels[:1], (16, 33)),
    )

    assert verdict.held, verdict.reason
