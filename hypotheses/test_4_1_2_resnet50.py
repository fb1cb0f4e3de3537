"""§4.1.2  ResNet50."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Equivalence,
    Interaction,
    Ordering,
    Replication,
    ResNet,
    RunSpec,
    Superiority,
    batch_accuracy,
    last_accuracy,
    nats,
    points,
    recalibrated_accuracy,
    replace,
    train_loss,
)

TABLE_5 = {
    (BATCHNORM, 20): 74.69,
    (BATCHNORM, 50): 74.24,
    (AFFINE_LAYER, 20): 69.57,
    (AFFINE_LAYER, 50): 69.86,
    (BATCHNORM_MINUS, 20): 55.97,
    (BATCHNORM_MINUS, 50): 65.40,
    (NONE, 20): 67.86,
    (NONE, 50): 69.39,
}

norms = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE], ids=str)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)
other_test_statistics = pytest.mark.parametrize(
    "metric", [recalibrated_accuracy, batch_accuracy], ids=["recalibrated", "of-the-batch"]
)


@pytest.mark.claim("§4.1.2, Table 5", published=TABLE_5)
@batch_sizes
@norms
def test_table_5_replicates(lab, judge, norm, batch_size):
    """On ResNet50, every arm reaches the accuracy that Table 5 gives for it."""
    arm = lab.train(RunSpec(net=ResNet(50), norm=norm, batch_size=batch_size))

    verdict = judge(Replication(published=TABLE_5[norm, batch_size], margin=points(2.0)), arm.measure(last_accuracy))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", published={20: +21.33, 50: +11.04}, reading="as written")
@batch_sizes
def test_batchnorm_minus_drops_dramatically(lab, judge, batch_size):
    """The accuracy of BatchNorm-minus drops dramatically from ResNet18 to ResNet50."""
    resnet18 = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=batch_size)
    resnet50 = replace(resnet18, net=ResNet(50))

    verdict = judge(Superiority(by=points(3.0)), lab.train(resnet18).accuracy, lab.train(resnet50).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", reading="corrected")
@batch_sizes
@other_test_statistics
def test_batchnorm_minus_drops_whichever_statistics_it_is_tested_with(lab, judge, metric, batch_size):
    """The drop of BatchNorm-minus from ResNet18 to ResNet50 is not due to the running statistics it is tested with."""
    resnet18 = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=batch_size)
    resnet50 = replace(resnet18, net=ResNet(50))

    verdict = judge(
        Superiority(by=points(3.0)), lab.train(resnet18).measure(metric), lab.train(resnet50).measure(metric)
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +5.12, 50: +4.38})
@batch_sizes
def test_batchnorm_is_the_best_performer(lab, judge, batch_size):
    """On ResNet50, BatchNorm is more accurate than AffineLayer, BatchNorm-minus and None."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    affine_layer = replace(batchnorm, norm=AFFINE_LAYER)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)
    none = replace(batchnorm, norm=NONE)

    verdict = judge(
        Ordering(),
        lab.train(batchnorm).accuracy,
        lab.train(affine_layer).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", published={20: +1.63, 50: +0.82}, reading="as written")
@batch_sizes
def test_affine_layer_increases(lab, judge, batch_size):
    """The accuracy of AffineLayer increases from ResNet18 to ResNet50."""
    resnet18 = RunSpec(net=ResNet(18), norm=AFFINE_LAYER, batch_size=batch_size)
    resnet50 = replace(resnet18, net=ResNet(50))

    verdict = judge(Superiority(), lab.train(resnet50).accuracy, lab.train(resnet18).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", published={20: +0.20, 50: +0.20}, reading="corrected")
@batch_sizes
def test_affine_layer_increases_more_than_none(lab, judge, batch_size):
    """From ResNet18 to ResNet50 the accuracy of AffineLayer increases more than that of None."""
    affine18 = RunSpec(net=ResNet(18), norm=AFFINE_LAYER, batch_size=batch_size)
    affine50 = replace(affine18, net=ResNet(50))
    none18 = replace(affine18, norm=NONE)
    none50 = replace(affine50, norm=NONE)

    verdict = judge(
        Interaction(),
        lab.train(affine50).accuracy,
        lab.train(affine18).accuracy,
        lab.train(none50).accuracy,
        lab.train(none18).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +1.71, 50: +0.47}, reading="as written")
@batch_sizes
def test_shift_and_scale_add_expressiveness(lab, judge, batch_size):
    """On ResNet50, shift and scale add expressiveness, which shows as AffineLayer being more accurate than None."""
    affine_layer = RunSpec(net=ResNet(50), norm=AFFINE_LAYER, batch_size=batch_size)
    none = replace(affine_layer, norm=NONE)

    verdict = judge(Superiority(), lab.train(affine_layer).accuracy, lab.train(none).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading="corrected")
@batch_sizes
def test_networks_of_equal_expressiveness_are_equally_accurate(lab, judge, batch_size):
    """On ResNet50, AffineLayer is as accurate as None with convolution biases, which can express the same functions."""
    affine_layer = RunSpec(net=ResNet(50), norm=AFFINE_LAYER, batch_size=batch_size)
    biased = replace(affine_layer, net=ResNet(50, conv_bias=True), norm=NONE)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(affine_layer).accuracy, lab.train(biased).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2", reading="as written")
@batch_sizes
def test_batchnorm_minus_has_trouble_converging(lab, judge, batch_size):
    """On ResNet50, BatchNorm-minus is left with a clearly higher training loss than BatchNorm."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(
        Superiority(by=nats(0.2)), lab.train(minus).measure(train_loss), lab.train(batchnorm).measure(train_loss)
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2", reading="corrected")
@batch_sizes
@other_test_statistics
def test_batchnorm_minus_falls_behind_whichever_statistics_it_is_tested_with(lab, judge, metric, batch_size):
    """On ResNet50, BatchNorm-minus falls clearly behind BatchNorm even without stale running statistics."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(by=points(3.0)), lab.train(batchnorm).measure(metric), lab.train(minus).measure(metric))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +11.89, 50: +3.99}, reading="as written")
@batch_sizes
def test_batchnorm_minus_underperforms_none(lab, judge, batch_size):
    """On ResNet50, BatchNorm-minus is less accurate than no normalization at all."""
    minus = RunSpec(net=ResNet(50), norm=BATCHNORM_MINUS, batch_size=batch_size)
    none = replace(minus, norm=NONE)

    verdict = judge(Superiority(), lab.train(none).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading="corrected")
@batch_sizes
@other_test_statistics
def test_batchnorm_minus_underperforms_none_whichever_statistics_it_is_tested_with(lab, judge, metric, batch_size):
    """On ResNet50, BatchNorm-minus is less accurate than None even without stale running statistics."""
    minus = RunSpec(net=ResNet(50), norm=BATCHNORM_MINUS, batch_size=batch_size)
    none = replace(minus, norm=NONE)

    verdict = judge(Superiority(), lab.train(none).accuracy, lab.train(minus).measure(metric))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +18.72, 50: +8.84}, reading="as written")
