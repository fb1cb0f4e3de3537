"""Small problems of the literature against closed forms and scipy."""

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
from scipy.special import expit

from bnlab.problems import (
    SPECTRUM,
    bound_of_least_squares,
    filter_error,
    halfspace,
    is_convex_between,
    largest_stable_rate,
    least_squares,
    mean_slope,
    steps_to_learn,
    straightness,
)

STEPS = 60


def test_coupled_least_squares_is_gradient_descent_in_closed_form() -> None:
    """Along each axis the error shrinks by 1 - s / L a step, so a gap is a sum of such powers."""
    gaps = least_squares(STEPS, decoupled=False)

    powers = (1 - SPECTRUM / SPECTRUM[0]) ** (2 * np.arange(STEPS)[:, None])
    shares, residual = scipy.optimize.nnls(powers, gaps)
    assert residual < 1e-6 * gaps[0]
    assert shares.sum() == pytest.approx(gaps[0])


@pytest.mark.parametrize("seed", range(5))
def test_decoupled_least_squares_keeps_within_its_bound_and_starts_at_the_best_length(seed: int) -> None:
    gaps, coupled = (least_squares(STEPS, decoupled=decoupled, seed=seed) for decoupled in (True, False))

    assert bool((gaps <= gaps[0] * bound_of_least_squares(STEPS) * (1 + 1e-9)).all())
    assert gaps[0] <= coupled[0]
    assert straightness(gaps)[1] > 0.95


def test_least_squares_at_the_best_length_is_convex_near_the_minimum_only() -> None:
    """The loss is sin^2 of the angle, up to a factor."""
    assert is_convex_between(-20, 20)
    assert not is_convex_between(60, 100)


@pytest.mark.parametrize("deviation", [0.0, 0.5, 3.0, 40.0])
def test_the_mean_slope_of_the_sigmoid_is_scipys(deviation: float) -> None:
    def weighed(z: float) -> float:
        return expit(deviation * z) * expit(-deviation * z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    expected, _ = scipy.integrate.quad(weighed, -10, 10, points=[0], limit=400)
    assert mean_slope(deviation) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_halfspaces_are_learned_faster_decoupled(seed: int) -> None:
    decoupled, coupled = (halfspace(STEPS, decoupled=way, seed=seed) for way in (True, False))

    assert straightness(decoupled)[0] < straightness(coupled)[0] < 0
    assert decoupled[-1] < coupled[-1]
    assert bool((np.diff(coupled) < 0).all())


def test_a_step_of_the_coupled_halfspace_follows_the_gradient_of_drawn_examples() -> None:
    """The exact gradient by Stein's lemma, against the mean of x (sigmoid(x'w) - sigmoid(x'w*)) over a million x."""
    w, best = np.array([1.0, -0.5]), np.array([0.3, 2.0])
    root = np.array([[1.0, 0.0], [0.5, 0.8]])
    s, x = root @ root.T, np.random.default_rng(0).standard_normal((1_000_000, 2)) @ root.T
    drawn = (x * (expit(x @ w) - expit(x @ best))[:, None]).mean(axis=0)

    exact = s @ (mean_slope(np.sqrt(w @ s @ w)) * w - mean_slope(np.sqrt(best @ s @ best)) * best)
    np.testing.assert_allclose(exact, drawn, atol=2e-3)


@pytest.mark.parametrize("spectrum", [(1.0,), (4.0, 1.0, 0.25), (0.5, 0.5)])
def test_the_largest_stable_rate_is_two_over_the_largest_eigenvalue(spectrum: tuple[float, ...]) -> None:
    assert largest_stable_rate(spectrum) == pytest.approx(2 / max(spectrum), rel=1e-3)


@pytest.mark.parametrize(("spectrum", "rate"), [((4.0, 1.0, 0.25), 0.02), ((1.0,), 0.5), ((3.0, 2.0), 0.6)])
def test_an_error_shrinks_along_each_axis_by_its_own_power(spectrum: tuple[float, ...], rate: float) -> None:
    def left(steps: int) -> float:
        return float(np.sqrt(np.mean((1 - rate * np.array(spectrum)) ** (2.0 * steps))))

    assert [filter_error(spectrum, rate, steps) for steps in (1, 7)] == pytest.approx([left(1), left(7)])
    assert steps_to_learn(spectrum, rate) == next(steps for steps in range(1, 10_000) if left(steps) <= 0.01)


def test_a_straight_line_has_its_slope_and_no_rest() -> None:
    assert straightness(np.exp(2 - 0.5 * np.arange(10))) == pytest.approx((-0.5, 1.0))
    assert straightness(1 / np.arange(1.0, 30.0))[1] < 0.95
