"""Files of Runs from anywhere: what is no Run is refused in one sentence, no code runs, and nothing is overwritten."""

import hashlib
import json
import os
import sys
from copy import deepcopy

import pytest

from bnlab.errors import StoreError
from bnlab.specs import recorded_key
from bnlab.store import DamagedError, Store, files, transfer
from bnlab.store.checks import parse, plain_text
from bnlab.store.transfer import export_runs, import_runs, read_runs
from bnlab.tests.store.runs import flip, folder_of, replicate, run


def sound():
    """A Run that did not diverge, as the plain values of its line."""
    curves = {"train_loss": (2.0, 1.0, 0.5), "test_accuracy": (30.0, 50.0, 70.0)}
    return json.loads(
        json.dumps(run(curves=curves, readings={"test_accuracy_batch": 71.5}, diverged_at=None).to_json())
    )


def write(file, *lines):
    """A file with these Runs, under keys and a checksum that fit them."""
    for line in lines:
        try:
            line.setdefault("key", recorded_key(line["spec"], line["seed"]))
        except (TypeError, AttributeError, ValueError):
            line["key"] = "0" * 64
    body = b"".join(json.dumps(line).encode() + b"\n" for line in [{"bnlab_runs": 2, "runs": len(lines)}, *lines])
    file.write_bytes(body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")
    return file


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


CRAFTED = {
    "accuracy-above": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [1.0, 2.0, 150.0]}),
    "accuracy-below": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [1.0, 2.0, -50.0]}),
    "short": ("curves", {"train_loss": [1.0], "test_accuracy": [70.0]}),
    "long": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [70.0] * 9}),
    "text": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [1.0, 2.0, "70"]}),
    "bool": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [1.0, 2.0, True]}),
    "nan": ("curves", {"train_loss": [1.0, 1.0, float("nan")], "test_accuracy": [70.0] * 3}),
    "infinite": ("readings", {"test_accuracy_batch": float("inf")}),
    "no-curves": ("curves", {}),
    "no-accuracy": ("curves", {"train_loss": [1.0] * 3}),
    "curves-list": ("curves", []),
    "curve-name": ("curves", {"train_loss": [1.0] * 3, "test_accuracy": [70.0] * 3, "\x1b[31m": [1.0] * 3}),
    "seed-below": ("seed", -1),
    "seed-bool": ("seed", True),
    "seed-float": ("seed", 0.0),
    "seed-list": ("seed", [1]),
    "seed-text": ("seed", "x"),
    "seed-huge": ("seed", 2**70),
    "weights": ("weights", [1]),
    "weights-text": ("weights", "x" * 64),
    "diverged": ("diverged_at", "no"),
    "diverged-below": ("diverged_at", -1),
    "readings-list": ("readings", [1.0]),
    "readings-null": ("readings", None),
    "reading-above": ("readings", {"test_accuracy_batch": 100.5}),
    "provenance-list": ("provenance", [1]),
    "provenance-null": ("provenance", None),
    "provenance-deep": ("provenance", {"x": nested(40)}),
    "probes": ("probes", {"p": "x"}),
    "probes-list": ("probes", [1]),
    "spec-list": ("spec", []),
    "spec-null": ("spec", None),
}
SPECS = {
    "epochs-huge": ("epochs", 10**9),
    "epochs-bool": ("epochs", True),
    "batch-float": ("batch_size", 50.0),
    "data-number": ("data", 5),
    "data-forged": ("data", "x\n99 Runs finished"),
    "data-long": ("data", "x" * 10**5),
    "surrogate": ("data", "\ud800"),
    "standardize": ("standardize", 5),
    "nesterov": ("nesterov", "no"),
    "lr": ("lr", "fast"),
    "lr-nan": ("lr", float("nan")),
    "evaluations": ("evaluations", [5]),
    "evaluation-ansi": ("evaluations", ["\x1b[2J"]),
    "groups": ("groups", [{"parameters": 5}]),
    "group-fields": ("groups", [{"size": 5}]),
    "penalty": ("penalty", {"p": "x", "strength": 1}),
    "init": ("init", {"code": "a:b", "options": {"x": "\x1b[0m"}, "source": ""}),
    "norm-list": ("norm", []),
    "layer-list": ("norm", {"layer": [":"], "options": {}, "source": ""}),
    "layer-ansi": ("norm", {"layer": "a:b\x1b[31m", "options": {}, "source": ""}),
    "layer-source": ("norm", {"layer": "a:b", "options": {}, "source": "\x1b[31m"}),
    "norm-name": ("norm", {"layer": "a:b", "options": {}, "source": "", "name": "\x1b[31m"}),
    "option-list": ("norm", {"layer": "a:b", "options": {"x": [1]}, "source": ""}),
    "net-macs": ("net", {"build": "a:b", "options": {}, "source": "", "macs": "x"}),
    "net-text": ("net", "ResNet18"),
    "unknown": ("dropout", 0.5),
}