@batch_sizes
def test_shift_and_scale_recover_information(lab, judge, batch_size):
    """On ResNet50, shift and scale recover accuracy that normalization alone loses."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(), lab.train(batchnorm).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading="corrected")
@batch_sizes
@pytest.mark.parametrize("norm", [GAMMA_ONLY, BETA_ONLY], ids=str)
def test_one_of_shift_and_scale_recovers_as_much_as_both(lab, judge, norm, batch_size):
    """On ResNet50, BatchNorm with the scale or the shift alone is as accurate as BatchNorm with both."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    one_alone = replace(batchnorm, norm=norm)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(one_alone).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", published={20: +19.37, 50: +9.59}, reading="as written")
@batch_sizes
def test_shift_and_scale_matter_more_than_on_resnet18(lab, judge, batch_size):
    """Shift and scale gain BatchNorm clearly more accuracy on ResNet50 than on ResNet18."""
    batchnorm18 = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=batch_size)
    batchnorm50 = replace(batchnorm18, net=ResNet(50))
    minus18 = replace(batchnorm18, norm=BATCHNORM_MINUS)
    minus50 = replace(batchnorm50, norm=BATCHNORM_MINUS)

    verdict = judge(
        Interaction(by=points(3.0)),
        lab.train(batchnorm50).accuracy,
        lab.train(minus50).accuracy,
        lab.train(batchnorm18).accuracy,
        lab.train(minus18).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Tables 4 and 5", reading="corrected")
@batch_sizes
@other_test_statistics
def test_shift_and_scale_matter_more_whichever_statistics_are_tested_with(lab, judge, metric, batch_size):
    """Shift and scale matter clearly more on ResNet50 than on ResNet18 even without stale running statistics."""
    batchnorm18 = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=batch_size)
    batchnorm50 = replace(batchnorm18, net=ResNet(50))
    minus18 = replace(batchnorm18, norm=BATCHNORM_MINUS)
    minus50 = replace(batchnorm50, norm=BATCHNORM_MINUS)

    verdict = judge(
        Interaction(by=points(3.0)),
        lab.train(batchnorm50).measure(metric),
        lab.train(minus50).measure(metric),
        lab.train(batchnorm18).measure(metric),
        lab.train(minus18).measure(metric),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +13.60, 50: +4.46}, reading="as written")
