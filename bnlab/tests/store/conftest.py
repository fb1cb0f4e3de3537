"""What the tests of the store share."""

import pytest

from bnlab.store import Store
from bnlab.store.transfer import export_runs
from bnlab.tests.store.runs import run


@pytest.fixture
def here(tmp_path):
    """A new store."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    """Four exported Runs."""
    path = tmp_path / "folder" / "runs.jsonl"
    export_runs([run(seed) for seed in range(4)], path)
    return path
