"""What the tests of the house share."""

import pytest

from bnlab.tests.house.pages import HYPOTHESES, cases_of


@pytest.fixture(scope="session")
def cases():
    """Every claim of hypotheses/."""
    return cases_of(HYPOTHESES)
