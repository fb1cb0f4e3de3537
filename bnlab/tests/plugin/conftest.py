"""What the tests of the plugin share."""

import pytest

from bnlab.report import drawing


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions of this process draw nothing, which takes most of their time; tests/report draws."""
    monkeypatch.setattr(drawing, "panel", lambda *arguments, **options: "<svg></svg>")
