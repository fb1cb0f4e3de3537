"""python -m bnlab diff A B."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.cli import main
from bnlab.outcomes import Outcome
from bnlab.report.records import ClaimRecord, Summary
from bnlab.report.tables import as_json
from bnlab.runs import Run
from bnlab.specs import CIFAR10
from bnlab.stats import Verdict
from bnlab.statuses import Status
from bnlab.store import Store
from bnlab.store.transfer import export_runs
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import SPEC, new_lab
from bnlab.tests.plugin.claims_folder import HELD, make

pytest_plugins = ["pytester"]

ARM = "ResNet18, BatchNorm, batch 50, 5 epochs"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_flushing: None, no_gpu: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs() -> list[Run]:
    """Four Runs of one arm with readings of a probe; they are in `store` and in `export.jsonl` too."""
    lab = new_lab(Path(), FakeTrainer())
    found = list(lab.train(SPEC, probes=("at_initialization",)).runs)
    export_runs(found, Path("export.jsonl"))
    return found


def other_numbers(run: Run) -> Run:
    curves = {**run.curves, "test_accuracy": (12.5,) * 5}
    return replace(run, curves=curves, provenance={**run.provenance, "torch": "9.9"})


def test_a_store_its_export_and_a_folder_of_exports_do_not_differ(
    runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    export_runs(runs[:1], Path("folder/a.jsonl"))
    export_runs(runs[1:], Path("folder/b.jsonl"))

    assert main(["diff", "store", "export.jsonl"]) == main(["diff", "export.jsonl", "folder"]) == 0
    assert capsys.readouterr().out.splitlines() == ["no difference in 4 Runs"] * 2


@pytest.mark.parametrize(
    ("change", "line", "counted"),
    [
        (lambda run: [], f"only in A: {ARM}, seed 3", "1 only in A"),
        (lambda run: [run, replace(run, seed=7)], f"only in B: {ARM}, seed 7", "1 only in B"),
        (
            lambda run: [other_numbers(run)],
            f"other numbers: {ARM}, seed 3: test accuracy * and 12.50; environment: torch",
            "1 other numbers",
        ),
        (
            lambda run: [replace(run, probes={"at_initialization": {"seed": 0.5}})],
            f"other numbers: probe at_initialization of {ARM}, seed 3",
            "1 other numbers",
        ),
        (
            lambda run: [replace(run, probes={})],
            f"only in A: probe at_initialization of {ARM}, seed 3",
            "1 only in A",
        ),
    ],
    ids=["fewer", "more", "numbers", "readings", "probes"],
)
def test_each_difference_of_runs_is_a_line_and_is_counted(
    runs: list[Run],
    change: Callable[[Run], list[Run]],
    line: str,
    counted: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    export_runs([*runs[:3], *change(runs[3])], Path("other.jsonl"))

    assert main(["diff", "store", "other.jsonl"]) == 1

    found, total = capsys.readouterr().out.splitlines()
    before, _, after = line.partition(" * ")
    assert found.startswith(before)
    assert found.endswith(after)
    assert total.startswith("1 difference in ")
    assert total.endswith(f" Runs: {counted}")


@pytest.mark.usefixtures("outside")
def test_claims_are_judged_on_the_runs_of_each_side_alone(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    bnlab = [sys.executable, "-m", "bnlab"]
    pytester.run(*bnlab, "train", "--protocol=quick", "--device=cpu")
    stored = list(Store.read(".bnlab/store").runs())
    export_runs(stored, Path("all.jsonl"))
    export_runs(stored[1:], Path("fewer.jsonl"))
    (pytester.path / ".bnlab").rename("elsewhere")

    told = pytester.run(*bnlab, "diff", "all.jsonl", "fewer.jsonl", "--protocol=quick")

    told.stdout.fnmatch_lines(
        [
            "only in A: ResNet18, *",
            "other status: hypotheses/test_paper.py::test_held: LEANS HELD: +* points [[]+*] in A, UNTRAINED in B",
            "2 differences in 8 Runs and 1 claim judged on them: 1 only in A, 1 other status",
        ],
        consecutive=True,
    )
    assert told.ret == 1
    assert not Path(".bnlab").exists()


def report(folder: str, **claims: tuple[Status, float]) -> None:
    """A folder with the claims.json of these claims, each with an interval of 1 point to either side."""
    rows = []
    for name, (status, at) in claims.items():
        verdict = Verdict(kind="mean", status="held", reason="", unit="points", estimate=at, low=at - 1, high=at + 1)
        rows.append(
            ClaimRecord(nodeid=f"hypotheses/{name}", outcome=Outcome(status=status, reason="", verdict=verdict))
        )
    summary = Summary(
        claims=tuple(rows),
        protocol=folder.partition("-")[0],
        looks=(4,),
        source="cifar10",
        data=CIFAR10,
        device=None,
        registered=len(rows),
    )
    Path(folder).mkdir()
    Path(folder, "claims.json").write_text(as_json(summary, ()), encoding="utf-8")


def test_reports_differ_in_status_and_in_what_moved_beyond_an_interval(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("same", "within", "moved", "fell", "turned", "gone")
    report("paper", **dict.fromkeys(names, ("held", 1.0)))
    report(
        "paper-2",
        same=("held", 1.0),
        within=("held", 1.9),
        moved=("held", 2.1),
        fell=("held", -0.1),
        turned=("refuted", 1.0),
    )

    assert main(["diff", "paper", "paper"]) == 0
    assert main(["diff", "paper", "paper-2/claims.json"]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "no difference in 6 claims",
        "moved beyond its interval: hypotheses/moved: HELD: +1.00 points [+0.00, +2.00] in A, "
        "HELD: +2.10 points [+1.10, +3.10] in B",
        "moved beyond its interval: hypotheses/fell: HELD: +1.00 points [+0.00, +2.00] in A, "
        "HELD: -0.10 points [-1.10, +0.90] in B",
        "other status: hypotheses/turned: HELD: +1.00 points [+0.00, +2.00] in A, "
        "REFUTED: +1.00 points [+0.00, +2.00] in B",
        "only in A: claim hypotheses/gone",
        "4 differences in 6 claims: 2 moved beyond its interval, 1 other status, 1 only in A",
    ]


def test_reports_of_another_effort_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    report("paper", one=("held", 1.0))
    report("quick", one=("held", 1.0))

    assert main(["diff", "paper", "quick"]) == 1

    assert capsys.readouterr().out.splitlines()[0] == "other protocol: paper in A, quick in B"


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("store", "nowhere", "there is no store in"),
        ("paper", "store", "name two stores or exports, or two reports"),
        ("store", "broken.json", "is no claims.json of bnlab"),
        ("store", "old.json", "has format 1 and this bnlab reads 2"),
        ("broken.jsonl", "store", "is not a file of Runs"),
    ],
)
def test_a_side_that_cannot_be_read_is_one_sentence(
    one: str, other: str, words: str, runs: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    report("paper", one=("held", 1.0))
    for name in ("broken.json", "broken.jsonl"):
        Path(name).write_text("[]")
    Path("old.json").write_text('{"format": 1}')

    assert main(["diff", one, other]) == 2

    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
