"""The store keeps what it was given, says in words what is wrong, and loses nothing to a full disk."""

import errno
import json
import os
import shutil
from dataclasses import replace

import pytest

from bnlab import durable, store
from bnlab.errors import StoreError
from bnlab.store import Store
from bnlab.tests.store_runs import SPEC, run


@pytest.fixture
def here(tmp_path):
    return Store.open(tmp_path / "store")


def contents(folder):
    """Every file under a folder but locks, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def folder_of(here, run):
    return here.path / "runs" / run.key[:2] / run.key


def snapshot_files(here, seed=0):
    return sorted((here.path / "work" / run(seed).key).glob("snapshot-*"))


# finished Runs


def test_published_run_is_loaded_bit_for_bit(here):
    """Curves, readings, weights and provenance, NaN and infinities among them."""
    with here.try_work(SPEC, 0) as work:
        assert work.publish(run()) == run()

    loaded = Store.open(here.path).load(SPEC, 0)

    assert loaded.digest == run().digest
    assert json.dumps(loaded.to_json(), sort_keys=True) == json.dumps(run().to_json(), sort_keys=True)
    assert loaded.curves["none"] == ()


def test_only_the_published_seed_is_there(here):
    here.add(run(seed=1))

    assert (here.has(SPEC, 1), here.has(SPEC, 0), here.has(replace(SPEC, lr=2e-3), 1)) == (True, False, False)
    assert here.load(SPEC, 0) is None
    assert [found.seed for found in here.runs()] == [1]


def test_runs_come_in_the_order_of_their_keys(here):
    for seed in range(12):
        here.add(run(seed))
    keys = [found.key for found in here.runs()]

    assert keys == sorted(run(seed).key for seed in range(12))


def test_folder_of_a_run_is_readable_by_people_and_complete(here):
    here.add(run())
    folder = folder_of(here, run())

    assert sorted(path.name for path in folder.iterdir()) == [
        "DONE.json", "curve.jsonl", "env.json", "readings.json", "result.json", "spec.json",
    ]  # fmt: skip
    assert json.loads((folder / "curve.jsonl").read_text().splitlines()[1]) == {
        "epoch": 2,
        "train_loss": 0.1,
        "test_accuracy": 1 / 3,
    }
    assert json.loads((folder / "env.json").read_text()) == run().provenance


def test_publishing_leaves_nothing_behind(here):
    with here.try_work(SPEC, 0) as work:
        work.save_snapshot(1, b"state")
        work.publish(run())

    assert list((here.path / "work").iterdir()) == list((here.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["spec.json", "env.json", "curve.jsonl", "readings.json", "result.json"])
@pytest.mark.parametrize("position", [0, -3])
def test_flipped_bit_is_detected(here, name, position):
    here.add(run())
    path = folder_of(here, run()) / name
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)

    words = f"the Run in .*{run().key} is damaged \\({name} does not have the SHA-256 .*: delete that folder"
    with pytest.raises(StoreError, match=words):
        here.load(SPEC, 0)
    with pytest.raises(StoreError, match=words):
        list(here.runs())


@pytest.mark.parametrize("name", ["DONE.json", "curve.jsonl"])
@pytest.mark.parametrize("spoil", [os.remove, lambda path: os.truncate(path, 9)], ids=["removed", "cut"])
def test_file_that_is_missing_or_cut_is_detected(here, name, spoil):
    here.add(run())
    spoil(folder_of(here, run()) / name)
    with pytest.raises(StoreError, match=r"is damaged \(.*delete that folder and the Run is trained again"):
        here.load(SPEC, 0)


def test_run_under_the_key_of_another_is_detected(here):
    here.add(run(0))
    other = folder_of(here, run(1))
    other.parent.mkdir(exist_ok=True)
    shutil.copytree(folder_of(here, run(0)), other)
    with pytest.raises(StoreError, match=f"it holds the Run {run(0).key[:12]}"):
        here.load(SPEC, 1)


def test_runs_of_another_record_version_are_passed_over(here, monkeypatch):
    here.add(run())
    monkeypatch.setattr(store, "RECORD", 3)
    assert list(here.runs()) == []


# a Run that is finished twice


def test_second_finisher_with_the_same_numbers_gets_the_first_run(here):
    first, second = run(provenance={"device": "first"}), run(provenance={"device": "second"})

    assert here.add(first) == (first, None)
    kept, warning = here.add(second)

    assert (kept.provenance, warning) == ({"device": "first"}, None)
    assert list((here.path / "disagreements").iterdir()) == list((here.path / "tmp").iterdir()) == []


def test_second_finisher_with_other_numbers_is_kept_beside_and_told(here):
    here.add(run())
    with here.try_work(SPEC, 0) as work:
        kept = work.publish(run(loss=0.2))

    assert kept.digest == run().digest == here.load(SPEC, 0).digest
    assert "ResNet18, BatchNorm, batch 50, 3 epochs, seed 0, was trained twice with different numbers" in work.warning
    (beside,) = (here.path / "disagreements").iterdir()
    assert str(beside) in work.warning
    assert '"train_loss": 0.2' in (beside / "curve.jsonl").read_text()
    assert here.add(run(loss=0.2))[1] == work.warning


def test_work_refuses_to_publish_another_run(here):
    with (
        here.try_work(SPEC, 0) as work,
        pytest.raises(StoreError, match=r"seed 0, was given .* seed 1: publish its own"),
    ):
        work.publish(run(seed=1))
    assert not here.has(SPEC, 1)


# Runs in progress


def test_newest_snapshot_is_handed_to_the_next_worker(here):
    with here.try_work(SPEC, 0) as work:
        assert work.snapshot() is None
        for epoch in (1, 2, 3):
            work.save_snapshot(epoch, b"\n\x00state %d" % epoch)

    with here.try_work(SPEC, 0) as work:
        assert work.snapshot() == b"\n\x00state 3"
        assert [entry["epoch"] for entry in work.history] == [3]


def test_history_lists_the_resumes_that_trained(here):
    """Whoever takes a snapshot and puts the Run back has not resumed it."""
    for epoch, trains in ((1, True), (2, True), (3, False), (3, True)):
        with here.try_work(SPEC, 0) as work:
            work.snapshot()
            if trains:
                work.save_snapshot(epoch, b"state")
    with here.try_work(SPEC, 0) as work:
        work.snapshot()
        assert [entry["epoch"] for entry in work.history] == [1, 2, 3]


def test_damaged_history_is_noted(here):
    with here.try_work(SPEC, 0) as work:
        (here.path / "work" / work.key / "history.json").write_text("[{")
        assert work.history[0]["note"] == "the history before this was damaged"


def test_last_two_snapshots_are_kept(here):
    with here.try_work(SPEC, 0) as work:
        for epoch in range(1, 12):
            work.save_snapshot(epoch, b"state")
    assert [path.name for path in snapshot_files(here)] == ["snapshot-00010", "snapshot-00011"]


@pytest.mark.parametrize("place", [2, 64, -1], ids=["digest", "newline", "content"])
def test_damaged_snapshot_falls_back_to_the_one_before(here, place):
    with here.try_work(SPEC, 0) as work:
        for epoch in (1, 2):
            work.save_snapshot(epoch, b"state %d" % epoch)
    damage(snapshot_files(here)[1], place)

    with here.try_work(SPEC, 0) as work:
        assert work.snapshot() == b"state 1"
        (entry,) = work.history
        assert (entry["epoch"], entry["note"]) == (1, "the snapshot of epoch 2 was damaged and was set aside")
        work.save_snapshot(2, b"again")
        assert work.snapshot() == b"again"


def test_nothing_sound_means_starting_anew_with_a_note(here):
    with here.try_work(SPEC, 0) as work:
        work.save_snapshot(1, b"state")
    damage(snapshot_files(here)[0], -1)

    with here.try_work(SPEC, 0) as work:
        assert work.snapshot() is None
        assert "epoch 1 was damaged" in work.history[0]["note"]
    with here.try_work(SPEC, 0) as work:
        assert work.snapshot() is None
        assert len(work.history) == 1


def damage(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_starting_anew_drops_later_snapshots(here):
    """Otherwise a snapshot that the engine refused would come back."""
    with here.try_work(SPEC, 0) as work:
        work.save_snapshot(7, b"old")
        work.save_snapshot(1, b"new")
        assert work.snapshot() == b"new"


def test_work_is_for_one_at_a_time(here):
    with here.try_work(SPEC, 0):
        assert here.held(SPEC, 0)
        assert here.try_work(SPEC, 0) is None
        assert not here.held(SPEC, 1)
        here.try_work(SPEC, 1).__exit__()
    assert not here.held(SPEC, 0)
    here.try_work(SPEC, 0).__exit__()


def test_work_on_a_finished_run_says_so(here):
    with here.try_work(SPEC, 0) as work:
        work.save_snapshot(1, b"state")
    here.add(run())
    with here.try_work(SPEC, 0) as work:
        assert work.published
    assert list((here.path / "work").iterdir()) == []


def test_progress_lists_what_was_begun_and_not_finished(here):
    here.try_work(SPEC, 3).__exit__()
    with here.try_work(SPEC, 1) as work:
        work.publish(run(seed=1))
    with here.try_work(SPEC, 2) as work:
        work.save_snapshot(1, b"state")
        work.save_snapshot(2, b"state")
        (here.path / "work" / "foreign").mkdir()

        found = {entry.seed: (entry.spec, entry.epoch, entry.held) for entry in here.progress()}

    assert found == {2: (SPEC, 2, True), 3: (SPEC, 0, False)}


# folders that are no store


def test_opening_again_changes_nothing(here):
    here.add(run())
    before = contents(here.path)
    Store.open(here.path)
    assert contents(here.path) == before


def test_empty_folder_becomes_a_store(tmp_path):
    (tmp_path / "new").mkdir()
    Store.open(str(tmp_path / "new")).add(run())
    assert Store.open(tmp_path / "new").has(SPEC, 0)


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'thesis.tex' and is not a store of bnlab: name a new folder"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ('{"bnlab_store": 2}', "is a store of layout 2 and this bnlab knows layout 1: update bnlab"),
        ('{"bnlab_sto', r"bnlab-store.json is damaged: write \{\"bnlab_store\": 1\} into it"),
        ("[]", "is damaged"),
    ],
    ids=["newer", "cut", "list"],
)
def test_store_of_another_layout_is_refused(here, marker, words):
    (here.path / "bnlab-store.json").write_text(marker)
    with pytest.raises(StoreError, match=words):
        Store.open(here.path)


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_file_in_the_way_is_a_store_error(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot use .*file.* as the store \(.*\): name another folder with --store"):
        Store.open(tmp_path / path)


def test_read_only_store_is_a_store_error(here, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(store.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StoreError, match=r"cannot use .* as the store \(Read-only file system\): name another folder"):
        Store.open(here.path)


def test_leftovers_of_killed_processes_are_swept_after_a_day(here):
    for name, age in {"old": 2 * 24 * 3600, "young": 60}.items():
        (here.path / "tmp" / name).mkdir()
        then = (here.path / "tmp" / name).stat().st_mtime - age
        os.utime(here.path / "tmp" / name, (then, then))
    Store.open(here.path)
    assert [path.name for path in (here.path / "tmp").iterdir()] == ["young"]


# a full disk


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
    with here.try_work(SPEC, 0) as work:
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
    with here.try_work(SPEC, 0) as work:
        work.save_snapshot(3, b"state")
        with monkeypatch.context() as patch:
            patch.setattr(durable.os, name, FullDisk(getattr(os, name), nth))
            with pytest.raises(
                StoreError, match=r"cannot write the Run .*\(No space left on device\): make room there"
            ):
                work.publish(run())
        assert not here.has(SPEC, 0)
        assert list((here.path / "tmp").iterdir()) == []
        assert work.snapshot() == b"state"
        assert work.publish(run()).digest == run().digest
