"""Faults at random for as long as one likes: `python -m bnlab faults --seconds 60 --seed 1`."""

import errno
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bnlab.cli.faults import Faults
from bnlab.store import Store
from bnlab.tests.fakes import LOG
from bnlab.tests.faults.inject import Calls, calls
from bnlab.tests.faults.sessions import (
    GREEN,
    LOST,
    RUNS,
    TRIED,
    TWICE,
    kept_and_trained_again,
    make_claims,
    one_fault,
    session,
    start,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside")]

CODES = [errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EACCES, errno.EMFILE, errno.EDQUOT]

CLOCK = """
import os, random, time
real, off = time.time, random.Random(os.getpid()).choice([-86_000, 0, 86_000])
time.time = lambda: real() + off
"""

COMMANDS = {
    "pytest": ["-m", "pytest", "hypotheses", "--device=cpu", "-q"],
    "pytest -n2": ["-m", "pytest", "hypotheses", "--device=cpu", "-q", "-n2"],
    "train": ["-m", "bnlab", "train", "--device=cpu"],
}

HITS = {
    "SIGKILL of everything": lambda own, children: [(pid, signal.SIGKILL) for pid in [own, *children]],
    "SIGKILL of the controller": lambda own, children: [(own, signal.SIGKILL)],
    "SIGKILL of a worker": lambda own, children: [(pid, signal.SIGKILL) for pid in children[:1]],
    "Ctrl-C": lambda own, children: [(own, signal.SIGINT)],
    "Ctrl-C twice": lambda own, children: [(own, signal.SIGINT), (own, signal.SIGINT)],
    "SIGTERM": lambda own, children: [(own, signal.SIGTERM)],
}


@pytest.fixture(scope="module")
def faults(pytestconfig):
    """How long to go on and from which seed: as the command line asks, else for a moment and always the same."""
    asked = (plugin for plugin in pytestconfig.pluginmanager.get_plugins() if isinstance(plugin, Faults))
    return next(asked, Faults(seconds=15.0, seed=0))


def test_random_calls_of_a_session_fail_or_kill_it(tmp_path, monkeypatch, tried, faults):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    rng, until = random.Random(faults.seed), time.monotonic() + faults.seconds / 3
    with calls(Calls(str(tmp_path / "0"))) as counted:
        session(tmp_path / "0")
    while time.monotonic() < until:
        folder = tmp_path / "store"
        k, code = rng.randint(1, counted.count), rng.choice(CODES)
        one_fault(folder, Calls(str(folder), k, code, rng.random() < 0.3, kills=rng.random() < 0.5), tried)
        shutil.rmtree(folder)
    assert tried[TRIED] > 0
    assert tried[LOST] == 0


def test_sessions_on_one_store_are_hit_at_random_moments(tmp_path, tried, faults):
    """Then the rest is trained undisturbed: no Run that was there has gone, no epoch that was kept is trained again."""
    rng, until, number = random.Random(faults.seed), time.monotonic() + faults.seconds * 2 / 3, 0
    while time.monotonic() < until:
        number += 1
        folder = tmp_path / str(number)
        make_claims(folder, CLOCK)
        digests: dict[str, str] = {}
        for _ in range(rng.randint(1, 3)):
            commands = rng.sample(sorted(COMMANDS), rng.randint(1, 2))
            begun = [start(folder, COMMANDS[command]) for command in commands]
            if rng.random() < 0.8:
                wait_for_training(folder / LOG, begun[0])
            time.sleep(rng.uniform(0.0, 1.0))
            hit = rng.choice(sorted(HITS))
            strike(begun[0], hit, tried)
            for process in begun[1:]:
                kill_group(process.pid)
            for process in begun:
                process.wait(timeout=60)
                kill_group(process.pid)
            digests = unharmed(folder, digests, tried)
            for command, process in zip(commands, begun, strict=True):
                # one of the claims is refuted, and `train` is content when every Run is there
                content = command == "train" and len(digests) == RUNS
                tried[GREEN] += process.returncode == 0 and not content
        assert start(folder, COMMANDS["pytest -n2"]).wait(timeout=100) == 1
        unharmed(folder, digests, tried)
        tried[TWICE] += kept_and_trained_again(folder)
    assert not [tried[name] for name in (LOST, TWICE, GREEN) if tried[name]]


def wait_for_training(log, process):
    """Until something trains, or the process has ended."""
    size, until = log.stat().st_size if log.exists() else 0, time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None and not (log.exists() and log.stat().st_size > size):
        time.sleep(0.01)


def strike(process, hit, tried):
    """One of HITS, if the process still lives."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if process.poll() is None:
        found = list(map(int, children.read_text().split()))
        for pid, number in HITS[hit](process.pid, found):
            os.kill(pid, number)
        tried.update([TRIED, f"sessions hit by {hit}"])


def kill_group(group):
    """Kill what is left of this group, such as workers whose controller was killed."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def unharmed(folder, before, tried):
    """The digests of all Runs; those that were there before have to be among them."""
    store = folder / ".bnlab" / "store"
    found = {run.key: run.digest for run in Store.open(store).runs()} if store.exists() else {}
    tried[LOST] += sum(found.get(key) != digest for key, digest in before.items())
    assert not store.exists() or list((store / "disagreements").iterdir()) == []
    return found
