"""Processes beside a command: those of further GPUs, and a reader that goes away."""

import subprocess
import sys
from pathlib import Path

import pytest

from bnlab import devices
from bnlab.cli import train
from bnlab.store import Store
from bnlab.tests.store.runs import run


@pytest.mark.parametrize(("device", "numbers"), [("cuda", [1, 2]), ("cuda:1", []), ("cpu", [])])
def test_train_has_a_process_for_each_gpu_unless_one_was_named(
    device: str, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: 3)

    commands = train.further(["train", "--seeds", "4"], device)

    assert [command[1:5] for command in commands] == [["-m", "bnlab", "train", "--seeds"]] * len(numbers)
    assert [command[-2:] for command in commands] == [["--device", f"cuda:{number}"] for number in numbers]


@pytest.mark.usefixtures("outside")
def test_command_whose_reader_has_gone_ends_without_a_traceback(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").add(run())
    command = f"set -o pipefail; {sys.executable} -m bnlab status --store {tmp_path}/store | head -c 0"

    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True)

    assert (done.returncode, done.stderr) == (141, b"")
