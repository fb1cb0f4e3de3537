"""§2.4.2  Further experiments on the ICS: unitized BatchNorm."""

import pytest

from bnlab import (
    BATCHNORM,
    Definition,
    Equivalence,
    Every,
    Norm,
    Superiority,
    describe_layer,
    log_ratio,
    log_reading,
    points,
    same_layer,
)
from bnlab.paper import SMALLEST_RATIO, related

UBN = Norm(layer="bnlab.norms.unitized:UnitizedBatchNorm", name="unitized BatchNorm")
ALL_OF_IT = Norm(layer="bnlab.norms.unitized:UnitizedBatchNorm", options={"alpha": 1.0})

of_gradients = log_reading("earth mover's distance, gradients", above="earth_mover/gradient")
of_outputs = log_reading("earth mover's distance, outputs", above="earth_mover/output")
more_than_nothing = Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)


@pytest.mark.claim("§2.4.2")
def test_unitized_batchnorm_trains_alpha_beside_shift_and_scale(judge):
    """Unitized BatchNorm trains alpha beside beta and gamma, starts as BatchNorm at alpha = 0, and is none at 1.

    "Interestingly, their normalization step involves an additional parameter α, which is trained alongside the β and γ
    parameters." (§2.4.2)
    """
    found = (describe_layer(UBN).trained, same_layer(UBN, BATCHNORM), same_layer(ALL_OF_IT, BATCHNORM))

    verdict = judge(Definition(), found, (("alpha", "bias", "weight"), True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.2")
def test_unitized_batchnorm_is_slightly_better(lab, judge):
    """On ResNet-20, unitized BatchNorm is more accurate than BatchNorm by up to two points.

    "The paper claims to obtain an improvement over BatchNorm, albeit a small one." (§2.4.2)
    """
    unitized, batchnorm = lab.train(related(UBN)).accuracy, lab.train(related(BATCHNORM)).accuracy

    verdict = judge(Every(Superiority(), Equivalence(margin=points(2.0))), (unitized,), (batchnorm,))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.2", reading="as written")
def test_unitizing_bounds_the_distance_of_gradients(lab, judge):
    """On ResNet-20, an update moves the distribution of a layer's gradient less with unitized BatchNorm.

    "In this case, the distributions being compared are based on the statistics of the gradient values before and after
    updates." (§2.4.2)
    """
    batchnorm = lab.train(related(BATCHNORM), probes=("earth_mover",))
    unitized = lab.train(related(UBN), probes=("earth_mover",))

    verdict = judge(more_than_nothing, batchnorm.measure(of_gradients), unitized.measure(of_gradients))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.2", reading="corrected")
def test_unitizing_bounds_the_distance_of_outputs(lab, judge):
    """On ResNet-20, an update moves the distribution of a layer's outputs less with unitized BatchNorm."""
    batchnorm = lab.train(related(BATCHNORM), probes=("earth_mover",))
    unitized = lab.train(related(UBN), probes=("earth_mover",))

    verdict = judge(more_than_nothing, batchnorm.measure(of_outputs), unitized.measure(of_outputs))

    assert verdict.held, verdict.reason
