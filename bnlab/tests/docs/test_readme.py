"""What the README shows works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bnlab.cli import COMMANDS

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_claim_on_the_first_screen_is_the_one_in_hypotheses():
    first, *_ = BLOCKS

    assert first.strip() in (ROOT / "hypotheses" / "test_4_1_1_resnet18.py").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_claim_and_a_custom_norm_run_as_shown(tmp_path):
    (claim,) = [block for block in BLOCKS if "my notes, page 3" in block]
    (norm,) = [block for block in BLOCKS if "class RMSNorm2d" in block]
    (comparison,) = [block for block in BLOCKS if "my notes, page 4" in block]
    (tmp_path / "hypotheses").mkdir()
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text((ROOT / "pytest.ini").read_text())
    (tmp_path / "my_norms.py").write_text(norm)
    (tmp_path / "hypotheses" / "test_mine.py").write_text(claim)
    (tmp_path / "hypotheses" / "test_norm.py").write_text(comparison)

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "hypotheses", "--smoke", "-q"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 exercised" in ran.stdout


def test_commands_of_the_readme_exist():
    named = set(re.findall(r"python -m bnlab (\w+)", README)) | set(re.findall(r"`(import) FILE`", README))

    assert named <= set(COMMANDS)
    assert {"status", "export", "import", "bench"} <= named
