"""Runs of record 1, in files and in stores of layout 1, are read with today's keys and the digests that they had.

`record_1.jsonl` was exported by the last version of record 1: a Run of each norm, and of everything else that a
RunSpec could say then.
"""

import hashlib
import json
from pathlib import Path

import pytest

from bnlab.errors import StoreError
from bnlab.parts import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Norm,
    ResNet,
)
from bnlab.specs import RunSpec
from bnlab.store import DamagedError, Store
from bnlab.store.transfer import export_runs, import_runs, read_runs
from bnlab.tests.store.runs import contents, flip, run

FILE = Path(__file__).with_name("record_1.jsonl")
LINES = [json.loads(line) for line in FILE.read_bytes().splitlines()[1:-1]]


def spec(norm, net=None, **fields):
    return RunSpec(net=net or ResNet(18), norm=norm, batch_size=50, epochs=2, data=LINES[0]["spec"]["data"], **fields)


SPECS = [
    spec(BATCHNORM),
    spec(BATCHNORM_MINUS),
    spec(GAMMA_ONLY),
    spec(BETA_ONLY),
    spec(AFFINE_LAYER),
    spec(AFFINE_PER_LAYER),
    spec(NONE),
    spec(NONE, net=ResNet(18, conv_bias=True)),
    spec(Norm(layer="my_norms:RMSNorm2d")),
    spec(
        BATCHNORM,
        net=ResNet(50),
        optimizer="sgd",
        momentum=0.9,
        lr=0.1,
        weight_decay=5e-4,
        schedule="cosine",
        augmentation="flip+crop",
        precision="fp32",
    ),
    spec(BATCHNORM, engine="eager"),
]


def digest_then(line):
    """The digest of a Run of record 1, from its line; what a probe read was among the readings and is not counted."""
    readings = {name: value for name, value in line["readings"].items() if not name.startswith("gradient_spread/")}
    numbers = {name: line[name] for name in ("curves", "weights", "diverged_at")} | {"readings": readings}
    return sha256(json.dumps(numbers, sort_keys=True))


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def old_store(folder, lines=LINES):
    """A store of layout 1, as the last version of record 1 wrote it."""
    Store.open(folder)
    (folder / "bnlab-store.json").write_text('{"bnlab_store": 1}\n')
    for line in lines:
        place = folder / "runs" / line["key"][:2] / line["key"]
        place.mkdir(parents=True)
        curves = line["curves"]
        numbers = {name: line[name] for name in ("curves", "weights", "diverged_at", "readings")}
        files = {
            "spec.json": [{"record": 1, "spec": line["spec"], "seed": line["seed"]}],
            "env.json": [line["provenance"]],
            "curve.jsonl": [{"epoch": i + 1, **{name: curves[name][i] for name in curves}} for i in range(2)],
            "readings.json": [line["readings"]],
            "result.json": [
                {
                    "curves": list(curves),
                    "weights": line["weights"],
                    "diverged_at": line["diverged_at"],
                    "digest": sha256(json.dumps(numbers, sort_keys=True)),
                }
            ],
        }
        written = {
            name: "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows) for name, rows in files.items()
        }
        done = {"files": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in written.items()}}
        for name, text in {**written, "DONE.json": json.dumps(done)}.items():
            (place / name).write_text(text)
    return Store.open(folder)


def test_file_of_record_1_is_read_with_todays_specs_and_the_digests_of_then():
    runs = {run.digest: run for run in read_runs(FILE)}

    assert set(runs) == {digest_then(line) for line in LINES}
    assert {run.spec for run in runs.values()} == set(SPECS)
    assert len(runs) == len(LINES) == 12
    assert not {run.key for run in runs.values()} & {line["key"] for line in LINES}
    assert sorted(run.seed for run in runs.values()) == sorted(line["seed"] for line in LINES)


def test_what_a_probe_read_at_record_1_is_taken_out_of_the_readings():
    """So that the Run is the one that was trained without the probe."""
    probed, plain = sorted((run for run in read_runs(FILE) if run.spec == spec(NONE)), key=lambda run: run.seed)[::-1]
    assert probed.probes == {"gradient_spread": {"input/early": 0.25, "input/late": 0.125}}
    assert probed.readings == plain.readings == {}


@pytest.mark.parametrize("field", ["lr", "data"])
def test_key_of_record_1_is_checked_on_the_fields_of_record_1(tmp_path, rewrite, field):
    file = tmp_path / "runs.jsonl"
    file.write_bytes(FILE.read_bytes())

    def change(lines):
        lines[1]["spec"][field] = {"lr": 0.5, "data": "f" * 64}[field]
        return lines

    rewrite(file, change)
    with pytest.raises(StoreError, match="whose key is not"):
        read_runs(file)


def test_rewritten_file_holds_the_same_runs_under_todays_keys(tmp_path):
    """Writing over a file of record 1 loses none of its Runs, so it is allowed."""
    file = tmp_path / "runs.jsonl"
    file.write_bytes(FILE.read_bytes())
    then = read_runs(file)

    export_runs(then, file)

    assert {run.key: run.digest for run in read_runs(file)} == {run.key: run.digest for run in then}
    assert json.loads(file.read_bytes().splitlines()[0])["bnlab_runs"] == 2


def test_store_of_layout_1_has_its_runs_under_todays_keys_and_is_not_rewritten(tmp_path):
    store = old_store(tmp_path / "store")
    before = contents(store.path)

    for known in read_runs(FILE):
        assert store.has(known.replicate) == (not known.probes)
        assert store.load(type(known.replicate)(known.spec, known.seed)).digest == known.digest
    assert {found.digest for found in store.runs()} == {digest_then(line) for line in LINES}
    assert contents(store.path) == before
    assert {found.digest for found in Store.read(store.path).runs()} == {digest_then(line) for line in LINES}


def test_new_runs_lie_beside_those_of_record_1(tmp_path):
    store = old_store(tmp_path / "store", LINES[:2])
    store.add(run())
    known = next(found for found in read_runs(FILE) if found.digest == digest_then(LINES[0]))

    assert store.add(known) == (known, None)
    assert import_runs(FILE, store) == (len(LINES) - 2, 2)
    assert len(list(store.runs())) == len(LINES) + 1
    assert len(list((store.path / "runs").glob("*/*"))) == len(LINES) + 1


def test_probe_is_added_to_a_run_of_record_1(tmp_path):
    store = old_store(tmp_path / "store", LINES[:1])
    (known,) = store.runs()

    with store.try_work(type(known.replicate)(known.spec, known.seed, ("p",))) as work:
        work.publish(type(known)(**{**vars(known), "probes": {"p": {"x": 0.5}}}))

    (found,) = store.runs()
    assert (found.digest, found.probes) == (known.digest, {"p": {"x": 0.5}})


def test_damaged_run_of_record_1_is_set_aside(tmp_path):
    store = old_store(tmp_path / "store", LINES[:1])
    (known,) = store.runs()
    flip(store.path / "runs" / LINES[0]["key"][:2] / LINES[0]["key"] / "curve.jsonl", 9)

    with pytest.raises(DamagedError):
        store.load(known.replicate)
    assert "was moved to" in store.set_aside(known.replicate)
    assert not store.has(known.replicate)
    assert not Store.open(store.path).has(known.replicate)


def test_new_store_looks_for_no_runs_of_record_1(tmp_path):
    """So that opening a large store costs nothing."""
    assert json.loads((Store.open(tmp_path / "new").path / "bnlab-store.json").read_text()) == {"bnlab_store": 2}
