"""A full disk loses nothing that was kept before."""

import errno
import os

import pytest

from bnlab.errors import StoreError
from bnlab.store import durable
from bnlab.tests.store.runs import replicate, run


class FullDisk:
    """Stands in for a function of os and fails at its nth call."""

    def __init__(self, function, nth):
        self.function, self.left = function, nth

    def __call__(self, *args):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.function(*args)


FAILURES = [("fsync", 1), ("fsync", 2), ("replace", 1)]


@pytest.mark.parametrize(("name", "nth"), FAILURES)
def test_full_disk_keeps_the_snapshot_before(here, monkeypatch, name, nth):
    """The second fsync is the folder's: the new snapshot is in place by then."""
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state 1")
        work.save_snapshot(2, b"state 2")
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, name, FullDisk(getattr(os, name), nth))
            with pytest.raises(
                StoreError, match=r"cannot keep the state .*\(No space left on device\): make room there"
            ):
                work.save_snapshot(3, b"state 3")
        assert work.snapshot() == (b"state 3" if (name, nth) == ("fsync", 2) else b"state 2")
        assert not list((here.path / "work").rglob("*.partial"))
        work.save_snapshot(3, b"state 3")
        assert work.snapshot() == b"state 3"


@pytest.mark.parametrize(("name", "nth"), [("fsync", n) for n in range(1, 9)] + [("rename", 1)])
def test_full_disk_while_publishing_keeps_the_snapshot_and_publishes_nothing(here, monkeypatch, name, nth):
    with here.try_work(replicate()) as work:
        work.save_snapshot(3, b"state")
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, name, FullDisk(getattr(os, name), nth))
            with pytest.raises(
                StoreError, match=r"cannot write the Run .*\(No space left on device\): make room there"
            ):
                work.publish(run())
        assert not here.has(replicate())
        assert list((here.path / "tmp").iterdir()) == []
        assert work.snapshot() == b"state"
        assert work.publish(run()).digest == run().digest