@pytest.mark.parametrize(
    ("in_spec", "field", "value"),
    [(False, *case) for case in CRAFTED.values()] + [(True, *case) for case in SPECS.values()],
    ids=[*CRAFTED, *(f"spec-{name}" for name in SPECS)],
)
def test_line_that_no_training_gave_is_refused(here, tmp_path, in_spec, field, value):
    line = sound()
    (line["spec"] if in_spec else line)[field] = value
    file = write(tmp_path / "runs.jsonl", sound() | {"seed": 7}, line)

    with pytest.raises(StoreError, match=r"a line that is no Run of this bnlab \(.*\): export it again") as caught:
        import_runs(file, here)

    assert str(caught.value).isprintable()
    assert list(here.runs()) == []


def test_line_that_a_training_gave_is_read(tmp_path):
    (read,) = read_runs(write(tmp_path / "runs.jsonl", sound()))
    assert read.curves["test_accuracy"][-1] == 70.0


@pytest.mark.parametrize("depth", [20, 500, 100_000])
def test_json_that_is_nested_too_deeply_is_refused(here, tmp_path, depth):
    """In a line, as a first line, and as the marker of a store or the description of a Run in progress."""
    deep = b"[" * depth + b"]" * depth
    with pytest.raises(ValueError, match="nested"):
        parse(deep)
    (tmp_path / "runs.jsonl").write_bytes(deep + b"\n")
    with pytest.raises(StoreError, match="is not a file of Runs"):
        read_runs(tmp_path / "runs.jsonl")
    with here.try_work(replicate()) as work:
        (here.work_folder(replicate()) / "history.json").write_bytes(deep)
        assert "damaged" in work.history[0]["note"]
    (here.work_folder(replicate()) / "spec.json").write_bytes(deep)
    assert here.progress() == []


def test_texts_of_provenance_are_made_printable(here, tmp_path):
    line = sound()
    line["provenance"] = {"device": "\x1b[31mred\ud800\n99 Runs finished", "\x07": ["\x00"]}
    import_runs(write(tmp_path / "runs.jsonl", line), here)

    (found,) = here.runs()
    assert found.provenance["device"] == "?[31mred??99 Runs finished"
    assert found.provenance["?"] == ["?"]
    assert plain_text("x" * 10**6) == "x" * 10_000


def test_file_with_a_run_twice_and_different_numbers_is_refused_whole(here, tmp_path):
    other = sound() | {"weights": "cd" * 32}
    with pytest.raises(StoreError, match="seed 0, twice with different numbers: export it again"):
        import_runs(write(tmp_path / "runs.jsonl", sound(), other), here)
    assert list(here.runs()) == list((here.path / "disagreements").iterdir()) == []


def test_run_that_is_in_a_file_twice_counts_once(here, tmp_path):
    assert import_runs(write(tmp_path / "runs.jsonl", sound(), sound()), here) == (1, 0)


def test_module_that_a_run_names_is_not_imported(here, tmp_path, monkeypatch):
    """Neither of a norm, nor of a probe, nor of any other part."""
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'evil')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    line = sound()
    evil = {"options": {}, "source": ""}
    line["spec"] |= {
        "norm": {"layer": "evil_module:Evil", **evil},
        "net": {"build": "evil_module:Evil", **evil},
        "init": {"code": "evil_module:Evil", **evil},
    }
    (imported,) = read_runs(write(tmp_path / "runs.jsonl", line))
    here.add(type(imported)(**{**vars(imported), "probes": {"evil_module:Evil": {"x": 0.5}}}))
    (stored,) = here.runs()
    assert "evil_module:Evil" in f"{stored.replicate} {list(stored.probes)}"
    export_runs(here.runs(), tmp_path / "again.jsonl")
    here.try_work(replicate(0, "evil_module:Evil")).__exit__()
    assert len(here.progress()) == 1

    assert not (tmp_path / "evil").exists()
    assert "evil_module" not in sys.modules


