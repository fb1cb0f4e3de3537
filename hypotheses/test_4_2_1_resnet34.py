"""§4.2.1  ResNet34."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Replication,
    ResNet,
    RunSpec,
    Superiority,
    last_accuracy,
    points,
    replace,
)

TABLE_6 = {
    (BATCHNORM, 20): 77.17,
    (BATCHNORM, 50): 75.54,
    (AFFINE_LAYER, 20): 68.56,
    (AFFINE_LAYER, 50): 68.37,
    (BATCHNORM_MINUS, 20): 77.19,
    (BATCHNORM_MINUS, 50): 75.57,
    (NONE, 20): 66.61,
    (NONE, 50): 67.82,
}

norms = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE], ids=str)
nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34)], ids=str)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)


@pytest.mark.claim("§4.2.1, Table 6", published=TABLE_6)
@batch_sizes
@norms
def test_table_6_replicates(lab, judge, norm, batch_size):
    """On ResNet34, every arm reaches the accuracy that Table 6 gives for it."""
    arm = lab.train(RunSpec(net=ResNet(34), norm=norm, batch_size=batch_size))

    verdict = judge(Replication(published=TABLE_6[norm, batch_size], margin=points(2.0)), arm.measure(last_accuracy))

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.1, Tables 4 and 6",
    published={
        (BATCHNORM, 20): +0.52,
        (BATCHNORM, 50): -0.15,
        (AFFINE_LAYER, 20): +0.62,
        (AFFINE_LAYER, 50): -0.67,
        (BATCHNORM_MINUS, 20): -0.11,
        (BATCHNORM_MINUS, 50): -0.87,
        (NONE, 20): +0.18,
        (NONE, 50): -0.95,
    },
)
@batch_sizes
@norms
def test_resnet34_is_similar_to_resnet18(lab, judge, norm, batch_size):
    """Every arm is about as accurate on ResNet34 as on ResNet18."""
    resnet34 = RunSpec(net=ResNet(34), norm=norm, batch_size=batch_size)
    resnet18 = replace(resnet34, net=ResNet(18))

    verdict = judge(Equivalence(margin=points(2.0)), lab.train(resnet34).accuracy, lab.train(resnet18).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.1, Tables 4 and 6",
    published={(ResNet(18), 20): +0.65, (ResNet(18), 50): +0.75, (ResNet(34), 20): +0.02, (ResNet(34), 50): +0.03},
    reading="as written",
)
@batch_sizes
@nets
def test_batchnorm_minus_marginally_outperforms_batchnorm(lab, judge, net, batch_size):
    """On ResNet18 and ResNet34, BatchNorm-minus is more accurate than BatchNorm."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.1, Tables 4 and 6",
    published={(ResNet(18), 20): +0.65, (ResNet(18), 50): +0.75, (ResNet(34), 20): +0.02, (ResNet(34), 50): +0.03},
    reading="corrected",
)
@batch_sizes
@nets
def test_batchnorm_minus_is_within_two_points_of_batchnorm(lab, judge, net, batch_size):
    """On ResNet18 and ResNet34, BatchNorm-minus and BatchNorm differ marginally, in either direction."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Equivalence(margin=points(2.0)), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.1, Tables 4 and 6",
    published={
        (AFFINE_LAYER, ResNet(18), 20): +8.71,
        (AFFINE_LAYER, ResNet(18), 50): +6.65,
        (AFFINE_LAYER, ResNet(34), 20): +8.61,
        (AFFINE_LAYER, ResNet(34), 50): +7.17,
        (NONE, ResNet(18), 20): +10.22,
        (NONE, ResNet(18), 50): +6.92,
        (NONE, ResNet(34), 20): +10.56,
        (NONE, ResNet(34), 50): +7.72,
    },
)
@batch_sizes
@nets
@pytest.mark.parametrize("norm", [AFFINE_LAYER, NONE], ids=str)
def test_unnormalized_arms_trail_far_behind(lab, judge, norm, net, batch_size):
    """On ResNet18 and ResNet34, AffineLayer and None trail far behind BatchNorm."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    unnormalized = replace(batchnorm, norm=norm)

    verdict = judge(Superiority(by=points(3.0)), lab.train(batchnorm).accuracy, lab.train(unnormalized).accuracy)

    assert verdict.held, verdict.reason
