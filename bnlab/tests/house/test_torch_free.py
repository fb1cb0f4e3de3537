"""Claims are collected, planned and judged from recorded Runs without importing torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from bnlab.lab import Lab
from bnlab.parts import BATCHNORM, NONE, ResNet
from bnlab.protocol import PAPER
from bnlab.specs import CIFAR10, RunSpec
from bnlab.store import Store
from bnlab.store.transfer import export_runs
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.house.test_imports import MODULES, WITH_TORCH
from bnlab.tests.plugin.claims_folder import HEAD, HELD

CONFTEST = """
import sys
pytest_plugins = ["bnlab.plugin"]
def pytest_unconfigure():
    print("torch was imported" if "torch" in sys.modules else "torch was not imported")
"""

FREE = sorted(
    ".".join(module.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for room, paths in MODULES.items()
    for module in paths
    if room not in (*WITH_TORCH, "__main__")
)


def python(folder: Path, *arguments: str) -> str:
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_importing_imports_neither_torch_nor_what_takes_as_long(tmp_path: Path) -> None:
    assert {"bnlab.lab", "bnlab.plugin.session", "bnlab.cli.bench", "bnlab.store"} <= set(FREE)
    imports = f"import sys, {', '.join(FREE)}, bnlab.data.sources; print({{'torch', 'scipy.stats'}} & set(sys.modules))"

    assert python(tmp_path, "-c", imports) == "set()\n"


@pytest.mark.parametrize("arguments", [["--collect-only", "-q"], ["--plan"], ["-v"]], ids=["collect", "plan", "judge"])
def test_sessions_without_training_import_no_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "hypotheses").mkdir()
    (tmp_path / "hypotheses" / "test_paper.py").write_text(HEAD + HELD)
    trainer = FakeTrainer(tmp_path / "log")
    lab = Lab(
        store=Store.open(tmp_path / "there"),
        protocol=PAPER,
        data=CIFAR10,
        seeds=4,
        trainer=lambda: trainer,
    )
    for norm in (BATCHNORM, NONE):
        lab.train(RunSpec(net=ResNet(18), norm=norm, batch_size=50))
    (tmp_path / "reports" / "runs").mkdir(parents=True)
    export_runs(lab.store.runs(), tmp_path / "reports" / "runs" / "there.jsonl")

    said = python(tmp_path, "-m", "pytest", "hypotheses", "-p", "no:cacheprovider", *arguments)

    assert "test_held" in said or "8 finished" in said
    assert ("HELD" in said) == (arguments == ["-v"])
    assert "torch was not imported" in said
