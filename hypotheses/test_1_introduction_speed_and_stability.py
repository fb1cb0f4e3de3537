"""§1  Introduction: speed and stability."""

import pytest

from bnlab import Definition
from bnlab.problems import stability_and_speed


@pytest.mark.claim("§1")
def test_speed_and_stability_are_independent(judge):
    """Descent gets stable at twice the rate by halving the largest eigenvalue of a layer's inputs, and no faster.

    By doubling the smallest eigenvalue it gets to a hundredth of its error in half the steps, and no more stable.

    "Another study claimed that the speed and stability of BatchNorm are independent effects [4]." (§1)
    """
    plain = stability_and_speed(4.0, 1.0, 0.25)
    suppressed = stability_and_speed(2.0, 1.0, 0.25)
    amplified = stability_and_speed(4.0, 1.0, 0.5)

    verdict = judge(Definition(), (plain, suppressed, amplified), ((0.5, 810), (1.0, 810), (0.5, 404)))

    assert verdict.held, verdict.reason
