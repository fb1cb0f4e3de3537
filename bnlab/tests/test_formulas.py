"""The paper's formulas of section 2.4, against what they are known to give."""

import math

import numpy as np
import pytest

from bnlab.formulas import (
    covariance_after_whitening,
    covariance_squared,
    gap_between_domains,
    noise_of_batches,
    sharpest_bend,
    shift_and_correlation,
    steepest_slope,
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


def test_domains_align_at_alpha_one_and_share_one_transform_at_a_half() -> None:
    assert gap_between_domains(1.0) == 0
    assert gap_between_domains(0.5) == pytest.approx(5 / math.sqrt(1 + 2.5**2), abs=1e-6)


@pytest.mark.parametrize("statistic", ["mean", "variance"])
def test_batch_statistics_come_closer_to_a_gaussian_with_the_batch(statistic: str) -> None:
    noise = [noise_of_batches(batch, statistic) for batch in (2, 8, 128)]

    assert [one.gaussian for one in noise] == [False, statistic == "mean", True]
    assert noise[0].distance > noise[1].distance > noise[2].distance


def test_scatter_of_batch_means_shrinks_with_the_batch_size() -> None:
    assert [noise_of_batches(batch, "mean").scatter for batch in (2, 8, 32)] == [1.0, 1.0, 1.0]
