"""Runs in progress: snapshots, what is set aside, and who has the lock."""

import os

import pytest

from bnlab.store import Store
from bnlab.tests.store.runs import SPEC, flip, replicate, run


def snapshot_files(here, seed=0):
    return sorted((here.path / "work" / run(seed).key).glob("snapshot-*"))


def test_newest_snapshot_is_handed_to_the_next_worker(here):
    with here.try_work(replicate()) as work:
        assert work.snapshot() is None
        for epoch in (1, 2, 3):
            work.save_snapshot(epoch, b"\n\x00state %d" % epoch)

    with here.try_work(replicate()) as work:
        assert work.snapshot() == b"\n\x00state 3"
        assert [entry["epoch"] for entry in work.history] == [3]


def test_history_lists_the_resumes_that_trained(here):
    """Whoever takes a snapshot and puts the Run back has not resumed it."""
    for epoch, trains in ((1, True), (2, True), (3, False), (3, True)):
        with here.try_work(replicate()) as work:
            work.snapshot()
            if trains:
                work.save_snapshot(epoch, b"state")
    with here.try_work(replicate()) as work:
        work.snapshot()
        assert [entry["epoch"] for entry in work.history] == [1, 2, 3]


def test_damaged_history_is_noted(here):
    with here.try_work(replicate()) as work:
        (here.path / "work" / work.key / "history.json").write_text("[{")
        assert work.history[0]["note"] == "the history before this was damaged"


def test_last_two_snapshots_are_kept(here):
    with here.try_work(replicate()) as work:
        for epoch in range(1, 12):
            work.save_snapshot(epoch, b"state")
    assert [path.name for path in snapshot_files(here)] == ["snapshot-00010", "snapshot-00011"]


@pytest.mark.parametrize("place", [2, 64, -1], ids=["digest", "newline", "content"])
def test_damaged_snapshot_falls_back_to_the_one_before(here, place):
    with here.try_work(replicate()) as work:
        for epoch in (1, 2):
            work.save_snapshot(epoch, b"state %d" % epoch)
    flip(snapshot_files(here)[1], place)

    with here.try_work(replicate()) as work:
        assert work.snapshot() == b"state 1"
        (entry,) = work.history
        assert (entry["epoch"], entry["note"]) == (1, "the snapshot of epoch 2 was damaged and was set aside")
        work.save_snapshot(2, b"again")
        assert work.snapshot() == b"again"


def test_nothing_sound_means_starting_anew_with_a_note(here):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")
    flip(snapshot_files(here)[0], -1)

    with here.try_work(replicate()) as work:
        assert work.snapshot() is None
        assert "epoch 1 was damaged" in work.history[0]["note"]
    with here.try_work(replicate()) as work:
        assert work.snapshot() is None
        assert len(work.history) == 1


def test_starting_anew_drops_later_snapshots(here):
    """Otherwise a snapshot that the engine refused would come back."""
    with here.try_work(replicate()) as work:
        work.save_snapshot(7, b"old")
        work.save_snapshot(1, b"new")
        assert work.snapshot() == b"new"


def test_work_is_for_one_at_a_time(here):
    with here.try_work(replicate()):
        assert here.locked(replicate())
        assert here.try_work(replicate()) is None
        assert not here.locked(replicate(1))
        here.try_work(replicate(1)).__exit__()
    assert not here.locked(replicate())
    here.try_work(replicate()).__exit__()


def test_work_on_a_finished_run_says_so(here):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")
    here.add(run())
    with here.try_work(replicate()) as work:
        assert work.published
    assert list((here.path / "work").iterdir()) == []


def test_progress_lists_what_was_begun_and_not_finished(here):
    here.try_work(replicate(3)).__exit__()
    with here.try_work(replicate(1)) as work:
        work.publish(run(seed=1))
    with here.try_work(replicate(2)) as work:
        work.save_snapshot(1, b"state")
        work.save_snapshot(2, b"state")
        (here.path / "work" / "foreign").mkdir()

        found = {entry.replicate.seed: (entry.replicate.spec, entry.epoch, entry.locked) for entry in here.progress()}

    assert found == {2: (SPEC, 2, True), 3: (SPEC, 0, False)}


def test_snapshot_that_cannot_be_restored_is_set_aside_with_its_reason(here):
    with here.try_work(replicate()) as work:
        for epoch in (1, 2):
            work.save_snapshot(epoch, b"state %d" % epoch)
    with here.try_work(replicate()) as work:
        assert work.snapshot() == b"state 2"
        assert work.refuse_snapshot("KeyError:\n'bn1.scale'\x1b") == b"state 1"
        assert work.refuse_snapshot("junk") is None
        assert work.snapshot() is None

    with here.try_work(replicate()) as work:
        assert [(entry["epoch"], entry["note"]) for entry in work.history] == [
            (1, "the snapshot of epoch 2 could not be restored (KeyError: 'bn1.scale'?) and was set aside"),
            (0, "the snapshot of epoch 1 could not be restored (junk) and was set aside"),
        ]
        assert len(list(here.work_folder(replicate()).glob("*.damaged"))) == 2


def test_progress_says_who_trains_and_how_much_its_snapshots_take(here):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"x" * 1000)
        (progress,) = here.progress()
    assert progress.by.startswith(f"process {os.getpid()} on ")
    assert 1000 < progress.size < 1100


def test_new_work_folder_is_flushed_to_the_disk(here, monkeypatch):
    """A file system may lose a folder whose parent was not, and the durable snapshots in it."""
    synced = []
    monkeypatch.setattr("bnlab.store.work.sync_folder", synced.append)
    here.try_work(replicate()).__exit__()
    assert synced == [here.path / "work"]


def test_snapshots_of_a_run_that_was_published_elsewhere_are_removed_by_the_next_session(here):
    """Its publisher was killed before it could, or somebody imported it."""
    for seed in range(3):
        with here.try_work(replicate(seed)) as work:
            work.save_snapshot(1, b"state")
    with here.try_work(replicate(3, "probe")) as work:
        work.save_snapshot(1, b"state")
    for seed in (0, 1, 3):
        here.add(run(seed))

    with here.try_work(replicate(1, "probe")) as work:
        Store.open(here.path)
        assert here.work_folder(replicate(1)).exists(), "somebody trains it for a probe"

    left = {progress.replicate.seed for progress in Store.open(here.path).progress()}
    assert left == {1, 2, 3}
    assert not here.work_folder(replicate()).exists()
