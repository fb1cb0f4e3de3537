"""Where numbers come from."""

from dataclasses import replace
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


@pytest.mark.parametrize(("cuda", "named"), [("13.0", {"cohort": ("16", "4")}), (None, {})])
def test_the_size_of_a_cohort_is_named_where_it_may_change_bits(tmp_path: Path, cuda, named) -> None:
    (run,) = new_lab(tmp_path, FakeTrainer(tmp_path / "log")).at(1).train(SPEC).runs
    runs = [replace(run, provenance=run.provenance | {"cuda": cuda, "cohort": size}) for size in (4, 16)]

    assert mixed(environments(runs)) == named


def test_the_commit_is_passed_in_where_git_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bnlab" / "provenance.py"))
    find = provenance.commit.__wrapped__

    assert find() is None
    monkeypatch.setenv("BNLAB_COMMIT", "1234abcd")
    assert find() == "1234abcd"


def test_a_checkout_knows_its_commit_better_than_what_is_passed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNLAB_COMMIT", "1234abcd")

    assert provenance.commit.__wrapped__() == provenance.commit()
