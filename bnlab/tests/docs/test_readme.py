"""What the README shows works as it stands there."""

import re
from pathlib import Path

import pytest

from bnlab.cli import COMMANDS
from bnlab.tests.docs.conftest import Shell

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_the_claim_on_the_first_screen_is_the_one_in_hypotheses():
    first, *_ = BLOCKS

    assert first.strip() in (ROOT / "hypotheses" / "test_4_1_1_resnet18.py").read_text(encoding="utf-8")


SWAP, SET = "--swap BatchNorm-minus=my_norms:RMSNorm2d", "--set optimizer=sgd schedule=cosine"

RECIPES = {
    "pytest hypotheses/ -k mine": "2 exercised",
    "pytest -p bnlab.plugin my_claims": "2 exercised",
    f"pytest hypotheses/ {SWAP} -k 'test_4_1_1 and matches'": "1 exercised",
    f"pytest hypotheses/ {SET} -k 'test_4_1_1 and matches'": "1 exercised",
}
"""What a reader does with a claim, a norm and a recipe of their own, and what pytest then counts."""


@pytest.mark.slow
@pytest.mark.parametrize("command", RECIPES)
def test_a_recipe_runs_as_shown(command: str, checkout: Path, shell: Shell) -> None:
    own = [block for block in BLOCKS if "my notes" in block]
    for folder in ("hypotheses", "my_claims"):
        (checkout / folder).mkdir(exist_ok=True)
        for i, block in enumerate(own):
            (checkout / folder / f"test_mine_{i}.py").write_text(block)
    if command.startswith("pytest -p"):
        for name in ("conftest.py", "pytest.ini"):
            (checkout / name).unlink()

    ran = shell(f"{command} --smoke -q")

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert RECIPES[command] in ran.stdout
    (report,) = (checkout / "reports").glob("smoke*/report.html")
    changed = "Not the paper&#39;s claims" in report.read_text(encoding="utf-8")
    assert changed == ("--s" in command)


@pytest.mark.slow
def test_the_reports_of_what_is_recorded_are_small_and_the_same_bytes_again(checkout: Path, shell: Shell) -> None:
    names, written = ["report.html", "claims.json", "claims.csv", "runs.csv"], []
    for _ in range(2):
        ran = shell("python -m bnlab report")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        written.append([(checkout / "reports" / name).read_bytes() for name in names])

    assert written[0] == written[1]
    assert 300_000 < len(written[0][0]) < 1e6


def test_commands_of_the_readme_exist():
    named = set(re.findall(r"python -m bnlab (\w+)", README)) | set(re.findall(r"`(import) FILE`", README))

    assert named <= set(COMMANDS)
    assert {"status", "export", "import", "bench"} <= named
