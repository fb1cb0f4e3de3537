"""§1  Introduction: speed and stability."""

import pytest

from bnlab import Definition
from bnlab.problems import largest_stable_rate, steps_to_learn


@pytest.mark.claim("§1")
def test_speed_and_stability_are_independent(judge):
    """Descent gets stable at twice the rate by halving the largest eigenvalue of a layer's inputs, and no faster.

    By doubling the smallest eigenvalue it gets to a hundredth of its error in half the steps, and no more stable.

    "Another study claimed that the speed and stability of BatchNorm are independent effects [4]." (§1)
    """
    plain, suppressed, amplified = (4.0, 1.0, 0.25), (2.0, 1.0, 0.25), (4.0, 1.0, 0.5)
    found = tuple(
        (round(largest_stable_rate(spectrum), 2), steps_to_learn(spectrum, rate=0.02))
        for spectrum in (plain, suppressed, amplified)
    )

    verdict = judge(Definition(), found, ((0.5, 810), (1.0, 810), (0.5, 404)))

    assert verdict.held, verdict.reason
