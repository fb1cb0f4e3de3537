"""§4.2.1  ResNet34."""

import pytest

from bnlab import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Equivalence, Every, ResNet, Superiority, points
from bnlab.paper import BASIC, NORMS, arms, replicates_table


@pytest.mark.claim("§4.2.1, Table 6")
def test_table_6_replicates(lab, judge):
    """On ResNet34, every arm reaches the accuracy that Table 6 gives for it.

    "Comparing the results for ResNet34 in Table 6 to those for ResNet18 in Table 4, we see more similarities than
    differences." (§4.2.1)
    """
    verdict = judge(replicates_table(lab, ResNet(34), margin=points(2.0)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.1, Tables 4 and 6")
def test_resnet34_is_similar_to_resnet18(lab, judge):
    """Every arm is about as accurate on ResNet34 as on ResNet18, at both batch sizes.

    "... we see more similarities than differences." (§4.2.1)
    """
    resnet34 = arms(lab, NORMS, ResNet(34))
    resnet18 = arms(lab, NORMS, ResNet(18))

    verdict = judge(Every(Equivalence(margin=points(2.0))), resnet34, resnet18)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.1, Table 6")
def test_batchnorm_minus_marginally_outperforms_batchnorm(lab, judge):
    """On ResNet34, BatchNorm-minus is more accurate than BatchNorm by up to two points, at both batch sizes.

    "In both cases, BatchNorm-minus marginally outperforms BatchNorm, with the other two cases trailing far behind"
    (§4.2.1; the other case is ResNet18, in section 4.1.1)
    """
    minus = arms(lab, BATCHNORM_MINUS, ResNet(34))
    batchnorm = arms(lab, BATCHNORM, ResNet(34))

    verdict = judge(Every(Superiority(), Equivalence(margin=points(2.0))), minus, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.2.1, Tables 4 and 6")
def test_unnormalized_arms_trail_far_behind(lab, judge):
    """On ResNet18 and 34, AffineLayer and None are far less accurate than BatchNorm and BatchNorm-minus.

    "... with the other two cases trailing far behind" (§4.2.1)
    """
    batchnorm = arms(lab, BATCHNORM, BASIC)
    minus = arms(lab, BATCHNORM_MINUS, BASIC)
    affine_layer = arms(lab, AFFINE_LAYER, BASIC)
    none = arms(lab, NONE, BASIC)

    verdict = judge(
        Every(Superiority(by=points(3.0))),
        batchnorm + batchnorm + minus + minus,
        affine_layer + none + affine_layer + none,
    )

    assert verdict.held, verdict.reason