@batch_sizes
def test_affine_layer_clearly_outperforms_batchnorm_minus(lab, judge, batch_size):
    """On ResNet50, AffineLayer is clearly more accurate than BatchNorm-minus, regardless of the batch size."""
    affine_layer = RunSpec(net=ResNet(50), norm=AFFINE_LAYER, batch_size=batch_size)
    minus = replace(affine_layer, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(by=points(3.0)), lab.train(affine_layer).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", reading="corrected")
@batch_sizes
@other_test_statistics
def test_affine_layer_outperforms_whichever_statistics_batchnorm_minus_is_tested_with(lab, judge, metric, batch_size):
    """On ResNet50, AffineLayer is clearly more accurate than BatchNorm-minus even without stale running statistics."""
    affine_layer = RunSpec(net=ResNet(50), norm=AFFINE_LAYER, batch_size=batch_size)
    minus = replace(affine_layer, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(by=points(3.0)), lab.train(affine_layer).accuracy, lab.train(minus).measure(metric))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +13.60, 50: +4.46}, reading="as written")
@batch_sizes
def test_normalization_is_not_the_primary_driver(lab, judge, batch_size):
    """On ResNet50, normalization alone gains less accuracy over None than shift and scale alone."""
    affine_layer = RunSpec(net=ResNet(50), norm=AFFINE_LAYER, batch_size=batch_size)
    minus = replace(affine_layer, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(), lab.train(affine_layer).accuracy, lab.train(minus).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.2, Table 5", published={20: +17.01, 50: +8.37}, reading="corrected")
@batch_sizes
def test_normalization_gains_more_with_shift_and_scale_than_without(lab, judge, batch_size):
    """On ResNet50, normalization gains clearly more accuracy with shift and scale than without them."""
    batchnorm = RunSpec(net=ResNet(50), norm=BATCHNORM, batch_size=batch_size)
    affine_layer = replace(batchnorm, norm=AFFINE_LAYER)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)
    none = replace(batchnorm, norm=NONE)

    verdict = judge(
        Interaction(by=points(3.0)),
        lab.train(batchnorm).accuracy,
        lab.train(affine_layer).accuracy,
        lab.train(minus).accuracy,
        lab.train(none).accuracy,
    )

    assert verdict.held, verdict.reason
