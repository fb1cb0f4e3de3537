"""§3.3  Implementation."""

import pytest

from bnlab import BATCHNORM, BATCHNORM_MINUS, NONE, Definition, ResNet, describe

nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34), ResNet(50), ResNet(101)], ids=str)


@pytest.mark.claim("§3.3")
@nets
def test_batchnorm_minus_leaves_shift_at_zero_and_scale_at_one(judge, net):
    """BatchNorm-minus leaves the shift and scale, no longer trainable, at their initial values 0 and 1."""
    minus = describe(net, BATCHNORM_MINUS)

    verdict = judge(
        Definition(), (minus.affine_parameters, minus.frozen_shift, minus.frozen_scale), (0, (0.0,), (1.0,))
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§3.3")
@nets
def test_batchnorm_minus_is_batchnorm_without_its_trainable_shift_and_scale(judge, net):
    """BatchNorm-minus trains everything that BatchNorm trains but the shift and scale."""
    batchnorm = describe(net, BATCHNORM)
    minus = describe(net, BATCHNORM_MINUS)

    verdict = judge(Definition(), minus.trainable, batchnorm.trainable - batchnorm.affine_parameters)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§3.3")
@nets
def test_none_has_an_identity_in_place_of_batchnorm(judge, net):
    """None has an identity in place of each BatchNorm: the convolutions stay, and nothing else is trained or kept."""
    batchnorm = describe(net, BATCHNORM)
    none = describe(net, NONE)

    verdict = judge(
        Definition(),
        (none.convolutions, none.parameters, none.has_running_statistics),
        (batchnorm.convolutions, batchnorm.parameters - batchnorm.affine_parameters, False),
    )

    assert verdict.held, verdict.reason
