"""Where numbers come from."""

from pathlib import Path

import pytest

from bnlab import provenance
from bnlab.provenance import environments, mixed
from bnlab.runs import Run
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import SPEC, new_lab

pytestmark = pytest.mark.usefixtures("no_flushing")


def test_a_mixed_environment_is_named_and_the_way_of_working_is_not(tmp_path: Path) -> None:
    def run(seed: int, device: str) -> Run:
        lab = new_lab(tmp_path / device, FakeTrainer(tmp_path / "log", device=device)).at(seed + 1)
        return lab.train(SPEC).runs[seed]

    alike = environments([run(0, "H100"), run(1, "H100")])
    different = environments([run(0, "H100"), run(1, "A100")])

    assert (len(alike), mixed(alike)) == (1, {})
    assert mixed(different) == {"device": ("A100", "H100")}


def test_the_commit_is_passed_in_where_git_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bnlab" / "provenance.py"))
    find = provenance.commit.__wrapped__

    assert find() is None
    monkeypatch.setenv("BNLAB_COMMIT", "1234abcd")
    assert find() == "1234abcd"


def test_a_checkout_knows_its_commit_better_than_what_is_passed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNLAB_COMMIT", "1234abcd")

    assert provenance.commit.__wrapped__() == provenance.commit()
