"""A checkout to try the pages in."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bnlab.store import Store
from bnlab.store.transfer import import_runs
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.docs.pages import blocks

Shell = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def checkout(tmp_path: Path, no_flushing: None) -> Path:
    """A copy of this checkout without the package: claims, recorded Runs, a small store and the norm of the README."""
    for name in ("hypotheses", "reports/runs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (norm,) = [block.text for block in blocks(REPOSITORY / "README.md") if "class RMSNorm2d" in block.text]
    (tmp_path / "my_norms.py").write_text(norm, encoding="utf-8")
    few = REPOSITORY / "reports" / "runs" / "quick-resnet18-batch50-cpu.jsonl"
    import_runs(few, Store.open(tmp_path / ".bnlab" / "store"))
    return tmp_path


@pytest.fixture
def shell(checkout: Path) -> Shell:
    """Runs a command as it is printed, in the checkout and in an activated environment, without a GPU."""
    tools = checkout / ".tools"
    tools.mkdir()
    for name, runs in {"python": "", "pytest": "-m pytest", "bnlab": "-m bnlab"}.items():
        (tools / name).write_text(f'#!/bin/sh\nexec {sys.executable} {runs} "$@"\n')
        (tools / name).chmod(0o755)
    own = {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    environment = os.environ | own | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, shell=True, cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )

    return run
