"""Claims under pytest in one process: what a session trains, judges and writes."""

import csv
import json
import os
from pathlib import Path

import pytest

from bnlab.plugin import session
from bnlab.stats.family import REGISTERED
from bnlab.stats.looks import over_looks
from bnlab.store import Store
from bnlab.store.transfer import export_runs
from bnlab.tests.fakes import epochs
from bnlab.tests.plugin.claims_folder import CPU, HEAD, HELD, IDENTITY, INCONCLUSIVE, REFUTED, REPLICATION, make

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    """What the inner conftest replaces is put back."""
    monkeypatch.setattr(session, "open_trainer", session.open_trainer)
    monkeypatch.setattr(os, "fsync", os.fsync)


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess("hypotheses", "-p", "no:cacheprovider", *arguments)


def table(folder: str = "reports") -> dict[str, dict]:
    """The claims of the table by function; what is known of the outcome and the verdict stands beside the rest."""
    found = json.loads(Path(folder, "claims.json").read_text())["claims"]
    outcomes = [claim["outcome"] or {} for claim in found]
    return {
        claim["nodeid"].partition("::")[2]: {**(outcome.get("verdict") or {}), **outcome, **claim}
        for claim, outcome in zip(found, outcomes, strict=True)
    }


@pytest.mark.parametrize(
    ("body", "word", "code"),
    [(HELD, "HELD", 0), (REFUTED, "REFUTED", 1), (INCONCLUSIVE, "INCONCLUSIVE", 10), (IDENTITY, "DEFINED", 0)],
    ids=["held", "refuted", "inconclusive", "identity"],
)
def test_a_verdict_has_a_word_and_an_exit_code_of_its_own(
    pytester: pytest.Pytester, body: str, word: str, code: int
) -> None:
    make(pytester, body)

    result = run(pytester, *CPU, "-v")

    result.stdout.fnmatch_lines([f"*::test_* {word} *"])
    assert result.ret == code


@pytest.mark.parametrize("reading", ["corrected", "control"])
def test_refuted_twins_and_controls_leave_the_exit_code_at_0(pytester: pytest.Pytester, reading: str) -> None:
    make(pytester, HELD, REFUTED.replace("as written", reading))

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines(["REFUTED *::test_refuted: *", "verdicts: 1 held; twins and controls: 1 refuted (*"])
    assert result.ret == 0


def test_a_failed_test_beside_a_refuted_twin_is_no_success(pytester: pytest.Pytester) -> None:
    make(pytester, REFUTED.replace("as written", "corrected"), INCONCLUSIVE)
    assert run(pytester, *CPU).ret == 10

    Path("test_other.py").write_text("def test_other():\n    assert 0\n")
    assert run(pytester, *CPU, "test_other.py", "-k", "other or refuted").ret == 1


def test_a_published_number_is_not_compared_after_fewer_epochs(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, REPLICATION)

    result = run(pytester, *CPU, "--protocol=quick")

    replication = table("reports/quick")["test_replication"]
    assert (replication["status"], result.ret) == ("exercised", 0)
    assert "fewer epochs than the published number is of" in replication["reason"]


def test_a_claim_stands_in_several_places_and_its_cases_have_their_own_reading(pytester: pytest.Pytester) -> None:
    several = """
@pytest.mark.claim("§4.1.1, Table 4", "§5", reading={1: "as written", 2: "control"})
@pytest.mark.parametrize("number", [1, 2])
"""
    make(pytester, IDENTITY.replace('\n@pytest.mark.claim("§3.2")\n', several).replace("(judge)", "(judge, number)"))

    run(pytester, *CPU)
    claims = table()

    assert [claim["place"] for claim in claims.values()] == ["§4.1.1, Table 4; §5"] * 2
    assert [claim["reading"] for claim in claims.values()] == ["as written", "control"]


def test_inconclusive_claims_can_be_allowed(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, INCONCLUSIVE)

    assert run(pytester, *CPU, "--allow-inconclusive").ret == 0
    assert table()["test_inconclusive"]["look"] == 16


def test_a_refuted_claim_shows_its_reason_and_no_traceback(pytester: pytest.Pytester) -> None:
    make(pytester, REFUTED)

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines(["REFUTED *::test_refuted: None* = *: refuted (n = 4 + 4)."])
    assert result.stdout.str().count("None (ResNet18") == 1
    result.stdout.no_fnmatch_line("*def test_refuted*")
    result.stdout.no_fnmatch_line("*AssertionError*")


