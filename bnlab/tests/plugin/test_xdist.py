"""Claims on several workers: no Run twice, none lost, and a page that misses no claim."""

import json
import os
import re
from collections import Counter
from html import unescape
from pathlib import Path

import pytest

from bnlab.devices import lock_name
from bnlab.store import Store
from bnlab.tests.fakes import epochs
from bnlab.tests.plugin.claims_folder import CPU, GRID, HELD, IDENTITY, INCONCLUSIVE, REFUTED, make

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("outside")


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("hypotheses", "-p", "no:cacheprovider", *arguments)


def statuses() -> Counter:
    return Counter(claim["status"] for claim in json.loads(Path("reports/claims.json").read_text())["claims"])


def test_two_workers_train_every_run_once(pytester: pytest.Pytester) -> None:
    make(pytester, GRID, HELD, INCONCLUSIVE, trainer="seconds=0.002")

    result = run(pytester, *CPU, "-n2")

    done = epochs()
    grid, looks = 2 * 5, 2 * 16
    assert len(done) == len(set(done)) == (grid * 4 + looks) * 15
    assert {run.provenance["worker"] for run in Store.open(".bnlab/store").runs()} == {"gw0", "gw1"}
    assert statuses() == {"held": 9, "inconclusive": 1}
    assert result.ret == 10


def test_auto_is_one_worker_for_each_gpu_and_a_gpu_for_each_worker(pytester: pytest.Pytester) -> None:
    gpus = 3
    make(pytester, GRID, trainer="seconds=0.01")
    with Path("conftest.py").open("a") as conftest:
        conftest.write(f"\nimport bnlab.devices\nbnlab.devices.cuda_devices = lambda: {gpus}\n")

    run(pytester, "-n", "auto")

    assert {run.provenance["worker"] for run in Store.open(".bnlab/store").runs()} == {f"gw{n}" for n in range(gpus)}
    assert {path.name for path in Path(".bnlab/store/locks").glob("gpu-*")} == {
        f"{lock_name(f'cuda:{n}')}.lock" for n in range(gpus)
    }


def test_a_worker_without_a_claim_helps(pytester: pytest.Pytester) -> None:
    make(pytester, INCONCLUSIVE, trainer="seconds=0.02")

    run(pytester, *CPU, "-n2")

    done = Counter(run.provenance["worker"] for run in Store.open(".bnlab/store").runs())
    assert sum(done.values()) == 32
    assert min(done["gw0"], done["gw1"]) >= 4


def test_a_killed_worker_loses_nothing_that_was_finished(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, REFUTED, trainer="kill_at=3")

    result = run(pytester, *CPU, "-n1", "-v")

    result.stdout.fnmatch_lines(["*RETRIED *::test_held*"])
    runs = list(Store.open(".bnlab/store").runs())
    done = epochs()
    # a cohort of two seeds, killed in epoch 3 of the first: both go on from the end of epoch 2
    assert [(seed, epoch) for _, seed, epoch in done[:7]] == [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3), (0, 3), (1, 3)]
    assert len(done) == len(runs) * 15 + 1
    assert statuses() == {"held": 1, "refuted": 1}
    assert sum(len(run.provenance["resumes"]) for run in runs) == 2


def test_a_claim_that_kills_every_worker_is_an_error_in_all_reports(pytester: pytest.Pytester) -> None:
    die = IDENTITY.replace("verdict =", "import os, signal; os.kill(os.getpid(), signal.SIGKILL); verdict =")
    make(pytester, die, HELD)

    result = run(pytester, *CPU, "-n1")

    assert result.ret == 1
    assert statuses() == {"held": 1, "error": 1}
    rows = {row[8]: row for row in page_rows()}
    assert rows["hypotheses/test_paper.py::test_identity"][4] == "ERROR"


def test_every_row_of_the_page_has_the_same_cells_and_nothing_unescaped(pytester: pytest.Pytester) -> None:
    wicked = HELD.replace("§4.1.1, Table 4", "<b>§4.1.1</b>").replace("BatchNorm is more", "<script>x</script> is more")
    broken = IDENTITY.replace("test_identity(judge)", "test_broken(judge, nothing)")
    make(pytester, wicked, REFUTED, INCONCLUSIVE, IDENTITY, broken)

    run(pytester, *CPU, "-n2")

    page = Path("reports/tests.html").read_text()
    rows = page_rows()
    assert {len(row) for row in rows} == {10}
    assert sorted(row[4] for row in rows) == ["DEFINED", "ERROR", "HELD", "INCONCLUSIVE", "REFUTED"]
    held = next(row for row in rows if row[8].endswith("::test_held"))
    assert held[1:4] == ["<script>x</script> is more accurate than None.", "<b>§4.1.1</b>", "0.65"]
    assert re.fullmatch(r"\+\d+\.\d\d points", held[5])
    assert re.fullmatch(r"\[\+\d+\.\d\d, \+\d+\.\d\d\] 99\.9 %", held[6])
    assert held[7] == "4 + 4"
    assert "<script>x" not in page
    assert "<script>x" not in unescape(page)
    assert "Seeds share one test set" in page
    assert not re.search(r'(src|href)="(?!#|data:)[^"]*\.(css|js)"', page)


def page_rows() -> list[list[str]]:
    """The texts of the cells of every row in reports/tests.html."""
    page = Path("reports/tests.html").read_text()
    found = re.search(r'data-jsonblob="([^"]*)"', page)
    assert found
    tests = json.loads(unescape(found[1]))["tests"]
    cells = [test["resultsTableRow"] for rows in tests.values() for test in rows]
    return [
        [unescape(re.sub(r"^<td[^>]*>(<span hidden>.*</span>)?|</td>$", "", cell)) for cell in row] for row in cells
    ]


def test_an_internal_error_of_a_worker_is_not_a_success(pytester: pytest.Pytester) -> None:
    make(pytester, IDENTITY)
    conftest = Path("conftest.py")
    conftest.write_text(
        conftest.read_text()
        + """
import numpy
def pytest_runtest_teardown(item):
    item.user_properties.append(("number", numpy.float64(1)))
"""
    )

    assert run(pytester, "-n1").ret == 3


CORES = """
@pytest.mark.claim("here")
def test_cores(lab, judge):
    \"\"\"A worker computes on its share of the cores.\"\"\"
    import os

    verdict = judge(Definition(), os.environ.get("OMP_NUM_THREADS"), "1")

    assert verdict.held, verdict.reason
"""


def test_workers_share_the_cores(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    make(pytester, CORES)

    # as many workers as cores: one for each
    run(pytester, f"-n{os.cpu_count()}")

    assert statuses() == {"defined": 1}


def test_workers_are_dealt_no_scheduler_that_hangs(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)

    result = run(pytester, *CPU, "-n2", "--dist=loadgroup")

    assert result.ret == 4
    assert result.stderr.lines[0].startswith("ERROR: --dist loadgroup")
    assert epochs() == []
