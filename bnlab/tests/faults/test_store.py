"""Whatever call fails and whatever byte is flipped, the store is whole, says so in one sentence, and goes on."""

import errno
import os
import time

import pytest

from bnlab.errors import StoreError
from bnlab.store import DamagedError, Store
from bnlab.store.transfer import export_runs, read_runs
from bnlab.tests.faults.inject import Calls, calls
from bnlab.tests.faults.sessions import DIGESTS, one_fault, session
from bnlab.tests.store.runs import flip, folder_of, readings, replicate, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "for_good", "step"),
    [
        (errno.EIO, False, 1),
        (errno.ENOSPC, True, 2),
        (errno.ESTALE, False, 7),
        (errno.EACCES, False, 7),
        (errno.EMFILE, False, 7),
    ],
    ids=["EIO", "full disk", "ESTALE", "EACCES", "EMFILE"],
)
def test_each_call_may_fail(tmp_path, monkeypatch, tried, code, for_good, step):
    """The session ends with a StoreError or goes on; the next one finishes it, and no Run that was there is gone."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # counted and failed all the same
    with calls(Calls(str(tmp_path / "0"))) as counted:
        assert session(tmp_path / "0") == DIGESTS
    assert counted.count > 150

    for k in range(1, counted.count + 1, step):
        if not one_fault(tmp_path / str(k), Calls(str(tmp_path / str(k)), k, code, for_good), tried):
            break  # this session made fewer calls than the one that was counted


def test_each_byte_of_a_run_may_be_flipped(here, tried, monkeypatch):
    """It is noticed, or it is white space that means nothing; the Run is set aside and recorded again."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    whole = run(probes={"spread": readings()})
    here.add(whole)
    asked = replicate(0, "spread")
    for path in sorted(folder_of(here, whole).iterdir()):
        for place in range(path.stat().st_size):
            flip(path, place)
            try:
                found = here.load(asked)
            except DamagedError:
                tried["bytes of a Run that were flipped and noticed"] += 1
                if place % 50 == 0:
                    assert here.set_aside(asked)
                    assert here.add(whole)[0].digest == whole.digest
                else:
                    flip(path, place)
            else:
                tried["bytes of a Run that were flipped and meant nothing"] += 1
                assert found.digest == whole.digest
                flip(path, place)
    assert here.load(asked).digest == whole.digest


def test_each_byte_of_a_snapshot_may_be_flipped(here, tried):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state 1")
        for place in range(65 + 7):
            work.save_snapshot(2, b"state 2")
            flip(here.work_folder(replicate()) / "snapshot-00002", place)
            assert work.snapshot() == b"state 1"
            tried["bytes of a snapshot that were flipped and noticed"] += 1


def test_each_byte_of_a_recorded_file_may_be_flipped(tmp_path, tried):
    file = tmp_path / "runs.jsonl"
    export_runs([run(probes={"p": {"x": 0.5}})], file)
    for place in range(file.stat().st_size):
        flip(file, place)
        with pytest.raises(StoreError):
            read_runs(file)
        flip(file, place)
        tried["bytes of a recorded file that were flipped and noticed"] += 1
    assert len(read_runs(file)) == 1


@pytest.mark.parametrize("days", [-1, 1])
def test_clock_may_be_a_day_off(here, monkeypatch, tried, days):
    """What is being published is swept by nobody whose clock is right to a day."""
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")
        with monkeypatch.context() as patch:
            off = time.time() + days * 86_300
            patch.setattr(time, "time", lambda: off)
            (here.path / "tmp" / "published").mkdir()
            Store.open(here.path)
        assert (here.path / "tmp" / "published").exists()
        assert work.snapshot() == b"state"
        work.publish(run())
    tried["clocks that were off"] += 1
    assert here.load(replicate()).digest == run().digest
