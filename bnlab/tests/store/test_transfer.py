"""Runs travel between stores in one file that proves itself whole."""

import hashlib
import json
from dataclasses import replace

import pytest

from bnlab.errors import StoreError
from bnlab.specs import recorded_key
from bnlab.store.transfer import export_runs, import_runs, read_runs
from bnlab.tests.store.runs import SPEC, replicate, run


def test_exported_runs_are_imported_bit_for_bit(file, here):

    assert import_runs(file, here) == (4, 0)

    for seed in range(4):
        assert here.load(replicate(seed)).digest == run(seed).digest
        imported = dict(here.load(replicate(seed)).provenance)
        assert imported.pop("imported")["file"] == "runs.jsonl"
        assert imported == run(seed).provenance


def test_known_runs_are_skipped(file, here):
    here.add(run(2, provenance={"device": "mine"}))

    assert import_runs(file, here) == (3, 1)
    assert import_runs(file, here) == (0, 4)
    assert here.load(replicate(2)).provenance == {"device": "mine"}


def test_same_runs_make_the_same_bytes(file, here, tmp_path):
    for seed in range(4):
        here.add(run(seed))

    assert export_runs(reversed(list(here.runs())), tmp_path / "again.jsonl") == 4
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_file_is_json_lines_with_a_header_and_a_checksum_that_sha256sum_gives(file):
    *body, last = file.read_bytes().splitlines(keepends=True)

    assert json.loads(body[0]) == {"bnlab_runs": 2, "runs": 4}
    assert [json.loads(line)["key"] for line in body[1:]] == sorted(run(seed).key for seed in range(4))
    assert json.loads(last) == {"sha256": hashlib.sha256(b"".join(body)).hexdigest()}


def test_no_runs_are_a_file_too(tmp_path):
    assert export_runs([], tmp_path / "none.jsonl") == 0
    assert read_runs(tmp_path / "none.jsonl") == ()


def test_run_that_disagrees_with_the_store_is_named_and_nothing_is_imported(file, here):
    here.add(run(3, loss=0.2))

    with pytest.raises(
        StoreError, match=f"ResNet18, BatchNorm, .* seed 3 \\(Run {run(3).key[:12]}\\), has other numbers"
    ):
        import_runs(file, here)
    assert [found.seed for found in here.runs()] == [3]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: data[:-20], "damaged or cut short"),
        (lambda data: data[: len(data) // 2], "damaged or cut short"),
        (lambda data: b"".join(data.splitlines(keepends=True)[:-1]), "damaged or cut short"),
        (lambda data: data.replace(b"72.25", b"72.26", 1), "damaged or cut short"),
        (lambda data: data.replace(b"\n", b"\r\n"), "damaged or cut short"),
        (lambda data: data + data, "damaged or cut short"),
        (lambda data: data.splitlines(keepends=True)[0], "damaged or cut short"),
        (lambda data: b"", "is not a file of Runs"),
        (lambda data: b"\x80\x04pickle", "is not a file of Runs"),
        (lambda data: b"[1]\n", "is not a file of Runs"),
        (
            lambda data: data.replace(b'"bnlab_runs":2', b'"bnlab_runs":3'),
            "has format '3' and this bnlab reads",
        ),
    ],
    ids=["tail", "half", "no-checksum", "changed", "crlf", "twice", "header", "empty", "binary", "list", "newer"],
)
def test_file_that_is_not_whole_is_refused(file, here, spoil, words):
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(StoreError, match=words):
        import_runs(file, here)
    assert list(here.runs()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda head, one, *rest: [head, {**one, "key": "0" * 64}, *rest], "seed 1, whose key is not 000000000000"),
        (
            lambda head, one, *rest: [head, {**one, "seed": 9}, *rest],
            "seed 9, whose key is not ",
        ),
        (
            lambda head, one, *rest: [head, {**one, "spec": {**one["spec"], "dropout": 1}}, *rest],
            "a line that is no Run",
        ),
        (lambda head, one, *rest: [head, {"key": one["key"]}, *rest], "a line that is no Run"),
        (lambda head, one, *rest: [head, [], *rest], "a line that is no Run"),
        (lambda head, *rest: [{**head, "runs": 5}, *rest], "damaged or cut short"),
    ],
    ids=["key", "seed", "field", "empty", "list", "count"],
)
def test_checksummed_line_that_is_no_run_of_this_version_is_refused(file, rewrite, change, words):
    rewrite(file, lambda lines: change(*lines))
    with pytest.raises(StoreError, match=words):
        read_runs(file)


def test_missing_file_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match=r"cannot read .*none.jsonl \(No such file or directory\): name a file"):
        read_runs(tmp_path / "none.jsonl")


def test_unwritable_file_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write the Runs to .* \(.*\): name another file"):
        export_runs([run()], tmp_path / "file" / "runs.jsonl")


def test_other_spec_is_another_run(tmp_path):
    runs = [run(), run(spec=replace(SPEC, lr=2e-3))]
    assert export_runs(runs, tmp_path / "runs.jsonl") == 2
    assert {found.spec.lr for found in read_runs(tmp_path / "runs.jsonl")} == {1e-3, 2e-3}


def test_runs_recorded_before_a_field_existed_are_read_with_its_default(file, rewrite):
    def earlier(lines):
        for line in lines[1:]:
            del line["spec"]["engine"]
            line["key"] = recorded_key(line["spec"], line["seed"])
        return lines

    rewrite(file, earlier)

    assert {read.key for read in read_runs(file)} == {run(seed).key for seed in range(4)}
