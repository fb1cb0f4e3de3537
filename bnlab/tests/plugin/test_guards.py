"""No session ends green with a claim unjudged, or in a traceback because of its reports."""

import json
import os
import re
from html import unescape
from pathlib import Path

import pytest

from bnlab.claims import Claim
from bnlab.plugin import session
from bnlab.store import durable
from bnlab.tests.fakes import epochs
from bnlab.tests.plugin.claims_folder import CPU, GRID, HELD, IDENTITY, INCONCLUSIVE, REFUTED, make

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    """What the inner conftest replaces is put back."""
    monkeypatch.setattr(session, "open_trainer", session.open_trainer)
    monkeypatch.setattr(os, "fsync", os.fsync)


def run(pytester: pytest.Pytester, *arguments: str, folder: str = "hypotheses") -> pytest.RunResult:
    return pytester.runpytest_inprocess(folder, "-p", "no:cacheprovider", *arguments)


def add_to_conftest(code: str) -> None:
    conftest = Path("conftest.py")
    conftest.write_text(conftest.read_text() + code)


def test_claims_without_runs_are_not_let_through_with_undecided_ones(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, IDENTITY)

    assert run(pytester, "--allow-inconclusive").ret == 11
    assert run(pytester, "--allow-inconclusive", "--allow-untrained").ret == 0


def test_a_selection_of_no_claim_says_where_to_find_one(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, IDENTITY)

    told = run(pytester, "-k", "nothing_like_it")

    told.stdout.fnmatch_lines(["none of 2 claims was selected: pytest hypotheses/ --collect-only -q lists them"])
    assert told.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_layer_may_be_named_in_a_parameter(pytester: pytest.Pytester) -> None:
    make(
        pytester,
        IDENTITY.replace(
            "def test_identity(judge)",
            """@pytest.mark.parametrize("layer", ["my_norms:Mine"])
def test_identity(judge, layer)""",
        ),
    )

    assert run(pytester).ret == 0
    assert "test_identity[my_norms:Mine]" in Path("reports/claims.json").read_text()
    assert 'id="paper.py-test_identity-my_norms-Mine"' in Path("reports/report.html").read_text()


DROP = {
    "first": """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "refuted" not in item.name]
""",
    "last": """
import pytest
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "refuted" not in item.name]
""",
    "around": """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items):
    yield
    items[:] = [item for item in items if "refuted" not in item.name]
""",
    "after": """
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session):
    session.items[:] = [item for item in session.items if "refuted" not in item.name]
""",
    "all": """
def pytest_collection_modifyitems(items):
    items.clear()
""",
}


