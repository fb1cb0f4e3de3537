"""The suite by hand: what `open_lab`, `ask`, `needed`, `judge` and `table` give."""

import csv
from pathlib import Path

import pytest

from bnlab import BATCHNORM, NONE, Definition, Lab, Superiority, ask, judge, needed, open_lab, points, replace, table
from bnlab.errors import BnlabError
from bnlab.report.tables import runs_csv
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.labs import SPEC
from bnlab.tests.stats.samples import sample

pytestmark = pytest.mark.usefixtures("no_flushing", "no_gpu")


def claim(lab, judge, by=3.0):
    """BatchNorm is clearly more accurate than None."""
    batchnorm, none = (lab.train(replace(SPEC, norm=norm)).accuracy for norm in (BATCHNORM, NONE))
    verdict = judge(Superiority(by=points(by)), batchnorm, none)
    assert verdict.held, verdict.reason


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training takes no time, and leaves a log of its epochs here."""
    log = tmp_path / "epochs.jsonl"
    monkeypatch.setattr("bnlab.engine.trainer.EngineTrainer", lambda *arguments: FakeTrainer(log))
    return log


@pytest.mark.parametrize(
    ("options", "status"),
    [({}, "held"), ({"protocol": "quick"}, "leans held"), ({"data": "synthetic:20+20"}, "leans held")],
    ids=["paper", "quick", "other images"],
)
def test_a_claim_is_held_only_by_the_papers_effort_and_images(
    tmp_path: Path, fake: Path, options: dict[str, str], status: str
) -> None:
    assert ask(claim, open_lab(tmp_path, device="cpu", **options)).status == status


def test_a_claim_is_asked_at_a_point_of_its_grid_on_the_same_runs(tmp_path: Path, fake: Path) -> None:
    lab = open_lab(tmp_path, device="cpu")

    assert [ask(claim, lab, by=by).status for by in (3.0, 30.0)] == ["held", "refuted"]
    assert len(epochs(fake)) == 2 * 4 * 15


def test_a_plan_trains_nothing_and_says_what_is_missing(tmp_path: Path, fake: Path) -> None:
    lab = open_lab(tmp_path, device="cpu")
    plan = needed(claim, lab)

    assert [(str(run.spec.norm), run.seed) for run in plan] == [(n, s) for n in ("BatchNorm", "None") for s in range(4)]
    assert lab.missing(plan) == plan
    assert not fake.exists()
    ask(claim, lab)
    assert lab.missing(plan) == []


def test_a_lab_without_a_gpu_reads_what_there_is_and_trains_nothing(tmp_path: Path, fake: Path) -> None:
    asked = ask(claim, open_lab(tmp_path))

    assert (asked.status, len(asked.missing)) == ("untrained", 8)
    assert not (tmp_path / ".bnlab").exists()
    ask(claim, open_lab(tmp_path, device="cpu"))
    assert ask(claim, open_lab(tmp_path)).status == "held"


def test_a_definition_needs_no_lab(lab: Lab) -> None:
    def two_is_two(judge):
        verdict = judge(Definition(), 2, 2)
        assert verdict.held

    assert ask(two_is_two, lab).status == "defined"


def test_samples_are_judged_by_their_numbers_alone() -> None:
    high, low = sample("high", [70.0, 70.1, 70.2, 70.3]), sample("low", [60.0, 60.1, 60.2, 60.3])

    assert judge(Superiority(by=points(3.0)), high, low).held
    assert judge(Superiority(by=points(3.0)), low, high).refuted


def test_a_table_has_the_rows_of_the_tables_file(lab: Lab) -> None:
    runs = lab.train(SPEC).runs

    written = list(csv.DictReader(runs_csv(runs).splitlines()))

    assert [{name: "" if v is None else str(v) for name, v in row.items()} for row in table(runs)] == written


@pytest.mark.parametrize(
    ("options", "said"),
    [({"protocol": "long"}, "unknown protocol 'long'"), ({"device": "tpu"}, "unknown device"), ({"seeds": 1}, "at le")],
)
def test_a_wrong_option_is_told_in_one_sentence(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(BnlabError, match=said):
        open_lab(tmp_path, **options)
