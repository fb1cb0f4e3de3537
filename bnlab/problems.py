"""Problems of the literature that are small enough to be followed step by step, in double precision.

The paper's section 2.4.5 cites Kohler, Daneshmand, Lucchi, Zhou, Neymeyr & Hofmann 2019, "Exponential convergence rates
for Batch Normalization: The power of length-direction decoupling in non-convex optimization": least squares and
halfspaces. Its section 1 cites Chai, Pilanci & Murmann 2020, "Separating the effects of batch normalization on CNN
training speed and stability using classical adaptive filter theory": the least mean squares filter. No code of either
was published; the functions here are our own, from their equations.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SPECTRUM = np.geomspace(1.0, 0.1, 8)
"""Eigenvalues of the inputs' covariance S."""

_NODES = np.linspace(-9, 9, 4001)
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
"""A standard normal number, as so many values and their probabilities."""


def _drawn(seed: int) -> tuple[Numbers, Numbers, Numbers]:
    """S of SPECTRUM in random axes, the weights w* that generated the data, and where descent starts."""
    draw = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(draw.standard_normal((len(SPECTRUM), len(SPECTRUM))))
    return axes @ np.diag(SPECTRUM) @ axes.T, draw.standard_normal(8), draw.standard_normal(8)


def least_squares(steps: int, *, decoupled: bool, seed: int = 0) -> Numbers:
    """Loss above its minimum before each step, for E (y - x'w)^2 with Cov x = S and y = x'w*.

    Coupled, a step is w <- w - grad / (2 L), L the largest eigenvalue of S. Decoupled, w = g v / |v|_S as BatchNorm has
    it: g takes the best length for v, and v takes a step of size v'Sv / (2 L |rho|) along the loss at that length,
    rho(v) = -(v'Sw*)^2 / v'Sv plus a constant (the paper's theorem 1).
    """
    s, best, w = _drawn(seed)
    found = []
    for _ in range(steps):
        if decoupled:
            w = w * (w @ s @ best) / (w @ s @ w)
        found.append((w - best) @ s @ (w - best))
        gradient = 2 * s @ (w - best)
        # at the best length, descent on rho with the theorem's step is descent on the loss with the coupled one
        w = w - _step_on_rho(w, s, best) if decoupled else w - gradient / (2 * SPECTRUM[0])
    return np.array(found)


def _step_on_rho(v: Numbers, s: Numbers, best: Numbers) -> Numbers:
    along, length = v @ s @ best, v @ s @ v
    rho = -(along**2) / length
    gradient = -2 * along / length * s @ best + 2 * along**2 / length**2 * s @ v
    step: Numbers = length / (2 * SPECTRUM[0] * abs(rho)) * gradient
    return step


def bound_of_least_squares(steps: int) -> Numbers:
    """The theorem's share of the first gap that may be left before each step: (1 - mu / L)^(2 t)."""
    shares: Numbers = (1 - SPECTRUM[-1] / SPECTRUM[0]) ** (2.0 * np.arange(steps))
    return shares


def is_convex_between(first: float, second: float, seed: int = 0) -> bool:
    """Whether least squares at the best length lies below its chord, between two directions at these angles from w*.

    The angles are taken in a plane through w*, in degrees.
    """
    s, best, other = _drawn(seed)
    beside = other - best * (other @ s @ best) / (best @ s @ best)
    u, v = best / np.sqrt(best @ s @ best), beside / np.sqrt(beside @ s @ beside)

    def loss(w: Numbers) -> float:
        return float(best @ s @ best - (w @ s @ best) ** 2 / (w @ s @ w))

    ends = [np.cos(np.radians(a)) * u + np.sin(np.radians(a)) * v for a in (first, second)]
    return loss((ends[0] + ends[1]) / 2) <= (loss(ends[0]) + loss(ends[1])) / 2