def test_everything_known_of_a_claim_is_in_the_tables(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, IDENTITY)

    run(pytester, *CPU)
    claim = table()["test_held"]

    assert claim["sentence"] == "BatchNorm is more accurate than None."
    assert (claim["place"], claim["published"], claim["status"]) == ("§4.1.1, Table 4", 0.65, "held")
    assert claim["low"] < claim["estimate"] < claim["high"]
    assert (claim["n"], claim["look"], claim["level"]) == ([4, 4], 4, 0.999)
    assert 0 < 16 * claim["p_hold"] <= claim["q"] < 0.01
    stored = {run.key: run.digest for run in Store.open(".bnlab/store").runs()}
    assert {
        key: digest for arm in claim["arms"] for key, digest in zip(arm["run_keys"], arm["run_digests"], strict=True)
    } == stored
    rows = list(csv.DictReader(Path("reports/claims.csv").read_text().splitlines()))
    assert [row["status"] for row in rows] == ["held", "defined"]
    assert float(rows[0]["estimate_in_unit"]) == claim["estimate"]


def test_claims_that_were_not_selected_stay_in_the_family(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, REFUTED, IDENTITY)

    run(pytester, *CPU, "-k", "held")
    alone = table()["test_held"]
    run(pytester, *CPU)
    together = table()["test_held"]

    # what was not judged counts as p = 1
    assert alone["q"] == pytest.approx(REGISTERED * over_looks(alone["p_hold"], 4))
    assert together["q"] <= alone["q"]


def test_a_second_session_trains_nothing(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, INCONCLUSIVE)
    run(pytester, *CPU)
    before = epochs()

    run(pytester, *CPU)

    assert len(before) == len(set(before)) == (4 + 4 + 16 + 16) * 15
    assert epochs() == before


