"""Locks where the disk passes on no kernel locks: leases, by the marker of the store."""

import os
import time

import pytest
from filelock import SoftFileLease

from bnlab.store import Store, layout
from bnlab.store.layout import LEASE, MARKER
from bnlab.tests.store.runs import replicate, run


@pytest.fixture
def leased(here):
    """A store whose marker asks for leases."""
    (here.path / MARKER).write_text('{"bnlab_store": 2, "locks": "lease"}')
    layout._leases.cache_clear()
    return Store.open(here.path)


@pytest.fixture
def clock(monkeypatch):
    """Seconds by which every clock of this process goes fast; its waiting takes no time."""
    fast, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + fast[0])
    return fast


def elsewhere(store, seed=0):
    """A lease of somebody on another machine whose heartbeat has stopped, as with that machine."""
    lease = SoftFileLease(store.path / "locks" / f"{replicate(seed).key}.lock", lease_duration=LEASE)
    lease.acquire(timeout=1)
    lease._stop_heartbeat()
    return lease


def in_the_end(store):
    """The Run to train, as a session gets it that comes back: one try waits 6 ms, which a busy machine may take."""
    until = time.monotonic() + 60
    while (work := store.try_work(replicate())) is None:
        assert time.monotonic() < until
    return work


def test_work_is_for_one_at_a_time(leased):
    with leased.try_work(replicate()) as work:
        assert leased.try_work(replicate()) is None
        assert leased.locked(replicate())
        work.publish(run())
    assert not leased.locked(replicate())
    with leased.try_work(replicate()) as work:
        assert work.published


def test_lease_is_anybodys_after_its_deadline_and_not_before(leased, clock):
    gone = elsewhere(leased)
    assert leased.try_work(replicate()) is None
    clock[0] = LEASE - 5
    assert leased.try_work(replicate()) is None

    clock[0] = LEASE + 1

    with in_the_end(leased) as work:
        assert not work.published
    assert gone.is_locked, "its holder was not asked"


def test_heartbeat_keeps_a_lease_for_longer_than_its_deadline(leased, clock):
    lease = elsewhere(leased)
    for beat in range(1, 4):
        assert leased.try_work(replicate()) is None
        clock[0] = beat * (LEASE - 5)
        os.utime(lease.lock_file, (beat, beat))  # what the heartbeat does
    assert leased.try_work(replicate()) is None


def test_holder_that_lost_its_lease_publishes_the_same_run_or_is_told(leased, clock):
    """Correctness hangs on no lock: the first one published is kept and the second compared."""
    first = leased.try_work(replicate())
    first._lock._stop_heartbeat()
    layout._lease.cache_clear()  # as in another process
    leased.try_work(replicate())
    clock[0] = LEASE + 1
    with in_the_end(leased) as second:
        second.publish(run(loss=0.2))

    first.publish(run(loss=0.1))

    assert "trained twice with different numbers" in first.warning
    assert leased.load(replicate()).digest == run(loss=0.2).digest
