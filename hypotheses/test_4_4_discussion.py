"""§4.4  Discussion."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Definition,
    Equivalence,
    Interaction,
    NonInferiority,
    Ordering,
    ResNet,
    RunSpec,
    Superiority,
    batch_accuracy,
    points,
    recalibrated_accuracy,
    replace,
)

FIGURE_5 = {
    ResNet(18): (BATCHNORM_MINUS, BATCHNORM, AFFINE_LAYER, NONE),
    ResNet(34): (BATCHNORM_MINUS, BATCHNORM, AFFINE_LAYER, NONE),
    ResNet(50): (BATCHNORM, AFFINE_LAYER, NONE, BATCHNORM_MINUS),
    ResNet(101): (AFFINE_LAYER, BATCHNORM, NONE, BATCHNORM_MINUS),
}
"""The arms of each model from best to worst when the better of the two batch sizes counts."""

norms = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE], ids=str)
nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34), ResNet(50), ResNet(101)], ids=str)
basic_nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34)], ids=str)
bottleneck_nets = pytest.mark.parametrize("net", [ResNet(50), ResNet(101)], ids=str)
bottleneck_nets_to_compare = pytest.mark.parametrize("bottleneck", [ResNet(50), ResNet(101)], ids=str)
basic_nets_to_compare = pytest.mark.parametrize("basic", [ResNet(18), ResNet(34)], ids="than-{}".format)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)


@pytest.mark.claim(
    "§4.4, Tables 4 to 7",
    published={
        (ResNet(18), BATCHNORM): +0.96,
        (ResNet(18), AFFINE_LAYER): -1.10,
        (ResNet(18), BATCHNORM_MINUS): +0.86,
        (ResNet(18), NONE): -2.34,
        (ResNet(34), BATCHNORM): +1.63,
        (ResNet(34), AFFINE_LAYER): +0.19,
        (ResNet(34), BATCHNORM_MINUS): +1.62,
        (ResNet(34), NONE): -1.21,
        (ResNet(50), BATCHNORM): +0.45,
        (ResNet(50), AFFINE_LAYER): -0.29,
        (ResNet(50), BATCHNORM_MINUS): -9.43,
        (ResNet(50), NONE): -1.53,
        (ResNet(101), BATCHNORM): +2.25,
        (ResNet(101), AFFINE_LAYER): +0.73,
        (ResNet(101), BATCHNORM_MINUS): +2.84,
        (ResNet(101), NONE): -0.26,
    },
    reading="as written",
)
@norms
@nets
def test_batch_sizes_differ_minimally(lab, judge, net, norm):
    """For each model and arm, the accuracies with batch sizes of 20 and 50 differ minimally."""
    batch20 = RunSpec(net=net, norm=norm, batch_size=20)
    batch50 = replace(batch20, batch_size=50)

    verdict = judge(Equivalence(margin=points(2.0)), lab.train(batch20).accuracy, lab.train(batch50).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Table 5", published=+9.43, reading="corrected")
def test_batchnorm_minus_on_resnet50_depends_on_the_batch_size(lab, judge):
    """On ResNet50, BatchNorm-minus is clearly more accurate with a batch of 50 than with a batch of 20."""
    batch50 = RunSpec(net=ResNet(50), norm=BATCHNORM_MINUS, batch_size=50)
    batch20 = replace(batch50, batch_size=20)

    verdict = judge(Superiority(by=points(3.0)), lab.train(batch50).accuracy, lab.train(batch20).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Figure 5, Tables 2 to 5", reading="as written")
@pytest.mark.parametrize(
    ("batch20", "batch50", "best"),
    [
        pytest.param(76.65, 75.69, 76.65, id="ResNet18-BatchNorm"),
        pytest.param(67.94, 69.04, 69.04, id="ResNet18-AffineLayer"),
        pytest.param(77.30, 76.44, 77.30, id="ResNet18-BatchNorm-minus"),
        pytest.param(66.43, 68.77, 68.77, id="ResNet18-None"),
        pytest.param(74.69, 74.24, 74.69, id="ResNet50-BatchNorm"),
        pytest.param(69.57, 69.86, 69.86, id="ResNet50-AffineLayer"),
        pytest.param(55.97, 65.40, 65.40, id="ResNet50-BatchNorm-minus"),
        pytest.param(67.86, 69.39, 69.39, id="ResNet50-None"),
    ],
)
def test_summary_shows_the_better_of_two_batch_sizes(judge, batch20, batch50, best):
    """The best accuracies that Tables 2 and 3 print are the better of the two batch sizes, as Figure 5 graphs them."""
    verdict = judge(Definition(), max(batch20, batch50), best)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Figure 5, Tables 4 to 7",
    published={
        (ResNet(18), 20): +0.65,
        (ResNet(18), 50): +0.75,
        (ResNet(34), 20): +0.02,
        (ResNet(34), 50): +0.03,
        (ResNet(50), 20): +5.12,
        (ResNet(50), 50): +4.38,
        (ResNet(101), 20): +0.61,
        (ResNet(101), 50): +1.14,
    },
    reading="corrected",
)
@batch_sizes
@nets
def test_best_arm_of_the_summary_is_best_at_either_batch_size(lab, judge, net, batch_size):
    """At neither batch size does an arm clearly beat the one that Figure 5 shows as the best of its model."""
    best, second, third, last = FIGURE_5[net]
    leader = RunSpec(net=net, norm=best, batch_size=batch_size)

    verdict = judge(
        Ordering(margin=points(1.0)),
        lab.train(leader).accuracy,
        lab.train(replace(leader, norm=second)).accuracy,
        lab.train(replace(leader, norm=third)).accuracy,
        lab.train(replace(leader, norm=last)).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Tables 4 and 6",
    published={(ResNet(18), 20): +0.65, (ResNet(18), 50): +0.75, (ResNet(34), 20): +0.02, (ResNet(34), 50): +0.03},
)
@batch_sizes
@basic_nets
def test_batchnorm_minus_performs_as_well_with_basic_blocks(lab, judge, net, batch_size):
    """With basic blocks, BatchNorm-minus performs as well as BatchNorm."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Tables 4 and 6",
    published={(ResNet(18), 20): +0.65, (ResNet(18), 50): +0.75, (ResNet(34), 20): +0.02, (ResNet(34), 50): +0.03},
)
@batch_sizes
@basic_nets
def test_simpler_normalization_costs_no_appreciable_accuracy(lab, judge, net, batch_size):
    """With basic blocks, the simpler BatchNorm-minus can be used without any appreciable loss in accuracy."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(NonInferiority(margin=points(1.0)), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Tables 5 and 7",
    published={
        (ResNet(50), 20): +18.72,
        (ResNet(50), 50): +8.84,
        (ResNet(101), 20): +25.59,
        (ResNet(101), 50): +26.18,
    },
    reading="as written",
)
@batch_sizes
@bottleneck_nets
def test_shift_and_scale_are_critical_with_bottleneck_blocks(lab, judge, net, batch_size):
    """With bottleneck blocks, BatchNorm is clearly more accurate than BatchNorm-minus, which lacks shift and scale."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(by=points(3.0)), lab.train(batchnorm).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.4, Tables 5 and 7", reading="corrected")
