"""A warning fails the tests of bnlab."""

import warnings

import pytest


def test_a_warning_is_an_error_here():
    with pytest.raises(UserWarning, match="seen"):
        warnings.warn("seen", stacklevel=1)


@pytest.mark.filterwarnings("ignore:unseen")
def test_a_filter_of_the_test_itself_comes_after():
    with warnings.catch_warnings(record=True) as shown:
        warnings.warn("unseen", stacklevel=1)

    assert shown == []
