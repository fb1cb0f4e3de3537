"""Formulas of the paper's section 2.4, each as it is printed and as it has to be, evaluated on numbers.

The paper's background states some of them the wrong way round. The definitional claims of that section evaluate both
forms here; nothing is trained.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_ROUNDED = 6
_SIGMA = np.array([[4.0, 1.0], [1.0, 2.0]])


def steepest_slope(frequency: float) -> float:
    """The smallest K for which f(x) = sin(frequency * x) is K-Lipschitz, from its slopes on a fine grid (2.4.1)."""
    _, slopes = _sine(frequency)
    return round(float(np.abs(slopes).max()), 2)


def sharpest_bend(frequency: float) -> float:
    """The largest change of slope per unit of x of f(x) = sin(frequency * x): the smaller, the smoother (2.4.1)."""
    x, slopes = _sine(frequency)
    return round(float(np.abs(np.diff(slopes) / np.diff(x[:-1])).max()), 2)


def _sine(frequency: float) -> tuple[Numbers, Numbers]:
    x = np.linspace(0, 2 * np.pi, 100_001)
    return x, np.diff(np.sin(frequency * x)) / np.diff(x)


def shift_and_correlation(angle: float) -> tuple[float, float]:
    """Of gradients G and G' of length 1 at this angle: the shift ||G - G'|| and the cosine similarity (2.4.1).

    The paper's reference [21] measures internal covariate shift by both: G' is a layer's gradient after the layers
    before it were updated.
    """
    before, after = np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)])
    return round(float(np.linalg.norm(before - after)), _ROUNDED), round(float(before @ after), _ROUNDED)


def covariance_after_whitening(power: float) -> tuple[tuple[float, ...], ...]:
    """Covariance of Sigma^power (x - mu) over a sample x of two features with Sigma = [[4, 1], [1, 2]] (2.4.7)."""
    draws = np.random.default_rng(0).standard_normal((1000, 2))
    draws = (draws - draws.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(draws.T, bias=True)).T)
    x = 3 + draws @ np.linalg.cholesky(_SIGMA).T
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    transform = vectors @ np.diag(values**power) @ vectors.T
    return _rounded(np.cov(transform @ (x - x.mean(axis=0)).T, bias=True))


def covariance_squared() -> tuple[tuple[float, ...], ...]:
    """Sigma @ Sigma of the same Sigma."""
    return _rounded(_SIGMA @ _SIGMA)


def _rounded(matrix: Numbers) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(value), _ROUNDED) + 0.0 for value in row) for row in matrix)


def distance_of_whitening(rotation: float) -> float:
    """Mean squared distance between x - mu and its whitened form R Sigma^(-1/2) (x - mu), for the same sample (2.4.7).

    R turns the two axes by `rotation` degrees. Every R whitens; 0 is ZCA. PCA's angle is `angle_of_principal_axes`.
    """
    angle = np.radians(rotation)
    values, vectors = np.linalg.eigh(_SIGMA)
    zca = vectors @ np.diag(values**-0.5) @ vectors.T
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    change = turn @ zca - np.eye(2)
    return round(float(np.trace(change @ _SIGMA @ change.T)), _ROUNDED)


def angle_of_principal_axes() -> float:
    """By how many degrees PCA turns that sample, to lay its principal axes onto the coordinate axes (2.4.7)."""
    _, vectors = np.linalg.eigh(_SIGMA)
    return round(-float(np.degrees(np.arctan(vectors[1, 1] / vectors[0, 1]))), _ROUNDED)


def variance_after_division(power: float) -> float:
    """Variance of (x - mu) / sigma^power over a sample with mean 3 and standard deviation sigma = 2 (2.4.8)."""
    x = np.array([1.0, 5.0, 1.0, 5.0])
    return round(float(((x - x.mean()) / x.std() ** power).var()), _ROUNDED)


def merged_in_batches(*sizes: int) -> tuple[float, float]:
    """`merged` of the same skewed numbers, seen in batches of these sizes (2.4.8)."""
    return merged(np.split(np.random.default_rng(0).gamma(2.0, size=sum(sizes)), np.cumsum(sizes)[:-1]))


def merged(batches: Sequence[Numbers]) -> tuple[float, float]:
    """Mean and variance of several batches of numbers, each seen once (2.4.8).

    With n numbers seen and k new ones, d = mean(new) - mu: mu += d k / (n + k), and the variance becomes
    (n var + k var(new)) / (n + k) + d^2 n k / (n + k)^2 (Li et al. 2016, algorithm 1, with n + k for its n).
    """
    n, mu, var = 0, 0.0, 0.0
    for new in batches:
        k, d = len(new), float(new.mean()) - mu
        var = (n * var + k * float(new.var())) / (n + k) + d**2 * n * k / (n + k) ** 2
        mu += d * k / (n + k)
        n += k
    return round(mu, _ROUNDED), round(var, _ROUNDED)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How a statistic of random batches scatters around that of the population (2.4.3).

    `scatter` is its variance over the population's variance / batch size, to one decimal; 1 for the mean of independent
    numbers. `distance` is the largest difference between its distribution and that of a Gaussian of the same mean and
    variance, and `gaussian` that it is below a twentieth.
    """

    scatter: float
    distance: float

    @property
    def gaussian(self) -> bool:
        """Whether the distribution is within a twentieth of a Gaussian's."""
        return self.distance < 0.05


def noise_of_batches(batch: int, statistic: str) -> Noise:
    """The noise of the `mean` or the `variance` of batches of this size, from 20,000 batches of skewed numbers.

    The numbers are sizes of Gaussian ones, so that a single one is far from Gaussian (2.4.3).
    """
    draws = np.abs(np.random.default_rng(0).standard_normal((20_000, batch)))
    found = np.sort(draws.mean(axis=1) if statistic == "mean" else draws.var(axis=1))
    standard = (found - found.mean()) / found.std()
    gaussian = np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in standard])
    ranks = (np.arange(len(found)) + 0.5) / len(found)
    scatter = found.var() / (draws.var() / batch)
    return Noise(scatter=round(float(scatter), 1), distance=float(np.abs(gaussian - ranks).max()))
