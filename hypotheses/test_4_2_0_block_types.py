"""§4.2  ResNet34 and ResNet101: the block type."""

import pytest

from bnlab import (
    BATCHNORM,
    BATCHNORM_MINUS,
    Definition,
    Interaction,
    ResNet,
    RunSpec,
    batch_accuracy,
    describe,
    points,
    recalibrated_accuracy,
    replace,
)

batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)


@pytest.mark.claim("§4.2, Tables 5 and 6", published={20: +18.74, 50: +8.87}, reading="as written")
@batch_sizes
def test_bottleneck_blocks_benefit_from_batchnorm(lab, judge, batch_size):
    """BatchNorm's gain over BatchNorm-minus is clearly larger with ResNet50's blocks than with ResNet34's."""
    batchnorm34 = RunSpec(net=ResNet(34), norm=BATCHNORM, batch_size=batch_size)
    batchnorm50 = replace(batchnorm34, net=ResNet(50))
    minus34 = replace(batchnorm34, norm=BATCHNORM_MINUS)
    minus50 = replace(batchnorm50, norm=BATCHNORM_MINUS)

    verdict = judge(
        Interaction(by=points(3.0)),
        lab.train(batchnorm50).accuracy,
        lab.train(minus50).accuracy,
        lab.train(batchnorm34).accuracy,
        lab.train(minus34).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2, Tables 5 and 6", reading="corrected")
@batch_sizes
@pytest.mark.parametrize("metric", [recalibrated_accuracy, batch_accuracy], ids=["recalibrated", "of-the-batch"])
def test_bottleneck_blocks_benefit_whichever_statistics_are_tested_with(lab, judge, metric, batch_size):
    """Bottleneck blocks benefit clearly more from BatchNorm than basic blocks even without stale running statistics."""
    batchnorm34 = RunSpec(net=ResNet(34), norm=BATCHNORM, batch_size=batch_size)
    batchnorm50 = replace(batchnorm34, net=ResNet(50))
    minus34 = replace(batchnorm34, norm=BATCHNORM_MINUS)
    minus50 = replace(batchnorm50, norm=BATCHNORM_MINUS)

    verdict = judge(
        Interaction(by=points(3.0)),
        lab.train(batchnorm50).measure(metric),
        lab.train(minus50).measure(metric),
        lab.train(batchnorm34).measure(metric),
        lab.train(minus34).measure(metric),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2", reading="as written")
def test_resnet34_and_resnet50_differ_in_the_block_type(judge):
    """ResNet34 and ResNet50 have the same number of residual blocks, in the one basic, in the other bottleneck."""
    resnet34 = describe(ResNet(34), BATCHNORM)
    resnet50 = describe(ResNet(50), BATCHNORM)

    verdict = judge(
        Definition(),
        (resnet34.blocks, resnet34.block, resnet50.blocks, resnet50.block),
        (16, "basic", 16, "bottleneck"),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2", reading="corrected")
def test_resnet34_and_resnet50_differ_in_width_too(judge):
    """Beside depth and block type, the stages of ResNet50 are four times as wide as those of ResNet34."""
    resnet34 = describe(ResNet(34), BATCHNORM)
    resnet50 = describe(ResNet(50), BATCHNORM)

    verdict = judge(Definition(), (resnet34.widths, resnet50.widths), ((64, 128, 256, 512), (256, 512, 1024, 2048)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2")
def test_resnet101_is_a_deeper_resnet50(judge):
    """ResNet101 is a deeper version of ResNet50 with the same bottleneck blocks."""
    resnet50 = describe(ResNet(50), BATCHNORM)
    resnet101 = describe(ResNet(101), BATCHNORM)

    verdict = judge(
        Definition(),
        (resnet101.block, resnet101.widths, resnet101.blocks > resnet50.blocks),
        (resnet50.block, resnet50.widths, True),
    )

    assert verdict.held, verdict.reason
