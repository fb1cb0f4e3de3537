"""The store keeps what it was given, and says with a clear message what is damaged and what disagrees."""

import json
import os
import shutil
import time

import pytest

from bnlab.errors import StoreError
from bnlab.store import DamagedError, Store, files
from bnlab.tests.store.runs import flip, folder_of, replicate, run


def test_published_run_is_loaded_bit_for_bit(here):
    """Curves, readings, weights and provenance, NaN and infinities among them."""
    with here.try_work(replicate()) as work:
        assert work.publish(run()) == run()

    loaded = Store.open(here.path).load(replicate())

    assert loaded.digest == run().digest
    assert json.dumps(loaded.to_json(), sort_keys=True) == json.dumps(run().to_json(), sort_keys=True)


def test_only_the_published_seed_is_there(here):
    here.add(run(seed=1))

    assert (
        here.has(replicate(1)),
        here.has(replicate()),
        here.has(replicate(1, lr=2e-3)),
    ) == (True, False, False)
    assert here.load(replicate()) is None
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
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")
        work.publish(run())

    assert list((here.path / "work").iterdir()) == list((here.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", ["spec.json", "env.json", "curve.jsonl", "readings.json", "result.json"])
@pytest.mark.parametrize("position", [0, -3])
def test_flipped_bit_is_detected(here, name, position):
    here.add(run())
    path = folder_of(here, run()) / name
    flip(path, position)

    words = f"the Run in .*{run().key} is damaged \\({name} does not have the SHA-256 .*sets it aside and trains"
    with pytest.raises(StoreError, match=words):
        here.load(replicate())
    with pytest.raises(StoreError, match=words):
        list(here.runs())


@pytest.mark.parametrize("name", ["DONE.json", "curve.jsonl"])
@pytest.mark.parametrize("spoil", [os.remove, lambda path: os.truncate(path, 9)], ids=["removed", "cut"])
def test_file_that_is_missing_or_cut_is_detected(here, name, spoil):
    here.add(run())
    spoil(folder_of(here, run()) / name)
    with pytest.raises(StoreError, match=r"is damaged \(.*sets it aside and trains it again"):
        here.load(replicate())


def test_run_under_the_key_of_another_is_detected(here):
    here.add(run(0))
    other = folder_of(here, run(1))
    other.parent.mkdir(exist_ok=True)
    shutil.copytree(folder_of(here, run(0)), other)
    with pytest.raises(StoreError, match=f"it holds ResNet18, .*seed 0, whose key is not {run(1).key[:12]}"):
        here.load(replicate(1))


def test_runs_of_a_newer_record_are_passed_over(here, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(files, "RECORD", 3)
        here.add(run())
    assert list(here.runs()) == []


def test_damaged_run_is_left_out_and_named_where_the_others_are_wanted(here):
    for seed in range(3):
        here.add(run(seed))
    flip(folder_of(here, run(1)) / "curve.jsonl", 0)
    skipped = []

    assert {found.seed for found in here.runs(skipped=skipped)} == {0, 2}
    assert [run(1).key in sentence for sentence in skipped] == [True]


@pytest.mark.parametrize("stray", ["runs/.DS_Store", "runs/zz/x", "runs/{0}/.DS_Store", "runs/{0}/notes/x", "runs/ff"])
def test_what_else_lies_among_the_runs_is_passed_over(here, stray):
    here.add(run())
    path = here.path / stray.format(run().key[:2])
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert [found.seed for found in here.runs()] == [0]


def test_damaged_run_is_set_aside_and_noted_for_the_next_one(here):
    here.add(run())
    flip(folder_of(here, run()) / "curve.jsonl", 0)

    said = here.set_aside(replicate())

    assert "seed 0, was damaged (curve.jsonl does not have the SHA-256" in said
    (aside,) = (here.path / "damaged").iterdir()
    assert str(aside) in said
    assert (aside / "DONE.json").exists()
    assert not here.has(replicate())
    with here.try_work(replicate()) as work:
        assert "what was recorded before was damaged (curve.jsonl does" in work.history[0]["note"]
        work.publish(run())
    assert here.load(replicate()).digest == run().digest


@pytest.mark.parametrize(("days", "kept"), [(29, 1), (31, 0)])
def test_what_was_set_aside_is_kept_for_a_month(here, monkeypatch, days, kept):
    here.add(run())
    os.utime(folder_of(here, run()), (0, 0))  # an old Run
    flip(folder_of(here, run()) / "curve.jsonl", 0)
    here.set_aside(replicate())
    later = time.time() + days * 86_400
    monkeypatch.setattr(time, "time", lambda: later)

    Store.open(here.path)

    assert len(list((here.path / "damaged").iterdir())) == kept


def test_sound_run_and_missing_run_are_not_set_aside(here):
    here.add(run())
    assert here.set_aside(replicate()) is here.set_aside(replicate(1)) is None
    assert here.has(replicate())


def test_run_that_another_process_trains_again_is_not_set_aside(here):
    here.add(run())
    flip(folder_of(here, run()) / "curve.jsonl", 0)
    with here.try_work(replicate(0, "probe")):
        assert here.set_aside(replicate()) is None


def test_digest_of_the_numbers_is_compared(here, monkeypatch):
    with monkeypatch.context() as other:
        other.setattr(type(run()), "digest", "0" * 64)
        here.add(run())
    with pytest.raises(DamagedError, match=r"do not have the digest that result.json names"):
        here.load(replicate())


# a Run that is finished twice


def test_second_finisher_with_the_same_numbers_gets_the_first_run(here):
    first, second = run(provenance={"device": "first"}), run(provenance={"device": "second"})

    assert here.add(first) == (first, None)
    kept, warning = here.add(second)

    assert (kept.provenance, warning) == ({"device": "first"}, None)
    assert list((here.path / "disagreements").iterdir()) == list((here.path / "tmp").iterdir()) == []


def test_second_finisher_with_other_numbers_is_kept_beside_and_told(here):
    here.add(run())
    with here.try_work(replicate()) as work:
        kept = work.publish(run(loss=0.2))

    assert kept.digest == run().digest == here.load(replicate()).digest
    assert "ResNet18, BatchNorm, batch 50, 3 epochs, seed 0, was trained twice with different numbers" in work.warning
    (beside,) = (here.path / "disagreements").iterdir()
    assert str(beside) in work.warning
    assert '"train_loss": 0.2' in (beside / "curve.jsonl").read_text()
    assert here.add(run(loss=0.2))[1] == work.warning


def test_work_refuses_to_publish_another_run(here):
    with (
        here.try_work(replicate()) as work,
        pytest.raises(StoreError, match=r"seed 0 was given .* seed 1: publish its own"),
    ):
        work.publish(run(seed=1))
    assert not here.has(replicate(1))
