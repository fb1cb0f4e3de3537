"""What probes read is kept beside the Run, may be added later, and is lost without it at the worst."""

import base64
from dataclasses import replace

import numpy
import pytest

from bnlab.errors import StatisticsError, StoreError
from bnlab.runs import Arm, reading, readings_digest
from bnlab.store import DamagedError, arrays
from bnlab.store.transfer import export_runs, import_runs, read_runs
from bnlab.tests.store.runs import SPEC, flip, folder_of, readings, replicate, run


@pytest.fixture
def probed():
    """A Run with two probes."""
    return run(probes={"spread": readings(), "my_probes:Moments": {"mean": 0.5}})


def same(first, second):
    """Whether two probes read the same to the bit, in the same types."""
    return readings_digest(first) == readings_digest(second) and {type(first[name]) for name in first} == {
        type(second[name]) for name in second
    }


def file_of(store, probe="spread"):
    return folder_of(store, run()) / f"probe-{probe}.safetensors"


def test_probes_are_loaded_bit_for_bit_and_only_those_that_are_asked_for(here, probed):
    here.add(probed)

    assert here.load(replicate()).probes == {}
    assert list(here.load(replicate(0, "spread")).probes) == ["spread"]
    for probe, given in probed.probes.items():
        assert same(here.load(replicate(0, probe)).probes[probe], given)
    assert {probe: same(given, probed.probes[probe]) for probe, given in next(here.runs()).probes.items()} == {
        "spread": True,
        "my_probes:Moments": True,
    }


def test_probes_are_part_of_neither_key_nor_digest(probed):
    assert (probed.key, probed.digest, probed) == (run().key, run().digest, run())


def test_run_without_a_probe_is_there_and_not_with_it(here):
    here.add(run())
    assert here.has(replicate())
    assert not here.has(replicate(0, "spread"))
    assert here.load(replicate(0, "spread")) is None


def test_probe_is_added_to_a_finished_run_whose_files_stay_as_they_are(here, probed):
    here.add(run(provenance={"device": "first"}))
    before = {path.name: path.read_bytes() for path in folder_of(here, run()).iterdir()}

    with here.try_work(replicate(0, "spread", "my_probes:Moments")) as work:
        assert not work.published
        kept = work.publish(probed)

    assert kept.provenance == {"device": "first"}
    assert set(kept.probes) == set(probed.probes)
    after = {path.name: path.read_bytes() for path in folder_of(here, run()).iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"probe-spread.safetensors", "probe-my_probes%3AMoments.safetensors"}
    assert same(here.load(replicate(0, "spread")).probes["spread"], readings())


def test_probes_of_a_run_with_other_numbers_are_not_added_and_the_run_is_kept_beside(here, probed):
    here.add(run())

    with (
        here.try_work(replicate(0, "spread")) as work,
        pytest.raises(StoreError, match=r"seed 0, was trained twice with different numbers: .* their env.json say"),
    ):
        work.publish(replace(probed, weights="cd" * 32))

    assert not here.has(replicate(0, "spread"))
    (beside,) = (here.path / "disagreements").iterdir()
    assert (beside / "probe-spread.safetensors").exists()


def test_probe_that_read_something_else_before_is_kept_as_it_was_and_told(here):
    here.add(run(probes={"spread": readings()}))

    kept, warning = here.add(run(probes={"spread": readings(last=5.0), "other": {"mean": 0.5}}))

    assert "was trained twice with different numbers" in warning
    assert same(kept.probes["spread"], readings())
    assert here.has(replicate(0, "other"))
    assert len(list((here.path / "disagreements").iterdir())) == 1


def test_probes_are_added_to_a_stored_run_only(here, probed):
    with pytest.raises(StoreError, match=r"seed 0, is not in the store .*: add the Run, not only its probes"):
        here.add_probes(probed)


@pytest.mark.parametrize("place", [0, 9, 60, -1], ids=["length", "header", "metadata", "data"])
def test_damaged_probe_is_missing_and_named_and_the_run_is_not_lost(here, probed, place):
    here.add(probed)
    flip(file_of(here), place)

    with pytest.raises(DamagedError, match=r"the probe spread in .* is damaged \(it "):
        here.load(replicate(0, "spread"))
    assert here.load(replicate()).digest == run().digest
    skipped = []
    (found,) = here.runs(skipped=skipped)
    assert list(found.probes) == ["my_probes:Moments"]
    assert ["probe spread" in sentence for sentence in skipped] == [True]


def test_damaged_probe_is_set_aside_and_added_anew(here, probed):
    here.add(probed)
    flip(file_of(here), -1)

    assert "was moved to" in here.set_aside(replicate(0, "spread"))
    assert here.has(replicate(0, "my_probes:Moments"))
    with here.try_work(replicate(0, "spread")) as work:
        work.publish(probed)
    assert same(here.load(replicate(0, "spread")).probes["spread"], readings())