@pytest.mark.parametrize(("plugin", "workers"), [*((plugin, 0) for plugin in DROP), ("first", 2), ("after", 2)])
@pytest.mark.usefixtures("outside")
def test_a_claim_that_a_plugin_drops_is_missed(pytester: pytest.Pytester, plugin: str, workers: int) -> None:
    make(pytester, HELD, REFUTED)
    add_to_conftest(DROP[plugin])

    result = pytester.runpytest_subprocess("hypotheses", "-p", "no:cacheprovider", *CPU, f"-n{workers}")

    assert result.ret == 3
    result.stdout.fnmatch_lines(["NO OUTCOME *::test_refuted: collected and never finished"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.usefixtures("outside")
def test_a_marked_claim_in_any_folder_is_missed(pytester: pytest.Pytester, workers: int) -> None:
    folder = make(pytester, HELD, IDENTITY)
    folder.rename("notes")
    add_to_conftest("""
import pytest
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item):
    return True if "identity" in item.name else None
""")

    result = pytester.runpytest_subprocess("notes", "-p", "no:cacheprovider", *CPU, f"-n{workers}")

    assert result.ret == 3
    result.stdout.fnmatch_lines(["NO OUTCOME *::test_identity: collected and never finished"])


@pytest.mark.parametrize("choice", [["-k", "held"], ["--deselect", "hypotheses/test_paper.py::test_refuted"]])
def test_a_claim_that_was_deselected_is_not_missed(pytester: pytest.Pytester, choice: list[str]) -> None:
    make(pytester, HELD, REFUTED)

    assert run(pytester, *CPU, *choice).ret == 0


def test_a_planned_body_that_raises_is_an_error_before_anything_trains(pytester: pytest.Pytester) -> None:
    make(pytester, HELD.replace("verdict = judge(", "arm(lab, BATCHNORM); 1 / 0; verdict = judge("))

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines([">*1 / 0*", "*ZeroDivisionError*"])
    assert result.ret == 1
    assert epochs() == []


def test_a_plan_names_what_it_could_not_plan_and_fails(pytester: pytest.Pytester) -> None:
    make(pytester, INCONCLUSIVE, HELD.replace("verdict = judge(", "1 / 0; verdict = judge("))

    result = run(pytester, *CPU, "--plan")

    result.stdout.fnmatch_lines(
        ["plan for the first look*8 to train*", "NOT PLANNED hypotheses/test_paper.py::test_held: ZeroDivisionError: *"]
    )
    assert result.ret == 1


def test_a_plan_says_that_a_claim_looks_at_runs_before_it_judges(pytester: pytest.Pytester) -> None:
    make(pytester, HELD.replace("verdict = judge(", "len(lab.train(SPEC).runs); verdict = judge("))

    result = run(pytester, *CPU, "--plan")

    result.stdout.fnmatch_lines(["1 claim looks at Runs before it judges, and may need further ones then"])
    assert result.ret == 0


@pytest.mark.parametrize("obstacle", ["file", "dangling link"])
def test_reports_that_cannot_be_written_are_told_before_anything_trains(
    pytester: pytest.Pytester, obstacle: str
) -> None:
    make(pytester, HELD)
    if obstacle == "file":
        Path("reports").touch()
    else:
        Path("reports").symlink_to("nowhere/at/all")

    result = run(pytester, *CPU)

    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: cannot write the reports to *reports (*): make it a folder *"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert epochs() == []


@pytest.mark.parametrize("name", ["report.html", "tests.html", "claims.json", "claims.csv", "runs.csv"])
def test_a_report_that_cannot_be_written_loses_no_verdict_and_no_old_report(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make(pytester, HELD, INCONCLUSIVE)
    Path("reports").mkdir()
    (Path("reports") / name).write_text("the report of yesterday")
    write = durable.write

    def full(path: Path, *chunks: bytes) -> None:
        if path.name.startswith(name):
            raise OSError(28, "No space left on device")
        write(path, *chunks)

    monkeypatch.setattr(durable, "write", full)

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines(["INCONCLUSIVE *", "verdicts: 1 held, 1 *", "cannot write *No space left*"])
    assert result.ret == 3
    assert (Path("reports") / name).read_text() == "the report of yesterday"
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()


def test_a_page_that_is_a_folder_is_told_after_the_verdicts(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    Path("reports/tests.html").mkdir(parents=True)

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines(["verdicts: 1 held *", "cannot write *tests.html *"])
    assert result.ret == 3


@pytest.mark.usefixtures("outside")
def test_variables_of_the_machine_become_no_elements_of_the_page(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(pytester, IDENTITY)
    wicked = "x<img/src=x/onerror=alert(1)>"
    monkeypatch.setenv("GIT_BRANCH", wicked)
    monkeypatch.setenv("BUILD_TAG", wicked)

    pytester.runpytest_subprocess("hypotheses", "-n1", "--metadata", wicked, wicked)

    blob = re.search(r'data-jsonblob="([^"]*)"', Path("reports/tests.html").read_text())
    assert blob
    environment = json.loads(unescape(blob[1]))["environment"]
    assert environment["GIT_BRANCH"] == "x&lt;img/src=x/onerror=alert(1)&gt;"
    assert "pytest" in environment["Packages"]
    assert "<img" not in json.dumps(environment)


def test_the_effort_of_judging_grows_with_the_claims_and_not_with_their_square(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(pytester, GRID)
    asked: list[str] = []
    runs = Claim.runs

    def counted(claim: Claim, seeds: int) -> list:
        asked.append(claim.nodeid)
        return runs(claim, seeds)

    monkeypatch.setattr(Claim, "runs", counted)

    run(pytester, "--no-train")
    everything = len(asked)
    asked.clear()
    run(pytester, "--no-train", "-k", "ResNet34")

    assert everything == 2 * len(asked) == 16, "each is settled, and then for its preview"
