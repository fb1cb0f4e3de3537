"""Processes that share Runs: several on one store, as on the nodes of a cluster, and two stores by way of a file."""

import os
import signal
import time

import pytest

from bnlab.store import Store
from bnlab.tests.faults.sessions import RUNS, kept_and_trained_again, logged, make_claims, start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside")]

EPOCH, EPOCHS = 0.1, 15
PROCESSES = 4


def test_processes_on_one_store_share_the_runs_and_are_seldom_idle(tmp_path, monkeypatch, tried):
    monkeypatch.setenv("EPOCH", str(EPOCH))
    make_claims(tmp_path)
    train = ["-m", "bnlab", "train", "--device=cpu", "--replicas=1", "--store", "shared"]

    processes = [start(tmp_path, train) for _ in range(PROCESSES)]

    assert [process.wait(timeout=120) for process in processes] == [0] * PROCESSES
    log = logged(tmp_path)
    kept = [entry for entry in log if "kept" in entry]
    assert len(log) - len(kept) == RUNS * EPOCHS, "each epoch once"
    assert len(list(Store.read(tmp_path / "shared").runs())) == RUNS
    # between the first moment at which all of them had begun and the end; the first epoch of each is not in it
    begun = max(min(entry["at"] for entry in kept if entry["pid"] == process.pid) for process in processes)
    seconds = kept[-1]["at"] - begun
    busy = EPOCH * sum(entry["at"] > begun for entry in kept) / (PROCESSES * seconds)
    tried[f"% of the time that {PROCESSES} processes on one store train"] = round(100 * busy)
    assert busy > 0.5


IMPATIENT = """
import functools, bnlab.live, bnlab.plugin, bnlab.progress
bnlab.plugin.lines = functools.partial(bnlab.live.lines, every=1.0)
bnlab.progress._QUIET = 1.0
"""


def test_who_waits_for_a_process_that_hangs_says_for_which_one_and_goes_on_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCH", str(EPOCH))
    make_claims(tmp_path, IMPATIENT)
    holder = start(tmp_path, ["-m", "bnlab", "train", "--device=cpu"])
    until = time.monotonic() + 60
    while not any(entry["pid"] == holder.pid for entry in logged(tmp_path) if "kept" in entry):
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(holder.pid, signal.SIGSTOP)
    waiting = start(tmp_path, ["-m", "pytest", "hypotheses", "--device=cpu", "-q"])

    try:
        said = tmp_path / "said.txt"
        while not (f"process {holder.pid} on" in said.read_text() and "nothing kept for" in said.read_text()):
            assert time.monotonic() < until, said.read_text()
            time.sleep(0.2)
        assert waiting.poll() is None
    finally:
        os.kill(holder.pid, signal.SIGCONT)

    assert (holder.wait(timeout=60), waiting.wait(timeout=60)) == (0, 1)
    assert kept_and_trained_again(tmp_path) == 0
    assert len([entry for entry in logged(tmp_path) if "epoch" in entry]) == RUNS * EPOCHS, "each epoch once"


def test_claims_that_are_judged_on_imported_runs_say_so_in_every_report(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCH", "0")
    make_claims(tmp_path)
    commands = ["train --device=cpu", "export of-a-colleague.jsonl", "import of-a-colleague.jsonl --store other"]
    assert [start(tmp_path, ["-m", "bnlab", *words.split()]).wait(timeout=60) for words in commands] == [0, 0, 0]

    judged = start(tmp_path, ["-m", "pytest", "hypotheses", "--no-train", "--store=other", "-q"])

    assert judged.wait(timeout=60) == 1
    for name in ("report.html", "tests.html", "claims.json"):
        assert "of-a-colleague.jsonl" in (tmp_path / "reports" / name).read_text()