def test_claims_stand_in_the_order_of_the_paper(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    (page,) = Path("hypotheses").glob("test_*.py")
    pages = [f"test_2_4_{number}_x.py" for number in (1, 2, 10)]
    for name in pages:
        Path("hypotheses", name).write_text(page.read_text())
    page.unlink()

    result = run(pytester, "--collect-only", "-q")

    assert [line.split("::")[0] for line in result.outlines if "::" in line] == [f"hypotheses/{name}" for name in pages]


def test_smoke_exercises_claims_and_judges_definitions(pytester: pytest.Pytester) -> None:
    make(pytester, REFUTED, INCONCLUSIVE, IDENTITY)

    result = run(pytester, "--smoke", "-v")

    result.stdout.fnmatch_lines(
        ["*::test_refuted EXERCISED *", "*::test_inconclusive EXERCISED *", "*::test_identity DEFINED *"]
    )
    assert result.ret == 0


def test_smoke_fails_where_a_definition_is_refuted(pytester: pytest.Pytester) -> None:
    make(pytester, IDENTITY.replace("2, 2)", "2, 3)"))

    assert run(pytester, "--smoke").ret == 1


def test_a_formula_that_is_printed_wrongly_leaves_the_exit_code_at_0(pytester: pytest.Pytester) -> None:
    make(pytester, IDENTITY.replace("2, 2)", "2, 3)").replace('"§3.2"', '"§3.2", reading="as written"'))

    result = run(pytester, "--smoke")

    result.stdout.fnmatch_lines(["REFUTED *::test_identity: *", "SMOKE: 0 claims *, 1 refuted"])
    assert result.ret == 0


def test_without_a_gpu_nothing_trains_and_one_sentence_says_how_to(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, IDENTITY)

    result = run(pytester, "-v")

    result.stdout.fnmatch_lines(
        [
            "*::test_held UNTRAINED *",
            "*::test_identity DEFINED *",
            "definitions: 1 defined",
            "verdicts: 1 untrained (protocol paper, data cifar10, 2 claims in all)",
            "report: reports/report.html",
            "next: pytest 'hypotheses/test_paper.py::test_held' --device cpu trains 8 Runs in about * h (assumed) *",
            "exit code 11: claims without Runs (--allow-untrained lets them pass)",
        ]
    )
    assert result.ret == 11
    assert epochs() == []


def test_recorded_runs_are_judged_without_training(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    run(pytester, "--protocol=paper", "--device=cpu", "--store=elsewhere")
    Path("reports/runs").mkdir()
    export_runs(Store.open("elsewhere").runs(), Path("reports/runs/h100.jsonl"))
    before = epochs()

    result = run(pytester, "-v")

    result.stdout.fnmatch_lines(["*::test_held HELD *"])
    result.stdout.no_fnmatch_line("*not trained*")
    assert result.ret == 0
    assert epochs() == before


def test_damaged_recorded_runs_end_the_session_in_one_sentence(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    Path("reports/runs").mkdir(parents=True)
    Path("reports/runs/h100.jsonl").write_text("not a file of Runs\n")

    result = run(pytester)

    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *h100.jsonl*"])


def test_no_train_judges_what_is_there(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, INCONCLUSIVE)
    run(pytester, *CPU, "-k", "held")
    before = epochs()

    result = run(pytester, *CPU, "--no-train", "-v")

    result.stdout.fnmatch_lines(["*::test_held HELD *", "*::test_inconclusive UNTRAINED *"])
    assert epochs() == before


def test_a_plan_trains_nothing_and_writes_no_report(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, INCONCLUSIVE)
    run(pytester, *CPU, "-k", "held")
    before = epochs()
    for file in Path("reports").glob("*.*"):
        file.unlink()

    result = run(pytester, *CPU, "--plan", "-n2")

    result.stdout.fnmatch_lines(
        [
            "  ResNet18, BatchNorm, batch 50, 15 epochs: 4 Runs, 4 finished",
            "  ResNet18, gamma-only, batch 50, 15 epochs: 4 Runs, 0 finished",
            "plan for the first look (4 seeds): 4 RunSpecs, 16 Runs, 8 finished, 8 to train, "
            "6,000,000 training images, about 8.3 h in one process on cpu (speed of recorded Runs)",
            "*undecided then go on to 8, 16 seeds*",
        ]
    )
    assert result.ret == 0
    assert epochs() == before
    assert list(Path("reports").glob("*.*")) == []


def test_an_unknown_speed_is_said_to_be_assumed(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)

    run(pytester, "--plan").stdout.fnmatch_lines(["* in one process on a GPU (assumed speed)"])


def test_fewer_seeds_can_be_asked_for(pytester: pytest.Pytester) -> None:
    make(pytester, INCONCLUSIVE)

    run(pytester, *CPU, "--seeds=3")

    assert table("reports/seeds-3")["test_inconclusive"]["n"] == [3, 3]


def test_a_claim_that_loses_its_outcome_ends_in_exit_code_3(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, IDENTITY)
    lose = """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    return True if "identity" in item.name else None
"""
    Path("conftest.py").write_text(Path("conftest.py").read_text() + lose)

    result = run(pytester, *CPU)

    assert result.ret == 3
    result.stdout.fnmatch_lines(["NO OUTCOME *::test_identity: collected and never finished"])


def test_a_run_of_other_tests_writes_no_report(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    pytester.makepyfile(test_unit="def test_unit(): pass")

    assert pytester.runpytest_inprocess("test_unit.py", "-p", "no:cacheprovider").ret == 0
    assert pytester.runpytest_inprocess("-k", "unit", "-p", "no:cacheprovider").ret == 0

    assert list(Path("reports").glob("*")) == []


def test_the_claims_can_be_listed_without_a_store(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, head=HEAD)

    result = run(pytester, "--collect-only", "-q")

    result.stdout.fnmatch_lines(["hypotheses/test_paper.py::test_held"])
    assert not Path(".bnlab").exists()


def test_a_session_with_a_norm_swapped_leans_in_a_folder_of_its_own(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, REPLICATION, IDENTITY)
    Path("norms_of_mine.py").write_text("class RMSNorm2d: ...\n")

    swapped = run(pytester, *CPU, "--swap", "BatchNorm=norms_of_mine:RMSNorm2d")
    missing = run(pytester, *CPU, "--swap", "BatchNorm=norms_of_nobody:RMSNorm2d")

    swapped.stdout.fnmatch_lines(
        ["leans, no verdicts: 1 leaning held, 1 exercised (protocol paper with BatchNorm=norms_of_mine:RMSNorm2d, *"]
    )
    (folder,) = Path("reports").glob("BatchNorm_norms_of_mine_RMSNorm2d-*")
    assert swapped.ret == 0
    assert table(str(folder))["test_held"]["published"] is None
    assert not Path("reports/claims.json").exists()
    assert missing.ret == 4
    missing.stderr.fnmatch_lines(["ERROR: the module of 'norms_of_nobody:RMSNorm2d' cannot be found*"])


def test_a_session_with_another_recipe_trains_it(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)

    result = run(pytester, "--device=cpu", "--set", "optimizer=sgd", "schedule=cosine", "epochs=3")

    result.stdout.fnmatch_lines(["leans, no verdicts: 1 leaning held (*with epochs=3, optimizer=sgd, schedule=cosine*"])
    assert {(run.spec.optimizer, run.spec.epochs) for run in Store.open(".bnlab/store").runs()} == {("sgd", 3)}


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("workers", ["-n0", "-n1"])
def test_claims_in_any_folder_are_judged_and_reported_where_the_plugin_is_named(
    pytester: pytest.Pytester, workers: str
) -> None:
    make(pytester, HELD).rename("notes")
    conftest = Path("conftest.py").read_text().replace('pytest_plugins = ["bnlab.plugin"]', "")
    Path("conftest.py").write_text(conftest)

    result = pytester.runpytest_subprocess("notes", "-p", "bnlab.plugin", "-p", "no:cacheprovider", *CPU, workers)

    result.stdout.fnmatch_lines(["verdicts: 1 held (*"])
    assert result.ret == 0
    assert table()["test_held"]["status"] == "held"
    assert Path("reports/tests.html").exists()
