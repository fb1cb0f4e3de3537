"""§3.3  Implementation."""

import pytest

from bnlab import BATCHNORM, BATCHNORM_MINUS, NONE, Definition, describe_layer
from bnlab.paper import facts


@pytest.mark.claim("§3.3")
def test_batchnorm_minus_leaves_shift_at_zero_and_scale_at_one(judge):
    """After a step of training, the shift and scale of BatchNorm-minus are still 0 and 1.

    "To implement BatchNorm-minus, we modified the existing BatchNorm layer in PyTorch to make the shift and scale no
    longer trainable, which leaves them at their initial values of (β, γ) = (0, 1)." (§3.3)
    """
    minus = facts(BATCHNORM_MINUS)

    verdict = judge(
        Definition(),
        (minus.affine_parameters, minus.frozen_shift, minus.frozen_scale),
        (4 * (0,), 4 * ((0.0,),), 4 * ((1.0,),)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§3.3")
def test_batchnorm_minus_is_batchnorm_without_its_trainable_shift_and_scale(judge):
    """BatchNorm-minus keeps every parameter of BatchNorm and trains all but the shift and scale.

    "... we modified the existing BatchNorm layer in PyTorch to make the shift and scale no longer trainable ..." (§3.3)
    """
    batchnorm, minus = facts(BATCHNORM), facts(BATCHNORM_MINUS)

    verdict = judge(
        Definition(), (minus.trainable, minus.parameters), (batchnorm.other_parameters, batchnorm.parameters)
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§3.3")
def test_none_has_an_identity_in_place_of_batchnorm(judge):
    """None has an identity in place of each BatchNorm, and everything else of the network as it was.

    "To train our models without any type of normalization (which is denoted as "none" in our tables and graphs), we
    simply use an identity layer in place of BatchNorm." (§3.3)
    """
    batchnorm, none = facts(BATCHNORM), facts(NONE)

    verdict = judge(
        Definition(),
        (describe_layer(NONE).is_identity, none.norm_layers, none.parameters, none.has_running_statistics),
        (True, batchnorm.norm_layers, batchnorm.other_parameters, 4 * (False,)),
    )

    assert verdict.held, verdict.reason
