"""§4.1.1  ResNet18."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Interaction,
    Replication,
    ResNet,
    RunSpec,
    Superiority,
    last_accuracy,
    nats,
    points,
    replace,
    train_loss,
)

TABLE_4 = {
    (BATCHNORM, 20): 76.65,
    (BATCHNORM, 50): 75.69,
    (AFFINE_LAYER, 20): 67.94,
    (AFFINE_LAYER, 50): 69.04,
    (BATCHNORM_MINUS, 20): 77.30,
    (BATCHNORM_MINUS, 50): 76.44,
    (NONE, 20): 66.43,
    (NONE, 50): 68.77,
}

norms = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE], ids=str)
batch_sizes = pytest.mark.parametrize("batch_size", [20, 50], ids="batch{}".format)


@pytest.mark.claim("§4.1.1, Table 4", published=TABLE_4)
@batch_sizes
@norms
def test_table_4_replicates(lab, judge, norm, batch_size):
    """On ResNet18, every arm reaches the accuracy that Table 4 gives for it."""
    arm = lab.train(RunSpec(net=ResNet(18), norm=norm, batch_size=batch_size))

    verdict = judge(Replication(published=TABLE_4[norm, batch_size], margin=points(2.0)), arm.measure(last_accuracy))

    assert verdict.held, verdict.reason


@pytest.mark.claim(
    "§4.1.1, Table 4",
    published={BATCHNORM: +0.96, AFFINE_LAYER: -1.10, BATCHNORM_MINUS: +0.86, NONE: -2.34},
    reading="as written",
)
@norms
def test_batch_sizes_differ_marginally(lab, judge, norm):
    """On ResNet18, the difference in accuracy between batch sizes of 20 and 50 is marginal."""
    batch20 = RunSpec(net=ResNet(18), norm=norm, batch_size=20)
    batch50 = replace(batch20, batch_size=50)

    verdict = judge(Equivalence(margin=points(2.0)), lab.train(batch20).accuracy, lab.train(batch50).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", published=+3.30, reading="corrected")
def test_smaller_batch_favours_batchnorm_over_none(lab, judge):
    """On ResNet18, a batch of 20 instead of 50 helps BatchNorm more than it helps None."""
    batchnorm20 = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20)
    batchnorm50 = replace(batchnorm20, batch_size=50)
    none20 = replace(batchnorm20, norm=NONE)
    none50 = replace(batchnorm50, norm=NONE)

    verdict = judge(
        Interaction(),
        lab.train(batchnorm20).accuracy,
        lab.train(batchnorm50).accuracy,
        lab.train(none20).accuracy,
        lab.train(none50).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", published={20: +0.65, 50: +0.75}, reading="as written")
@batch_sizes
def test_batchnorm_minus_is_slightly_better_than_batchnorm(lab, judge, batch_size):
    """On ResNet18, BatchNorm-minus is more accurate than BatchNorm."""
    batchnorm = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Superiority(), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", published={20: +0.65, 50: +0.75}, reading="corrected")
@batch_sizes
def test_batchnorm_minus_matches_batchnorm(lab, judge, batch_size):
    """On ResNet18, BatchNorm without shift and scale is as accurate as BatchNorm."""
    batchnorm = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=batch_size)
    minus = replace(batchnorm, norm=BATCHNORM_MINUS)

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(minus).accuracy, lab.train(batchnorm).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", reading="as written")
def test_batchnorm_minus_converges_better_with_the_smaller_batch(lab, judge):
    """On ResNet18, BatchNorm-minus converges to a lower training loss with a batch of 20 than with a batch of 50."""
    batch20 = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=20)
    batch50 = replace(batch20, batch_size=50)

    verdict = judge(
        Superiority(by=nats(0.0), smallest=nats(0.05)),
        lab.train(batch50).measure(train_loss),
        lab.train(batch20).measure(train_loss),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", published=-0.10, reading="corrected")
def test_smaller_batch_favours_batchnorm_minus_over_batchnorm(lab, judge):
    """On ResNet18, a batch of 20 instead of 50 helps BatchNorm-minus more than it helps BatchNorm."""
    minus20 = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=20)
    minus50 = replace(minus20, batch_size=50)
    batchnorm20 = replace(minus20, norm=BATCHNORM)
    batchnorm50 = replace(minus50, norm=BATCHNORM)

    verdict = judge(
        Interaction(),
        lab.train(minus20).accuracy,
        lab.train(minus50).accuracy,
        lab.train(batchnorm20).accuracy,
        lab.train(batchnorm50).accuracy,
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, Table 4", published={20: +9.36, 50: +7.40})
@batch_sizes
def test_normalization_matters_more_than_shift_and_scale(lab, judge, batch_size):
    """On ResNet18, normalization alone gains clearly more accuracy over None than shift and scale alone."""
    minus = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=batch_size)
    affine_layer = replace(minus, norm=AFFINE_LAYER)

    verdict = judge(Superiority(by=points(3.0)), lab.train(minus).accuracy, lab.train(affine_layer).accuracy)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.1.1, with §2.1.1's parameters per layer")
@batch_sizes
def test_normalization_matters_more_than_shift_and_scale_per_layer(lab, judge, batch_size):
    """On ResNet18, normalization alone gains clearly more than one shift and one scale per layer."""
    minus = RunSpec(net=ResNet(18), norm=BATCHNORM_MINUS, batch_size=batch_size)
    per_layer = replace(minus, norm=AFFINE_PER_LAYER)

    verdict = judge(Superiority(by=points(3.0)), lab.train(minus).accuracy, lab.train(per_layer).accuracy)

    assert verdict.held, verdict.reason