def test_probe_under_the_name_of_another_is_damaged(here, probed):
    here.add(probed)
    file_of(here).rename(file_of(here, "other"))
    with pytest.raises(DamagedError, match="not of the probe 'other'"):
        here.load(replicate(0, "other"))


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", ".", "a/b"])
def test_name_of_a_probe_leads_nowhere_else(here, name):
    here.add(run(probes={name: {"mean": 0.5}}))
    assert [path.parent for path in here.path.parent.rglob("probe-*")] == [folder_of(here, run())]
    assert here.load(replicate(0, name)).probes == {name: {"mean": 0.5}}
    assert list(next(here.runs()).probes) == [name]


@pytest.mark.parametrize(
    "value",
    [1, "0.5", None, [0.5], numpy.float32(1), *map(numpy.array, (["x"], [1j], 0.5)), numpy.zeros(2, "e")],
    ids=["int", "text", "none", "list", "float32", "strings", "complex", "no-axes", "float16"],
)
def test_reading_that_is_no_float_and_no_plain_array_is_refused(here, value):
    with pytest.raises(StoreError, match=r"the reading 'x' of the probe 'p' is .*: expected a float or an array of"):
        here.add(run(probes={"p": {"x": value}}))
    assert not here.has(replicate())
    assert list((here.path / "tmp").iterdir()) == []


def test_too_many_readings_are_refused(here, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST", 2000)
    with pytest.raises(StoreError, match=r"the probe 'p' read 1 values of .* bytes: expected at most"):
        here.add(run(probes={"p": {"x": numpy.zeros(1000)}}))


# snapshots


def test_snapshots_without_the_probe_are_dropped_and_noted(here):
    with here.try_work(replicate()) as work:
        work.save_snapshot(2, b"without")
    with here.try_work(replicate(0, "spread")) as work:
        assert work.snapshot() is None
        assert work.history[0]["note"] == "started anew to read spread from the first step"


def test_snapshots_with_more_probes_are_gone_on_from_with_all_of_them(here):
    with here.try_work(replicate(0, "spread", "moments")) as work:
        work.save_snapshot(2, b"with both")
    with here.try_work(replicate(0, "spread")) as work:
        assert work.replicate.probes == ("moments", "spread")
        assert work.snapshot() == b"with both"
    (progress,) = here.progress()
    assert progress.replicate.probes == ("moments", "spread")


# files of Runs


def test_probes_travel_in_a_file(here, tmp_path, probed):
    here.add(run())
    assert export_runs([probed], tmp_path / "runs.jsonl") == 1

    assert import_runs(tmp_path / "runs.jsonl", here) == (1, 0)
    assert import_runs(tmp_path / "runs.jsonl", here) == (0, 1)

    for probe, given in probed.probes.items():
        assert same(here.load(replicate(0, probe)).probes[probe], given)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-8],
        lambda text: "!" + text[1:],
        lambda text: base64.b64encode(arrays.pack("other", {"mean": 0.5})).decode(),
        lambda text: 5,
        lambda text: {"mean": 0.5},
    ],
    ids=["cut", "base64", "other", "number", "object"],
)
def test_probe_of_a_file_that_is_not_as_it_was_written_is_refused(tmp_path, probed, rewrite, spoil):
    file = tmp_path / "runs.jsonl"
    export_runs([probed], file)

    def change(lines):
        lines[1]["probes"]["spread"] = spoil(lines[1]["probes"]["spread"])
        return lines

    rewrite(file, change)
    with pytest.raises(StoreError, match="a line that is no Run"):
        read_runs(file)


# a reading as a Metric


def test_reading_of_a_run_or_of_a_probe_is_measured_by_its_name(probed):
    arm = Arm(spec=SPEC, runs=(probed,))
    assert arm.measure(reading("spread/spread/early", unit="gradient")).values == (0.25,)
    sample = arm.measure(reading("test_accuracy_batch", unit="points"))
    assert (sample.values, sample.unit) == ((71.5,), "points")


@pytest.mark.parametrize("name", ["spread/late", "spread/curve", "nothing", "other/mean"])
def test_reading_that_is_missing_or_an_array_is_named(probed, name):
    words = f"the reading '{name}' of ResNet18, .* seed 0 is (missing|an array): measure a number, one of .*spread/none"
    with pytest.raises(StatisticsError, match=words):
        Arm(spec=SPEC, runs=(probed,)).measure(reading(name, unit="nats"))


def test_numbers_of_a_probe_have_a_digest_of_their_own():
    assert readings_digest(readings()) == readings_digest(dict(reversed(readings().items())))
    assert readings_digest(readings()) != readings_digest(readings(last=5.0))
    assert readings_digest({"x": numpy.zeros(4)}) != readings_digest({"x": numpy.zeros((2, 2))})
    assert readings_digest({"x": numpy.zeros(4)}) != readings_digest({"x": numpy.zeros(4, dtype=numpy.int64)})
