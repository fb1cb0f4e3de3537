"""What tests of several folders share."""

import os
from pathlib import Path

import pytest

from bnlab import devices
from bnlab.lab import Lab
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import new_lab

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_order_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that a test starts are not shuffled, though pytest-randomly is installed for the fault suite."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly")


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """pytest's own, which forgets PYTEST_ADDOPTS."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:randomly")
    return pytester


@pytest.fixture
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush nothing to the disk, which takes most of the time of tests of other things."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU of this machine is used."""
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subprocess finds this bnlab from any folder and uses no GPU."""
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the trainer of `lab` writes a line an epoch."""
    return tmp_path / "epochs.jsonl"


@pytest.fixture
def lab(tmp_path: Path, log: Path) -> Lab:
    """A Lab of protocol quick with a trainer that takes no time."""
    return new_lab(tmp_path, FakeTrainer(log))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A warning fails a test of bnlab; a claim may be about a layer that warns."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            # first, so that a test's own filter wins
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)