def test_import_writes_nothing_outside_the_store(here, tmp_path):
    names = ["../../../evil", "/tmp/evil", "..", "a/../../evil"]
    export_runs([run(probes={name: {"x": 0.5} for name in names})], tmp_path / "runs.jsonl")
    before = {path for path in tmp_path.rglob("*") if here.path not in path.parents}
    import_runs(tmp_path / "runs.jsonl", here)
    assert {path for path in tmp_path.rglob("*") if here.path not in path.parents} == before


def test_import_mends_a_damaged_run_and_overwrites_no_sound_one(here, file):
    here.add(run(2, provenance={"device": "mine"}))
    here.add(run(3))
    flip(folder_of(here, run(3)) / "curve.jsonl", 0)

    assert import_runs(file, here) == (3, 1)
    assert here.load(replicate(2)).provenance == {"device": "mine"}
    assert here.load(replicate(3)).provenance["imported"]["file"] == "runs.jsonl"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", ["curve.jsonl", "DONE.json"])
def test_what_is_no_plain_file_is_damage_and_nobody_waits_for_it(here, make, name):
    here.add(run())
    path = folder_of(here, run()) / name
    path.unlink()
    make(path)
    with pytest.raises(DamagedError, match="is no plain file"):
        here.load(replicate())


def test_pipe_in_the_place_of_marker_or_snapshot_is_not_waited_for(here):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")
    os.mkfifo(here.work_folder(replicate()) / "snapshot-00002")
    with here.try_work(replicate()) as work:
        assert work.snapshot() == b"state"
    (here.path / "bnlab-store.json").unlink()
    os.mkfifo(here.path / "bnlab-store.json")
    with pytest.raises(StoreError, match="is damaged"):
        Store.open(here.path)


def test_link_in_the_place_of_a_work_folder_is_refused_and_not_followed(here, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "snapshot-00001").write_text("thesis")
    here.work_folder(replicate()).symlink_to(tmp_path / "mine")
    with pytest.raises(StoreError, match="is a link and not a folder of this store: remove it"):
        here.try_work(replicate())
    assert here.try_work(replicate(1)) is not None
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["snapshot-00001"]


def test_stored_run_is_checked_like_an_imported_one(here):
    """A store that was poisoned names the Run and goes on."""
    here.add(run())
    folder = folder_of(here, run())
    result = json.loads((folder / "result.json").read_text()) | {"weights": [1]}
    (folder / "result.json").write_text(json.dumps(result))
    done = json.loads((folder / "DONE.json").read_text())
    done["files"]["result.json"] = hashlib.sha256((folder / "result.json").read_bytes()).hexdigest()
    (folder / "DONE.json").write_text(json.dumps(done))

    with pytest.raises(DamagedError, match=r"it has weights \[1\], expected a SHA-256"):
        here.load(replicate())


@pytest.mark.parametrize("history", [b"5", b"null", b"[5]", b"{}", b"\xff"])
def test_history_that_is_no_list_of_resumes_is_noted(here, history):
    with here.try_work(replicate()) as work:
        (here.work_folder(replicate()) / "history.json").write_bytes(history)
        assert work.history[0]["note"] == "the history before this was damaged"


def test_published_run_must_be_one_that_a_training_can_give(here):
    """An engine that skips epochs is noticed when it publishes, not when somebody judges."""
    curves = deepcopy(run().curves)
    with here.try_work(replicate()) as work, pytest.raises(StoreError, match="expected 3, one an epoch"):
        work.publish(run(curves={**curves, "test_accuracy": (70.0,)}))
    assert not here.has(replicate())


def test_file_that_is_too_large_is_refused_before_it_is_read(here, file, monkeypatch):
    monkeypatch.setattr(transfer, "_LARGEST_FILE", 100)
    monkeypatch.setattr(transfer, "parse", pytest.fail)

    with pytest.raises(StoreError, match="bytes, more than 100"):
        import_runs(file, here)


def test_file_of_a_run_that_is_too_large_is_damage(here, monkeypatch):
    here.add(run())
    monkeypatch.setattr(files, "LARGEST", 100)

    with pytest.raises(DamagedError, match="bytes, more than 100"):
        here.load(replicate())
