"""§4.2.2  ResNet101."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    NonInferiority,
    Ordering,
    Replication,
    ResNet,
    RunSpec,
    Superiority,
    batch_accuracy,
    last_accuracy,
    points,
    recalibrated_accuracy,
    replace,
)

TABLE_7 = {
    (BATCHNORM, 20): 69.71,
    (BATCHNORM, 50): 67.46,
    (AFFINE_LAYER, 20): 70.32,
    (AFFINE_LAYER, 50): 69.59,
    (BATCHNORM_MINUS, 20): 44.12,
    (BATCHNORM_MINUS, 50): 41.28,
    (NONE, 20): 68.19,
    (NONE, 50): 68.45,
}

norms = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE], ids=str)
shallower_nets = pytest.mark.parametrize("shallower", [ResNet(18), ResNet(34)], ids="than-{}".format)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)
other_test_statistics = pytest.mark.parametrize(
    "metric", [recalibrated_accuracy, batch_accuracy], ids=["recalibrated", "of-the-batch"]
)


@pytest.mark.claim("§4.2.2, Table 7", published=TABLE_7)
@batch_sizes
@norms
def test_table_7_replicates(lab, judge, norm, batch_size):
    """On ResNet101, every arm reaches the accuracy that Table 7 gives for it."""
    arm = lab.train(RunSpec(net=ResNet(101), norm=norm, batch_size=batch_size))

    verdict = judge(Replication(published=TABLE_7[norm, batch_size], margin=points(2.0)), arm.measure(last_accuracy))

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.2, Tables 4, 6 and 7",
    published={
        (BATCHNORM, ResNet(18), 20): +6.94,
        (BATCHNORM, ResNet(18), 50): +8.23,
        (BATCHNORM, ResNet(34), 20): +7.46,
        (BATCHNORM, ResNet(34), 50): +8.08,
        (AFFINE_LAYER, ResNet(18), 20): -2.38,
        (AFFINE_LAYER, ResNet(18), 50): -0.55,
        (AFFINE_LAYER, ResNet(34), 20): -1.76,
        (AFFINE_LAYER, ResNet(34), 50): -1.22,
        (BATCHNORM_MINUS, ResNet(18), 20): +33.18,
        (BATCHNORM_MINUS, ResNet(18), 50): +35.16,
        (BATCHNORM_MINUS, ResNet(34), 20): +33.07,
        (BATCHNORM_MINUS, ResNet(34), 50): +34.29,
        (NONE, ResNet(18), 20): -1.76,
        (NONE, ResNet(18), 50): +0.32,
        (NONE, ResNet(34), 20): -1.58,
        (NONE, ResNet(34), 50): -0.63,
    },
    reading="as written",
)
@batch_sizes
@shallower_nets
@norms
def test_each_normalization_is_worse(lab, judge, norm, shallower, batch_size):
    """Every arm is less accurate on ResNet101 than on ResNet18 and ResNet34."""
    resnet101 = RunSpec(net=ResNet(101), norm=norm, batch_size=batch_size)

    verdict = judge(Superiority(), lab.train(replace(resnet101, net=shallower)).accuracy, lab.train(resnet101).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.2, Tables 4, 6 and 7",
    published={
        (AFFINE_LAYER, ResNet(18), 20): +2.38,
        (AFFINE_LAYER, ResNet(18), 50): +0.55,
        (AFFINE_LAYER, ResNet(34), 20): +1.76,
        (AFFINE_LAYER, ResNet(34), 50): +1.22,
        (NONE, ResNet(18), 20): +1.76,
        (NONE, ResNet(18), 50): -0.32,
        (NONE, ResNet(34), 20): +1.58,
        (NONE, ResNet(34), 50): +0.63,
    },
    reading="corrected",
)
@batch_sizes
@shallower_nets
@pytest.mark.parametrize("norm", [AFFINE_LAYER, NONE], ids=str)
def test_unnormalized_arms_are_no_worse(lab, judge, norm, shallower, batch_size):
    """The arms that do not normalize are no less accurate on ResNet101 than on ResNet18 and ResNet34."""
    resnet101 = RunSpec(net=ResNet(101), norm=norm, batch_size=batch_size)

    verdict = judge(
        NonInferiority(margin=points(1.0)),
        lab.train(resnet101).accuracy,
        lab.train(replace(resnet101, net=shallower)).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.2.2, Tables 4, 6 and 7",
    published={
        (ResNet(18), 20): +33.18,
        (ResNet(18), 50): +35.16,
        (ResNet(34), 20): +33.07,
        (ResNet(34), 50): +34.29,
    },
    reading="as written",
)
@batch_sizes
@shallower_nets
def test_drop_off_of_batchnorm_minus_is_large(lab, judge, shallower, batch_size):
    """BatchNorm-minus is clearly less accurate on ResNet101 than on ResNet18 and ResNet34."""
    resnet101 = RunSpec(net=ResNet(101), norm=BATCHNORM_MINUS, batch_size=batch_size)

    verdict = judge(
        Superiority(by=points(3.0)),
        lab.train(replace(resnet101, net=shallower)).accuracy,
        lab.train(resnet101).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Tables 4, 6 and 7", reading="corrected")
@batch_sizes
@shallower_nets
@other_test_statistics
def test_drop_off_is_large_whichever_statistics_are_tested_with(lab, judge, metric, shallower, batch_size):
    """The drop-off of BatchNorm-minus on ResNet101 is not due to the running statistics it is tested with."""
    resnet101 = RunSpec(net=ResNet(101), norm=BATCHNORM_MINUS, batch_size=batch_size)

    verdict = judge(
        Superiority(by=points(3.0)),
        lab.train(replace(resnet101, net=shallower)).measure(metric),
        lab.train(resnet101).measure(metric),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Table 7", published={20: +0.61, 50: +1.14}, reading="as written")
@batch_sizes
def test_affine_layer_is_the_best_performer(lab, judge, batch_size):
    """On ResNet101, AffineLayer is more accurate than BatchNorm, BatchNorm-minus and None."""
    affine_layer = RunSpec(net=ResNet(101), norm=AFFINE_LAYER, batch_size=batch_size)
    batchnorm = replace(affine_layer, norm=BATCHNORM)
    minus = replace(affine_layer, norm=BATCHNORM_MINUS)
    none = replace(affine_layer, norm=NONE)

    verdict = judge(
        Ordering(),
        lab.train(affine_layer).accuracy,
        lab.train(batchnorm).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.2, Table 7", reading="corrected")
@batch_sizes
@other_test_statistics
def test_affine_layer_is_best_whichever_statistics_the_others_are_tested_with(lab, judge, metric, batch_size):
    """On ResNet101, AffineLayer is the most accurate arm even without stale running statistics in the others."""
    affine_layer = RunSpec(net=ResNet(101), norm=AFFINE_LAYER, batch_size=batch_size)
    batchnorm = replace(affine_layer, norm=BATCHNORM)
    minus = replace(affine_layer, norm=BATCHNORM_MINUS)
    none = replace(affine_layer, norm=NONE)

    verdict = judge(
        Ordering(),
        lab.train(affine_layer).accuracy,
        lab.train(batchnorm).measure(metric),
        lab.train(minus).measure(metric),
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason
