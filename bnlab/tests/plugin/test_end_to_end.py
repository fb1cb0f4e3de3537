"""The whole way with the real engine: claim, training, store, verdict, page."""

import sys
from pathlib import Path

import pytest

from bnlab.store import Store

pytest_plugins = ["pytester"]

CONFTEST = """
import os, signal
from pathlib import Path
from bnlab.store import Work
pytest_plugins = ["bnlab.plugin"]
save = Work.save_snapshot
def save_and_die(work, epoch, data):
    save(work, epoch, data)
    if epoch == 1 and Path("doomed").exists():
        Path("doomed").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
Work.save_snapshot = save_and_die
"""

CLAIM = """
import pytest
from bnlab import *
SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=10, epochs=6)
@pytest.mark.claim("§3.3")
def test_arm(lab, judge):
    '''An arm has as many Runs as the protocol has seeds.'''
    verdict = judge(Definition(), len(lab.train(SPEC).runs), 2)
    assert verdict.held, verdict.reason
"""

ARGUMENTS = ("--protocol=quick", "--device=cpu", "--data=synthetic:30+20", "--seeds=2")


@pytest.fixture(autouse=True)
def here(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, outside: None) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # two threads on a busy machine take far longer than one
    pytester.makeconftest(CONFTEST)
    (pytester.mkdir("hypotheses") / "test_paper.py").write_text(CLAIM, encoding="utf-8")


@pytest.mark.slow
def test_a_session_after_a_killed_worker_gives_the_bits_of_an_undisturbed_one(pytester: pytest.Pytester) -> None:
    undisturbed = pytester.runpytest_subprocess("hypotheses", *ARGUMENTS, "--store=undisturbed")
    Path("doomed").touch()
    killed = pytester.runpytest_subprocess("hypotheses", *ARGUMENTS, "-n1", "--store=killed")

    first, second = ({run.key: run for run in Store.open(name).runs()} for name in ("undisturbed", "killed"))
    assert not Path("doomed").exists()
    assert len(first) == 2
    assert {key: run.digest for key, run in first.items()} == {key: run.digest for key, run in second.items()}
    assert sum(len(run.provenance["resumes"]) for run in second.values()) == 1
    undisturbed.stdout.fnmatch_lines(["definitions: 1 defined"])
    killed.stdout.fnmatch_lines(["*1 retried*", "definitions: 1 defined"])
    (page,) = Path("reports").glob("quick-data-*-seeds-2/tests.html")
    assert "synthetic:30+20" in page.read_text()
    status = pytester.run(sys.executable, "-m", "bnlab", "status", "--store=killed")
    status.stdout.fnmatch_lines(["ResNet18, BatchNorm, batch 10, 2 epochs, data *: 2 finished*", "2 Runs finished*"])
