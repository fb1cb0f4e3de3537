"""Ctrl-C or SIGTERM while two workers train: the state is kept, however long an epoch takes; a second one ends it."""

import os
import signal
import time

import pytest

from bnlab.interrupts import SAID
from bnlab.store import Store
from bnlab.store.beats import beats
from bnlab.tests.faults.sessions import make_claims, start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside")]

EPOCH = 6.0
"""Seconds; longer than pytest-xdist lets a worker go on after Ctrl-C."""


def to_all(pid):
    """Ctrl-C, as a terminal sends it."""
    os.killpg(pid, signal.SIGINT)


def sigterm(pid):
    os.kill(pid, signal.SIGTERM)


def sigterm_to_all(pid):
    os.killpg(pid, signal.SIGTERM)


def interrupted(folder, times, send=to_all):
    """Its store and how long it went on: a session whose two workers train is stopped so many times."""
    make_claims(folder)
    session = start(folder, ["-m", "pytest", "hypotheses", "--device=cpu", "-q", "-n2"])
    path, until = folder / ".bnlab" / "store", time.monotonic() + 30
    while not (path / "tmp").exists() or sum(bool(beat.cohort) for beat in beats(Store(path))) < 2:
        assert time.monotonic() < until, (folder / "said.txt").read_text()
        time.sleep(0.05)
    for _ in range(times):
        send(session.pid)
        begun = time.monotonic()
        time.sleep(0.5)
    assert session.wait(timeout=60) == pytest.ExitCode.INTERRUPTED
    return Store.read(path), time.monotonic() - begun


@pytest.mark.parametrize("send", [to_all, sigterm, sigterm_to_all], ids=["Ctrl-C", "SIGTERM", "SIGTERM of a scheduler"])
def test_a_signal_lets_every_worker_keep_its_epoch(tmp_path, monkeypatch, send):
    monkeypatch.setenv("EPOCH", str(EPOCH))

    store, _ = interrupted(tmp_path, 1, send)

    assert [(work.epoch, work.locked) for work in store.progress()] == [(1, False)] * 4
    said = (tmp_path / "said.txt").read_text()
    assert said.count(SAID) == 1
    assert "4 Runs stand at epoch 1 of 15: kept" in said


def test_second_ctrl_c_ends_every_worker_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EPOCH", str(EPOCH))

    store, seconds = interrupted(tmp_path, 2)

    assert [(work.epoch, work.locked) for work in store.progress()] == [(0, False)] * 4
    assert seconds < EPOCH / 2
