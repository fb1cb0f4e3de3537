"""§3.2  BatchNorm variants."""

import pytest

from bnlab import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Definition, ResNet, describe

nets = pytest.mark.parametrize("net", [ResNet(18), ResNet(34), ResNet(50), ResNet(101)], ids=str)


@pytest.mark.claim("§3.2, Table 1")
@pytest.mark.parametrize(
    ("norm", "reparameterizes", "normalizes"),
    [
        pytest.param(BATCHNORM, True, True, id="BatchNorm"),
        pytest.param(AFFINE_LAYER, True, False, id="AffineLayer"),
        pytest.param(BATCHNORM_MINUS, False, True, id="BatchNorm-minus"),
        pytest.param(NONE, False, False, id="None"),
    ],
)
@nets
def test_arms_reparameterize_and_normalize_as_tabulated(judge, net, norm, reparameterizes, normalizes):
    """Of the four arms, BatchNorm and AffineLayer re-parameterize, BatchNorm and BatchNorm-minus re-normalize."""
    facts = describe(net, norm)

    verdict = judge(
        Definition(), (facts.affine_parameters > 0, facts.has_running_statistics), (reparameterizes, normalizes)
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§3.2")
@nets
def test_affine_layer_trains_the_shift_and_scale_of_batchnorm(judge, net):
    """AffineLayer has the trainable shift and scale parameters of BatchNorm, one for one."""
    affine_layer = describe(net, AFFINE_LAYER)
    batchnorm = describe(net, BATCHNORM)

    verdict = judge(Definition(), affine_layer.affine_parameters, batchnorm.affine_parameters)

    assert verdict.held, verdict.reason
