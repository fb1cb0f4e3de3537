"""A folder becomes a store, is one, or is refused and left alone."""

import errno
import os
import re
import shutil

import pytest

from bnlab.errors import StoreError
from bnlab.store import DamagedError, Store, durable, layout
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


def test_stray_file_of_a_killed_process_is_swept_too(here):
    (here.path / "tmp" / "old").touch()
    os.utime(here.path / "tmp" / "old", (0, 0))
    Store.open(here.path)
    assert list((here.path / "tmp").iterdir()) == []


@pytest.mark.parametrize("name", [".DS_Store", "lost+found"])
def test_what_a_system_puts_into_any_folder_is_no_reason_to_refuse_it(tmp_path, name):
    (tmp_path / name).touch()
    Store.open(tmp_path).add(run())
    assert Store.open(tmp_path).has(replicate())


def test_store_whose_marker_was_lost_is_a_store_again(here):
    here.add(run())
    (here.path / "bnlab-store.json").unlink()
    assert Store.open(here.path).load(replicate()).digest == run().digest


def test_store_that_was_deleted_while_somebody_had_a_lock_is_a_store_again(here):
    shutil.rmtree(here.path)
    (here.path / "locks").mkdir(parents=True)
    assert not Store.open(here.path).has(replicate())


def test_folder_of_the_store_on_another_file_system_is_refused_before_anything_trains(here, monkeypatch):
    real = os.stat

    def stat(path, **options):
        found = real(path, **options)
        if str(path).endswith("/tmp"):
            found = os.stat_result((*found[:2], found.st_dev + 1, *found[3:]))
        return found

    monkeypatch.setattr(layout.os, "stat", stat)
    with pytest.raises(StoreError, match=r"store/tmp lies on another file system than .*: keep a store on one"):
        Store.open(here.path)


# stores that are only read


def test_store_that_is_only_read_is_not_written_to(here):
    here.add(run())
    shutil.rmtree(here.path / "tmp")
    (here.path / "locks").rmdir()
    before = contents(here.path), sorted(here.path.iterdir())

    reading = Store.read(here.path)

    assert reading.load(replicate()).digest == run().digest
    assert [found.seed for found in reading.runs()] == [0]
    assert reading.progress() == []
    assert (contents(here.path), sorted(here.path.iterdir())) == before


@pytest.mark.parametrize("path", ["none", "file", "empty"])
def test_only_a_store_that_is_there_is_read(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"there is no store in .*: name the folder of one with --store"):
        Store.read(tmp_path / path)
    assert list((tmp_path / "empty").iterdir()) == []


# what the disk refuses


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "make room there and run again"),
        (errno.EACCES, "get the right to do so and run again"),
        (errno.EIO, "check that disk and its mount and run again"),
        (errno.ESTALE, "check that disk and its mount and run again"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n) and run again"),
        (errno.ENOLCK, "use a file system with locks (flock) and run again"),
        (errno.EBUSY, "run again"),
    ],
    ids=lambda value: errno.errorcode.get(value) if isinstance(value, int) else "",
)
def test_remedy_fits_what_the_disk_said(here, monkeypatch, code, remedy):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(durable.os, "stat", refuse)
    words = f"cannot look for the Run {run().key[:12]} in the store {here.path} ({os.strerror(code)}): {remedy}"
    with pytest.raises(StoreError, match=re.escape(words)):
        here.has(replicate())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_run_that_could_not_be_read_is_not_called_damaged(here, monkeypatch, code):
    """Its GPU hours are worth more than the advice to delete it."""
    here.add(run())

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "open", refuse)
        with pytest.raises(StoreError, match=rf"cannot read the Run in .* \({os.strerror(code)}\): ") as caught:
            here.load(replicate())
        assert not isinstance(caught.value, DamagedError)
    assert here.load(replicate()).digest == run().digest


def test_folder_of_runs_that_cannot_be_listed_is_an_error_and_not_empty(here, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(layout.os, "listdir", refuse)
    with pytest.raises(StoreError, match=r"cannot list the Runs of the store .* \(Permission denied\)"):
        list(here.runs())
    with pytest.raises(StoreError, match=r"cannot look at the Runs in progress .* \(Permission denied\)"):
        here.progress()


def test_lock_of_another_user_is_named_and_stops_no_look_at_the_progress(here, monkeypatch):
    with here.try_work(replicate()) as work:
        work.save_snapshot(1, b"state")

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(layout.FileLock, "acquire", refuse)
    with pytest.raises(StoreError, match=r"cannot lock .* \(Permission denied\): get the right"):
        here.try_work(replicate())
    with pytest.raises(StoreError, match="cannot lock"):
        here.locked(replicate())
    assert [(progress.locked, progress.epoch) for progress in here.progress()] == [(None, 1)]
