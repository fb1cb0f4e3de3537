"""A folder becomes a store, is one, or is refused and left alone."""

import errno
import os

import pytest

from bnlab.errors import StoreError
from bnlab.store import Store, layout
from bnlab.tests.store.runs import contents, replicate, run


def test_opening_again_changes_nothing(here):
    here.add(run())
    before = contents(here.path)
    Store.open(here.path)
    assert contents(here.path) == before


def test_empty_folder_becomes_a_store(tmp_path):
    (tmp_path / "new").mkdir()
    Store.open(str(tmp_path / "new")).add(run())
    assert Store.open(tmp_path / "new").has(replicate())


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match=r"holds 'thesis.tex' and is not a store of bnlab: name a new folder"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ('{"bnlab_store": 3}', "is a store of layout 3 and this bnlab knows layout 2: update bnlab"),
        ('{"bnlab_sto', r"bnlab-store.json is damaged \(.*\): write \{\"bnlab_store\": 2\} into it"),
        ('{"bnlab_store": "2"}', r"is damaged \(its layout is '2'\)"),
        ("[" * 9999, r"is damaged \(JSON that is nested too deeply"),
        ("[]", "is damaged"),
    ],
    ids=["newer", "cut", "text", "deep", "list"],
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

    monkeypatch.setattr(layout.tempfile, "TemporaryFile", refuse)
    with pytest.raises(StoreError, match=r"cannot use .* \(Read-only file system\): name a place that can be written"):
        Store.open(here.path)


def test_leftovers_of_killed_processes_are_swept_after_a_day(here):
    for name, age in {"old": 2 * 24 * 3600, "young": 60}.items():
        (here.path / "tmp" / name).mkdir()
        then = (here.path / "tmp" / name).stat().st_mtime - age
        os.utime(here.path / "tmp" / name, (then, then))
    Store.open(here.path)
    assert [path.name for path in (here.path / "tmp").iterdir()] == ["young"]
