"""§5  Conclusion."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Beaten,
    Equivalence,
    Ordering,
    ResNet,
    RunSpec,
    Superiority,
    points,
    replace,
)

basic_nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34)], ids=str)
bottleneck_nets = pytest.mark.parametrize("net", [ResNet(50), ResNet(101)], ids=str)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)


@pytest.mark.claim(
    "§5, Tables 5 and 7",
    published={
        (ResNet(50), 20): +1.71,
        (ResNet(50), 50): +0.47,
        (ResNet(101), 20): +2.13,
        (ResNet(101), 50): +1.14,
    },
    reading="as written",
)
@batch_sizes
@bottleneck_nets
def test_shift_and_scale_increase_expressiveness_of_bottleneck_nets(lab, judge, net, batch_size):
    """With bottleneck blocks, shift and scale recover information, so that AffineLayer is more accurate than None."""
    affine_layer = RunSpec(net=net, norm=AFFINE_LAYER, batch_size=batch_size)
    none = replace(affine_layer, norm=NONE)

    verdict = judge(Superiority(), lab.train(affine_layer).accuracy, lab.train(none).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5, Tables 5 and 7", reading="corrected")
@batch_sizes
@bottleneck_nets
def test_bottleneck_nets_of_equal_expressiveness_are_equally_accurate(lab, judge, net, batch_size):
    """With bottleneck blocks, AffineLayer is as accurate as None with convolution biases, which is as expressive."""
    affine_layer = RunSpec(net=net, norm=AFFINE_LAYER, batch_size=batch_size)
    biased = replace(affine_layer, net=replace(net, options={**net.keywords, "conv_bias": True}), norm=NONE)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(affine_layer).accuracy, lab.train(biased).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§5, Tables 4 and 6",
    published={
        (ResNet(18), 20): +10.87,
        (ResNet(18), 50): +7.67,
        (ResNet(34), 20): +10.58,
        (ResNet(34), 50): +7.75,
    },
)
@batch_sizes
@basic_nets
def test_normalization_is_beneficial_with_basic_blocks(lab, judge, net, batch_size):
    """With basic blocks, normalization alone makes the network more accurate than no normalization."""
    minus = RunSpec(net=net, norm=BATCHNORM_MINUS, batch_size=batch_size)
    none = replace(minus, norm=NONE)

    verdict = judge(Superiority(), lab.train(minus).accuracy, lab.train(none).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§5, Tables 4 and 6",
    published={(ResNet(18), 20): -0.65, (ResNet(18), 50): -0.75, (ResNet(34), 20): -0.02, (ResNet(34), 50): -0.03},
)
@batch_sizes
@basic_nets
def test_shift_and_scale_do_not_improve_accuracy_with_basic_blocks(lab, judge, net, batch_size):
    """With basic blocks, the shift and scale of BatchNorm leave the accuracy of BatchNorm-minus as it is."""
    minus = RunSpec(net=net, norm=BATCHNORM_MINUS, batch_size=batch_size)
    batchnorm = replace(minus, norm=BATCHNORM)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(batchnorm).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§5, Tables 5 and 7",
    published={
        (ResNet(50), 20): +5.12,
        (ResNet(50), 50): +4.38,
        (ResNet(101), 20): -0.61,
        (ResNet(101), 50): -2.13,
    },
    reading="as written",
)
@batch_sizes
@bottleneck_nets
def test_batchnorm_should_be_used_with_bottleneck_blocks(lab, judge, net, batch_size):
    """With bottleneck blocks, no arm beats BatchNorm by a point of accuracy or more."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    affine_layer = replace(batchnorm, norm=AFFINE_LAYER)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)
    none = replace(batchnorm, norm=NONE)

    verdict = judge(
        Ordering(margin=points(1.0)),
        lab.train(batchnorm).accuracy,
        lab.train(affine_layer).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§5, Table 7", published={20: -0.61, 50: -2.13}, reading="corrected")
@batch_sizes
def test_batchnorm_is_not_the_best_choice_on_resnet101(lab, judge, batch_size):
    """On ResNet101, some other arm beats BatchNorm by more than a point of accuracy."""
    batchnorm = RunSpec(net=ResNet(101), norm=BATCHNORM, batch_size=batch_size)
    affine_layer = replace(batchnorm, norm=AFFINE_LAYER)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)
    none = replace(batchnorm, norm=NONE)

    verdict = judge(
        Beaten(by=points(1.0)),
        lab.train(batchnorm).accuracy,
        lab.train(affine_layer).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§5, Tables 4 and 7",
    published={
        (ResNet(18), 20): -0.65,
        (ResNet(18), 50): -0.75,
        (ResNet(101), 20): -0.61,
        (ResNet(101), 50): -2.13,
    },
)
@batch_sizes
@pytest.mark.parametrize("net", [ResNet(18), ResNet(101)], ids=str)
def test_default_batchnorm_reduces_performance_for_some_blocks(lab, judge, net, batch_size):
    """With blocks such as those of ResNet18 or ResNet101, another arm is more accurate than the built-in BatchNorm."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    affine_layer = replace(batchnorm, norm=AFFINE_LAYER)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)
    none = replace(batchnorm, norm=NONE)

    verdict = judge(
        Beaten(),
        lab.train(batchnorm).accuracy,
        lab.train(affine_layer).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason
