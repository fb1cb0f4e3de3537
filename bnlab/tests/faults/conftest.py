"""Counts what the suite tried, and prints it at the end: `pytest bnlab/tests/faults -m slow -n 0`."""

from collections import Counter

import pytest

from bnlab.store import Store

TRIED = pytest.StashKey[Counter]()


def pytest_configure(config):
    config.stash[TRIED] = Counter()


@pytest.fixture
def here(tmp_path):
    """A new store."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def tried(pytestconfig):
    """Counts by name: faults tried, Runs lost, epochs trained twice, silent greens."""
    return pytestconfig.stash[TRIED]


def pytest_terminal_summary(terminalreporter, config):
    for name, number in sorted(config.stash.get(TRIED, Counter()).items()):
        terminalreporter.write_line(f"{name}: {number:,}")