@batch_sizes
@bottleneck_nets
@pytest.mark.parametrize("metric", [recalibrated_accuracy, batch_accuracy], ids=["recalibrated", "of-the-batch"])
def test_shift_and_scale_are_critical_whichever_statistics_are_tested_with(lab, judge, metric, net, batch_size):
    """With bottleneck blocks, BatchNorm-minus is clearly less accurate even without stale running statistics."""
    batchnorm = RunSpec(net=net, norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(by=points(3.0)), lab.train(batchnorm).measure(metric), lab.train(minus).measure(metric))

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Tables 4 to 7",
    published={
        (ResNet(50), ResNet(18), 20): +1.63,
        (ResNet(50), ResNet(18), 50): +0.82,
        (ResNet(50), ResNet(34), 20): +1.01,
        (ResNet(50), ResNet(34), 50): +1.49,
        (ResNet(101), ResNet(18), 20): +2.38,
        (ResNet(101), ResNet(18), 50): +0.55,
        (ResNet(101), ResNet(34), 20): +1.76,
        (ResNet(101), ResNet(34), 50): +1.22,
    },
    reading="as written",
)
@batch_sizes
@basic_nets_to_compare
@bottleneck_nets_to_compare
def test_affine_layer_is_better_with_bottleneck_blocks(lab, judge, bottleneck, basic, batch_size):
    """AffineLayer is more accurate with bottleneck blocks than with basic blocks."""
    affine_bottleneck = RunSpec(net=bottleneck, norm=AFFINE_LAYER, batch_size=batch_size)
    affine_basic = replace(affine_bottleneck, net=basic)

    verdict = judge(Superiority(), lab.train(affine_bottleneck).accuracy, lab.train(affine_basic).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.4, Tables 4 to 7",
    published={
        (ResNet(50), ResNet(18), 20): +0.20,
        (ResNet(50), ResNet(18), 50): +0.20,
        (ResNet(50), ResNet(34), 20): -0.24,
        (ResNet(50), ResNet(34), 50): -0.08,
        (ResNet(101), ResNet(18), 20): +0.62,
        (ResNet(101), ResNet(18), 50): +0.87,
        (ResNet(101), ResNet(34), 20): +0.18,
        (ResNet(101), ResNet(34), 50): +0.59,
    },
    reading="corrected",
)
@batch_sizes
@basic_nets_to_compare
@bottleneck_nets_to_compare
def test_affine_layer_gains_more_than_none_with_bottleneck_blocks(lab, judge, bottleneck, basic, batch_size):
    """AffineLayer gains more accuracy from bottleneck blocks instead of basic blocks than None does."""
    affine_bottleneck = RunSpec(net=bottleneck, norm=AFFINE_LAYER, batch_size=batch_size)
    affine_basic = replace(affine_bottleneck, net=basic)
    none_bottleneck = replace(affine_bottleneck, norm=NONE)
    none_basic = replace(affine_basic, norm=NONE)

    verdict = judge(
        Interaction(),
        lab.train(affine_bottleneck).accuracy,
        lab.train(affine_basic).accuracy,
        lab.train(none_bottleneck).accuracy,
        lab.train(none_basic).accuracy,
    )

    assert verdict.held, verdict.reason
