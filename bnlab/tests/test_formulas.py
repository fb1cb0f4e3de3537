"""The paper's formulas of section 2.4, against what they are known to give."""

import math

import numpy as np
import pytest
import scipy.linalg

from bnlab.formulas import (
    angle_of_principal_axes,
    covariance_after_whitening,
    covariance_squared,
    distance_of_whitening,
    merged,
    noise_of_batches,
    sharpest_bend,
    shift_and_correlation,
    steepest_slope,
    variance_after_division,
)


@pytest.mark.parametrize("frequency", [1.0, 2.0, 4.0])
def test_a_sine_is_as_steep_as_its_frequency_and_bends_with_its_square(frequency: float) -> None:
    assert (steepest_slope(frequency), sharpest_bend(frequency)) == (frequency, frequency**2)


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2])
def test_shift_and_correlation_of_unit_gradients_follow_from_their_angle(angle: float) -> None:
    assert shift_and_correlation(angle) == pytest.approx((2 * math.sin(angle / 2), math.cos(angle)), abs=1e-6)


def test_whitening_takes_the_inverse_square_root() -> None:
    sigma = np.array([[4.0, 1.0], [1.0, 2.0]])

    assert covariance_after_whitening(-0.5) == ((1.0, 0.0), (0.0, 1.0))
    assert covariance_after_whitening(0.0) == ((4.0, 1.0), (1.0, 2.0))
    assert covariance_after_whitening(0.5) == covariance_squared() == tuple(map(tuple, (sigma @ sigma).tolist()))


@pytest.mark.parametrize(("power", "variance"), [(0.0, 4.0), (1.0, 1.0), (2.0, 0.25)])
def test_only_the_standard_deviation_divides_to_a_variance_of_one(power: float, variance: float) -> None:
    assert variance_after_division(power) == variance


def test_of_all_rotations_none_changes_the_sample_less_than_no_rotation() -> None:
    distances = [distance_of_whitening(angle) for angle in range(0, 360, 5)]
    # E |W x - x|^2 = tr(Sigma) + 2 - 2 tr(R Sigma^(1/2)), whose last term a rotation multiplies by its cosine
    root = scipy.linalg.sqrtm(np.array([[4.0, 1.0], [1.0, 2.0]]))

    assert np.argmin(distances) == 0
    assert distances == pytest.approx(
        [6 + 2 - 2 * np.trace(root) * math.cos(math.radians(angle)) for angle in range(0, 360, 5)], abs=1e-5
    )
    assert angle_of_principal_axes() == -22.5  # tan(2 * 22.5) = 2 * 1 / (4 - 2)


@pytest.mark.parametrize("sizes", [(7,), (1, 6), (3, 2, 2), (1, 1, 1, 1, 1, 1, 1)])
def test_batches_merge_to_the_mean_and_variance_of_all_their_numbers(sizes: tuple[int, ...]) -> None:
    x = np.array([2.0, -1.0, 4.0, 4.5, 0.0, 10.0, 3.0])

    assert merged(np.split(x, np.cumsum(sizes)[:-1])) == pytest.approx((x.mean(), x.var()), abs=1e-6)


@pytest.mark.parametrize("statistic", ["mean", "variance"])
def test_batch_statistics_come_closer_to_a_gaussian_with_the_batch(statistic: str) -> None:
    noise = [noise_of_batches(batch, statistic) for batch in (2, 8, 128)]

    assert [one.gaussian for one in noise] == [False, statistic == "mean", True]
    assert noise[0].distance > noise[1].distance > noise[2].distance


def test_scatter_of_batch_means_shrinks_with_the_batch_size() -> None:
    assert [noise_of_batches(batch, "mean").scatter for batch in (2, 8, 32)] == [1.0, 1.0, 1.0]
