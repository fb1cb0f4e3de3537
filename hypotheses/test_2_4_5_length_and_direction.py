"""§2.4.5  Decoupling the length and direction of the weights."""

import pytest

from bnlab import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Definition, Part, describe_effects
from bnlab.problems import bound_of_least_squares, halfspace, is_convex_between, least_squares, straightness

WEIGHT_NORM = Part(code="torch.nn.utils.parametrizations:weight_norm", name="WeightNorm")
STEPS = 60


@pytest.mark.claim("§2.4.5", "§4.1.2")
def test_batchnorm_makes_length_independent_of_direction(judge):
    """BatchNorm and BatchNorm-minus decouple the length of a filter from its direction, AffineLayer and None do not.

    "In [14], it is shown that the transformations that BatchNorm imposes results in the magnitude of the weight vector
    being independent of the direction of the vector." (§2.4.5; section 4.1.2 says it of BatchNorm-minus too)
    """
    normalized = (describe_effects(BATCHNORM).decouples, describe_effects(BATCHNORM_MINUS).decouples)
    unnormalized = (describe_effects(AFFINE_LAYER).decouples, describe_effects(NONE).decouples)

    verdict = judge(Definition(), (normalized, unnormalized), ((True, True), (False, False)))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.5", reading="as written")
def test_no_other_method_decouples_length_and_direction(judge):
    """WeightNorm does not ignore the length of a filter's direction.

    "The authors hypothesize that this allows BatchNorm to use properties of the optimization landscape in a way that
    other regularization methods cannot." (§2.4.5)
    """
    found = (describe_effects(BATCHNORM).ignores_length, describe_effects(NONE, WEIGHT_NORM).ignores_length)

    verdict = judge(Definition(), found, (True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.5", reading="corrected")
def test_weight_norm_decouples_length_and_direction_too(judge):
    """WeightNorm ignores the length of a filter's direction as BatchNorm does, and its gradient is orthogonal too."""
    found = (describe_effects(BATCHNORM).decouples, describe_effects(NONE, WEIGHT_NORM).decouples)

    verdict = judge(Definition(), found, (True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.5")
def test_decoupled_descent_converges_linearly_on_a_non_convex_problem(judge):
    """Least squares at the best length is not convex, and its descent keeps within the bound of linear convergence.

    "Using this property in their optimization step, they were able to achieve a linear convergence on a non-convex
    problem." (§2.4.5)
    """
    gaps = least_squares(STEPS, decoupled=True)
    _, straight = straightness(gaps)
    within = bool((gaps <= gaps[0] * bound_of_least_squares(STEPS) * (1 + 1e-9)).all())

    verdict = judge(Definition(), (is_convex_between(60, 100), within, straight > 0.98), (False, True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.5")
def test_decoupled_descent_learns_halfspaces_faster(judge):
    """Halfspaces with Gaussian inputs are learned linearly, and faster than by descent on the weight as it is.

    "The authors hypothesize that this allows BatchNorm to use properties of the optimization landscape ..." (§2.4.5)
    """
    slope, straight = straightness(halfspace(STEPS, decoupled=True))
    coupled, _ = straightness(halfspace(STEPS, decoupled=False))

    verdict = judge(Definition(), (straight > 0.98, slope < coupled < 0), (True, True))

    assert verdict.held, verdict.reason
