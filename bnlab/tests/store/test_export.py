"""An export replaces nothing that it should not."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from bnlab.errors import StoreError
from bnlab.store.transfer import export_runs, read_runs
from bnlab.tests.store.runs import run


def test_link_is_followed_and_stays(tmp_path):
    (tmp_path / "runs.jsonl").symlink_to("elsewhere.jsonl")
    export_runs([run()], tmp_path / "runs.jsonl")
    export_runs([run(), run(1)], tmp_path / "runs.jsonl")

    assert (tmp_path / "runs.jsonl").is_symlink()
    assert len(read_runs(tmp_path / "elsewhere.jsonl")) == 2


def test_pipe_is_written_to_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    export_runs([run()], tmp_path / "pipe")
    reader.join()

    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert json.loads(got[0].splitlines()[0]) == {"bnlab_runs": 2, "runs": 1}


def test_device_stays_a_device():
    export_runs([run()], Path(os.devnull))
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("def important(): ...\n", "is not a file of Runs"),
        ('{"bnlab_store": 2}\n', "is not a file of Runs"),
        ('{"bnlab_runs": 2, "runs": 1}\n{"cut', "is damaged or cut short"),
    ],
    ids=["source", "marker", "damaged"],
)
def test_file_that_is_no_export_is_refused_and_stays(tmp_path, content, words):
    (tmp_path / "file").write_text(content)
    with pytest.raises(StoreError, match=words):
        export_runs([run()], tmp_path / "file")
    assert (tmp_path / "file").read_text() == content


@pytest.mark.parametrize("runs", [[], [run(1), run(2)]], ids=["none", "others"])
def test_export_that_would_lose_runs_is_refused_and_the_file_stays(file, runs):
    before = file.read_bytes()
    lost = 4 - len(runs)
    words = f"holds {lost} Runs that are not among these {len(runs)} and would be lost: name another"
    with pytest.raises(StoreError, match=words):
        export_runs(runs, file)
    assert file.read_bytes() == before


def test_export_with_more_runs_replaces_a_file_and_keeps_its_permissions(file):
    file.chmod(0o600)
    assert export_runs([run(seed) for seed in range(6)], file) == 6
    assert (len(read_runs(file)), stat.S_IMODE(file.stat().st_mode)) == (6, 0o600)


def test_empty_file_is_written(tmp_path):
    (tmp_path / "file").touch()
    assert export_runs([run()], tmp_path / "file") == 1


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_folder_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"is a folder: name a file to write the Runs to"):
        export_runs([run()], Path(name))
