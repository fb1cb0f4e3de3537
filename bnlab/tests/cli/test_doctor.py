"""python -m bnlab doctor: every fault of a machine is one line that says what to do."""

import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from bnlab import devices
from bnlab.cli import doctor, main
from bnlab.settings import Settings
from bnlab.store import Store
from bnlab.tests.plugin.claims_folder import HELD, make

pytest_plugins = ["pytester"]

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: Patch, no_gpu: None) -> None:
    monkeypatch.chdir(tmp_path)


def lines(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What each check says."""
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


@pytest.mark.usefixtures("outside")
def test_a_sound_checkout_is_ok_in_every_line_and_nothing_is_written(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    before = sorted(pytester.path.rglob("*.json*"))

    told = pytester.run(sys.executable, "-m", "bnlab", "doctor")

    said = dict(line.split(": ", 1) for line in told.outlines)
    assert {name: text for name, text in said.items() if not text.startswith("ok, ")} == {}
    assert list(said) == [*doctor.CHECKS, "protocol paper", "protocol quick"]
    assert "1 claim, 8 of 8 Runs to train, about" in said["protocol quick"]
    assert (told.ret, told.errlines) == (0, [])
    assert sorted(pytester.path.rglob("*.json*")) == before
    assert not (pytester.path / ".bnlab").exists()


def an_old(package: str, found: str) -> Callable[[Patch], None]:
    known = doctor.version
    return lambda patch: patch.setattr(doctor, "version", lambda name: found if name == package else known(name))


def no_package(patch: Patch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    patch.setattr(doctor, "version", missing)


def no_bnlab(patch: Patch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    patch.setattr(doctor, "metadata", missing)


def another_torchvision(patch: Patch) -> None:
    known = doctor.requires
    patch.setattr(doctor, "requires", lambda name: ["torch==1.0"] if name == "torchvision" else known(name))


def useless_gpu(patch: Patch) -> None:
    def refuse(device: str) -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    patch.setattr(devices, "cuda_devices", lambda: 1)
    patch.setattr("bnlab.engine.environment", refuse)


def no_compiler(patch: Patch) -> None:
    useless_gpu(patch)
    patch.delenv("CC", raising=False)
    patch.setattr(shutil, "which", lambda name: None)


def foreign_store(patch: Patch) -> None:
    Path(".bnlab/store/photos").mkdir(parents=True)


def full_disk(patch: Patch) -> None:
    usage = namedtuple("usage", "total used free")
    patch.setattr(shutil, "disk_usage", lambda path: usage(9e9, 8.9e9, 1e8))


def store_that_takes_nothing(patch: Patch) -> None:
    Path(".bnlab").touch()


def damaged_record(patch: Patch) -> None:
    Path("reports/runs").mkdir(parents=True)
    Path("reports/runs/mine.jsonl").write_text("{}")


def fault_of_the_doctor(patch: Patch) -> None:
    def fail(asked: Settings) -> str:
        raise KeyError("x")

    patch.setitem(doctor.CHECKS, "images", fail)


FAULTS = {
    "old Python": (
        lambda patch: patch.setattr("platform.python_version", lambda: "3.9.1"),
        "Python",
        "3.9.1 is installed",
    ),
    "old torchvision": (an_old("torchvision", "0.1"), "torch", "torchvision 0.1 is installed, and >="),
    "torch of another torchvision": (another_torchvision, "torch", "and ==1.0 is needed: run python -m pip install"),
    "old plugin": (an_old("pytest-xdist", "1.0"), "packages", "pytest-xdist 1.0 is installed"),
    "no package": (no_package, "packages", "numpy is not installed: run python -m pip install"),
    "not installed": (no_bnlab, "Python", "bnlab is not installed here: run python -m pip install"),
    "no plugins": (lambda patch: patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"), "packages", "unset it"),
    "useless GPU": (useless_gpu, "device", "cannot use it (Torch not compiled with CUDA enabled): install a torch"),
    "no compiler": (no_compiler, "C compiler", "finds no C compiler (gcc or clang): install gcc"),
    "foreign store": (foreign_store, "store", "there is no store in"),
    "unwritable store": (store_that_takes_nothing, "store", "name another folder with --store"),
    "full disk": (full_disk, "store", "0.1 GB free and one Run of ResNet101 takes 1.0 GB"),
    "damaged record": (damaged_record, "recorded Runs", "mine.jsonl is not a file of Runs"),
    "fault of the doctor": (fault_of_the_doctor, "images", "this check failed (KeyError: 'x')"),
    "no claims": (lambda patch: None, "protocol paper", "there is no hypotheses/ in"),
}
"""What is broken, the check that finds it, and what it says."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_the_other_checks_go_on(
    fault: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, check, words = FAULTS[fault]
    broken(monkeypatch)

    assert main(["doctor"]) == 1

    said = lines(capsys)
    assert words in said[check]
    assert not said[check].startswith("ok")
    assert list(said) == [*doctor.CHECKS, "protocol paper", "protocol quick"]


def test_images_that_cannot_be_read_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data", "nowhere.npz"]) == 1

    assert "there is no file nowhere.npz" in lines(capsys)["images"]


def test_a_store_that_is_there_is_read_and_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Store.open("mine")
    before = sorted(Path().rglob("*"))

    main(["doctor", "--store", "mine"])

    assert lines(capsys)["store"].startswith(f"ok, {Path('mine').absolute()} is there")
    assert sorted(Path().rglob("*")) == before
