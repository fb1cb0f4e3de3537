"""What faults happen to: a session in one process and in a moment, and claims to be trained by processes."""

import errno
import json
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from bnlab.errors import StoreError
from bnlab.store import Store
from bnlab.store.transfer import export_runs, import_runs
from bnlab.tests.fakes import LOG, FakeTrainer
from bnlab.tests.faults.inject import Calls, calls
from bnlab.tests.plugin.claims_folder import HEAD, HELD, REFUTED
from bnlab.tests.store.runs import readings, replicate, run

TRIED, LOST = "faults tried", "Runs lost"
TWICE, GREEN = "epochs trained twice that had been kept", "silent greens"


def session(folder):
    """Everything that a session does with a store: train, resume, publish, add a probe, judge, export and import."""
    store = Store.open(folder / "store")
    for seed in range(2):
        asked = replicate(seed, "spread")
        if not store.has(asked) and (work := store.try_work(asked)) is not None:
            with work:
                if not work.published:
                    work.snapshot()
                    work.save_snapshot(work.epoch + 1, b"state")
                    store.progress()
                    work.publish(run(seed, probes={"spread": readings()}))
    assert store.locked(replicate(5)) is False
    found = [store.load(replicate(seed, "spread")) for seed in range(2)]
    export_runs(store.runs(), folder / "runs.jsonl")
    other = Store.open(folder / "other")
    import_runs(folder / "runs.jsonl", other)
    Store.read(folder / "other").progress()
    return [known.digest for known in found]


DIGESTS = [run(seed).digest for seed in range(2)]


def one_fault(folder: Path, fault: Calls, tried: Counter[str]) -> bool:
    """One session with this fault, which ends in one sentence or goes on, and one without, which finishes it.

    False if the fault never came. No Run that was there is gone afterwards, and nothing disagrees.
    """
    tried.update({LOST: 0})
    if fault.kills:
        child = os.fork()
        if child == 0:
            with calls(fault):
                session(folder)
            os._exit(0)
        came = os.waitpid(child, 0)[1] != 0
        told = "calls at which a process was killed"
    else:
        with calls(fault):
            told = _ended(folder, fault)
        came = bool(fault.failed)
    if came:
        tried.update([TRIED, told])
        before = {known.seed for known in Store.open(folder / "store").runs()}
        assert session(folder) == DIGESTS
        after = {known.seed for known in Store.open(folder / "store").runs()}
        tried[LOST] += len(before - after)
        assert before <= after == {0, 1}
        assert list((folder / "store" / "disagreements").iterdir()) == []
    return came


def _ended(folder: Path, fault: Calls) -> str:
    code = errno.errorcode[fault.code]
    try:
        session(folder)
    except OSError as error:
        where = traceback.extract_tb(error.__traceback__)[1:6]
        raise AssertionError(f"call {fault.fails_at} {fault.failed} was not told in one sentence: {where}") from error
    except StoreError:
        return f"calls that failed with {code} and were told in one sentence"
    return f"calls that failed with {code} and mattered to nobody"


RUNS = 8
"""What the claims of `make_claims` need: two arms of four seeds. One of the two claims is refuted."""

CONFTEST = """
import os
import bnlab.plugin.session
from bnlab.tests.faults.sessions import LoggingTrainer
pytest_plugins = ["bnlab.plugin"]
os.fsync = lambda descriptor: None
bnlab.plugin.session.open_trainer = lambda session: LoggingTrainer(seconds=float(os.environ.get("EPOCH", "0.03")))
"""


class LoggingTrainer(FakeTrainer):
    """Logs what has been kept as well."""

    def train(self, cohort, resume, after_epoch):
        def kept(run, epoch, snapshot):
            after_epoch(run, epoch, snapshot)
            line = {"spec": run.spec.key, "seed": run.seed, "kept": epoch, "pid": os.getpid(), "at": time.time()}
            with self.log.open("a") as log:
                log.write(json.dumps(line) + "\n")

        return super().train(cohort, resume, kept)


def make_claims(folder: Path, more: str = "") -> None:
    """A checkout of two claims; `more` is added to its conftest."""
    (folder / "hypotheses").mkdir(parents=True)
    (folder / "conftest.py").write_text(CONFTEST + more)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "hypotheses" / "test_paper.py").write_text(HEAD + HELD + REFUTED, encoding="utf-8")


def start(folder: Path, command: list[str]) -> subprocess.Popen:
    """Python with these arguments in that folder, as a group of processes of its own."""
    with (folder / "said.txt").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, *command], cwd=folder, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )


def logged(folder: Path) -> list[dict]:
    """What the trainers of all processes logged, in order."""
    log = folder / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def kept_and_trained_again(folder: Path) -> int:
    """Epochs that were trained after a later or the same one of their Run had been kept."""
    kept, again = Counter[tuple[str, int]](), 0
    for entry in logged(folder):
        run = entry["spec"], entry["seed"]
        again += entry.get("epoch", 10**9) <= kept[run]
        kept[run] = max(kept[run], entry.get("kept", 0))
    return again