def halfspace(steps: int, *, decoupled: bool, seed: int = 0) -> Numbers:
    """|w - w*|_S before each step, for the logistic loss E log(1 + exp(-y x'w)), x ~ N(0, S).

    y is 1 with probability sigmoid(x'w*), so w* is the minimum. Expectations are exact: by Stein's lemma the gradient
    is S (kappa(|w|_S) w - kappa(|w*|_S) w*), with kappa(t) the mean slope of the sigmoid over N(0, t^2). Coupled, steps
    have size 1 / (L kappa(0)). Decoupled, the best length for the direction is found by bisection, and the direction
    takes the same steps as in `least_squares`, whose gradient along the direction is parallel to this one.
    """
    s, best, w = _drawn(seed)
    target = _norm(best, s)
    found = []
    for _ in range(steps):
        if decoupled:
            w = w * np.sign(w @ s @ best)
            w = w / _norm(w, s)
            w = w * _length(float(w @ s @ best) * mean_slope(target))
        found.append(_norm(w - best, s))
        gradient = s @ (mean_slope(_norm(w, s)) * w - mean_slope(target) * best)
        w = w - (_step_on_rho(w, s, best) if decoupled else gradient / (SPECTRUM[0] * mean_slope(0.0)))
    return np.array(found)


def _norm(w: Numbers, s: Numbers) -> float:
    return float(np.sqrt(w @ s @ w))


def mean_slope(deviation: float) -> float:
    """E sigmoid'(t) for t ~ N(0, deviation^2)."""
    small = np.exp(-np.abs(deviation * _NODES))
    return float(_WEIGHTS @ (small / (1 + small) ** 2))


def _length(along: float) -> float:
    """The length g at which g * mean_slope(g) = along: the derivative of the loss along a direction is 0 there."""
    return _edge(0.0, 100.0, lambda length: length * mean_slope(length) < along)


def straightness(gaps: Numbers) -> tuple[float, float]:
    """Slope a step and R^2 of a straight line through the logarithms of gaps: 1 where convergence is linear."""
    steps, logs = np.arange(len(gaps)), np.log(gaps)
    slope, intercept = np.polyfit(steps, logs, 1)
    rest = logs - slope * steps - intercept
    return float(slope), float(1 - rest @ rest / ((logs - logs.mean()) @ (logs - logs.mean())))


def filter_error(spectrum: Sequence[float], rate: float, steps: int) -> float:
    """Share of the weight error that is left after `steps` of least mean squares on inputs of this spectrum.

    A step is error <- (I - rate R) error with R the autocorrelation of a layer's inputs, here in random axes, along
    each of which the first error is 1.
    """
    draw = np.random.default_rng(1)
    axes, _ = np.linalg.qr(draw.standard_normal((len(spectrum), len(spectrum))))
    step = np.eye(len(spectrum)) - rate * axes @ np.diag(spectrum) @ axes.T
    first = axes.sum(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        left = np.linalg.matrix_power(step, steps) @ first
        return float(np.linalg.norm(left) / np.linalg.norm(first))


def largest_stable_rate(spectrum: Sequence[float]) -> float:
    """The largest learning rate below 8 at which 1,000 steps do not make the error larger, by bisection."""
    return _edge(0.0, 8.0, lambda rate: filter_error(spectrum, rate, 1000) <= 1)


def steps_to_learn(spectrum: Sequence[float], rate: float, left: float = 0.01) -> int:
    """Steps until this share of the error is left, at a stable learning rate; fewer than 2^20."""
    return int(_edge(0.0, 2.0**20, lambda steps: filter_error(spectrum, rate, int(steps)) > left)) + 1


def stability_and_speed(*spectrum: float) -> tuple[float, int]:
    """The largest stable learning rate, and the steps until a hundredth of the error is left at a rate of 0.02."""
    return round(largest_stable_rate(spectrum), 2), steps_to_learn(spectrum, rate=0.02)


def _edge(low: float, high: float, holds: Callable[[float], bool]) -> float:
    """Where something stops to hold, between a number at which it does and one at which it does not."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
