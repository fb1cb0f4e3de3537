"""Every command of README, CONTRIBUTING and docs/ runs as it is printed, or at least is one that exists."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.cli import COMMANDS, main
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.docs.conftest import Shell
from bnlab.tests.docs.pages import PAGES, blocks, commands

(SHOWN,) = [block.text for block in blocks(REPOSITORY / "README.md") if not block.language]
"""What the README says that a command prints."""

RUN = {
    "pytest hypotheses/ --collect-only -q": (0, "tests collected"),
    "pytest hypotheses/ --plan": (0, "plan for the first look (4 seeds)"),
    'pytest hypotheses/ --protocol quick --no-train -k "test_4_1_1 and matches"': (0, SHOWN),
    "python -m bnlab status": (0, "16 Runs finished, 0 in training, 0 interrupted"),
    "python -m bnlab doctor": (0, "recorded Runs: ok"),
    "python -m bnlab watch": (0, "nothing trains now"),
    "python -m bnlab export FILE": (0, "16 Runs written to FILE"),
    "python -m bnlab import reports/runs/quick-resnet18-batch20-cpu.jsonl": (0, "16 Runs imported"),
    "python -m bnlab bench --model h200 --grid": (0, "min of steps by this model"),
}
"""Its exit code, and what it prints among other things."""

RUN_SLOWLY = {
    "pytest hypotheses/ --protocol quick --no-train": (11, "report: reports/quick/report.html"),
    "pytest hypotheses/ -k 2_4": (11, "report: reports/report.html"),
    "python -m bnlab calibrate --suites 400": (0, "400 suites per truth"),
}
"""The same, of those that take more than some seconds."""

TRAINS = [
    "pytest hypotheses/",
    "pytest hypotheses/ -n auto",
    "python -m pytest hypotheses/ -n 4",
    "python -m pytest hypotheses/ --smoke -n 2",
    "pytest hypotheses/ --smoke -n 2",
    "pytest hypotheses/ --swap BatchNorm-minus=my_norms:RMSNorm2d",
    "pytest hypotheses/ --set optimizer=sgd schedule=cosine",
    "pytest hypotheses/ --protocol quick --device cpu -k resnet18",
    "pytest hypotheses/ --device cpu -k output_varies",
    "pytest hypotheses/ --device cpu -k minus_smooths",
    "pytest hypotheses/ --device cpu -k minus_controls",
    "pytest hypotheses/ --device cpu -k adabn",
    "pytest hypotheses/ --device cpu -k fixup_is_superior",
    "pytest hypotheses/ --device cpu -k noise_behind",
]
"""Minutes to hours of training: their plan runs."""

PARSED = {
    "python -m bnlab calibrate": "simulates for some minutes",
    "python -m bnlab calibrate --suites 2000": "simulates for half a minute",
    "python -m bnlab norms --time 5 --device cpu": "times every layer for a minute",
    "python -m bnlab bench --norm": "times every layer for minutes; test_catalogue times one",
    "python -m bnlab bench --norm --replicas 2 --device cpu --threads 1 --rounds 9": "as above",
    "python -m bnlab bench": "times every network for minutes",
    "python -m bnlab bench --arch resnet18 resnet50": "times two networks for minutes",
    "python -m bnlab bench --store DIR": "grows a store for minutes; test_growth runs a small one",
    "python -m bnlab bench --store DIR --nodes 1 10 100 300 1000": "as above",
    "python -m bnlab train --store DIR": "trains for hours",
    "python -m bnlab train --engine ray --ray-address HOST:PORT": "needs a cluster; test_ray has one of three nodes",
    "python -m bnlab faults --seconds 60 --seed 1": "runs for a minute; test_random runs it for some seconds",
    "python -m bnlab diff A B": "test_diff compares files that are there",
    "python -m bnlab import FILE": "runs on a file that is there, above",
}
"""Why only the command line's own parser sees them."""

ELSEWHERE = {
    "python3 -m venv .venv": "CI runs the lines of the README as printed (.ci/run); they need a package index",
    ". .venv/bin/activate": "as above",
    "python -m pip install -e .": "as above",
    "python -m pip install -e '.[dev]'": "as above",
    "pre-commit install": "needs a network; .pre-commit-config.yaml says what it runs",
    "python -m bnlab report": "test_readme runs it twice and compares what it writes",
    'python -m pytest -n 2 -m "not slow"': "these are the tests",
    "pytest bnlab/tests/stats/test_calibration.py -m slow": "CI runs the slow tests",
    "python -m pytest bnlab/tests/faults -m slow -n 2": "as above",
    "pytest bnlab/tests/stats/test_looks.py -m slow": "CI runs the slow tests",
    "pytest bnlab/tests/stats/test_collapse.py": "CI runs the tests",
    ".ci/run": "CI itself",
    ".ci/lowest": "downloads another PyTorch; for changes of versions in pyproject.toml",
    "ruff check .": "CI runs it",
    "ruff format --check .": "CI runs it",
    "mypy": "CI runs it",
    "pip install 'bnlab[ray]'": "needs a package index",
    ".ci/gpu": "needs a GPU; CI runs every step of it on the CPU (.ci/gpu dryrun)",
    ".ci/gpu ahead": "as above",
    ".ci/gpu start OUT DATA --blocks 101:50 50:50@8 50:20@8 101:20 --tests test_adam.py": "as above",
    ".ci/gpu check OUT --preflight 45": "as above",
    ".ci/gpu bench OUT": "as above",
    ".ci/gpu wait OUT": "as above",
    ".ci/gpu check OUT": "as above",
    ".ci/gpu dryrun": "CI runs it",
    "pytest -p bnlab.plugin my_claims": "test_readme.py runs it under --smoke, outside the checkout",
    "pytest hypotheses/ --store DIR --no-train": "CI runs it with the store that is there; test_plugin names one",
    "sbatch docs/recipes/train.slurm": "needs Slurm; test_recipes runs the script",
}
"""Why a command is not tried here, and what tries it."""


def is_name_of_a_command(text: str) -> bool:
    """A mention such as `python -m bnlab export`, without what it takes."""
    return text == "python -m bnlab" or text.removeprefix("python -m bnlab ") in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_tried_or_says_why_not(page: Path) -> None:
    known = {*RUN, *RUN_SLOWLY, *TRAINS, *PARSED, *ELSEWHERE}

    new = [command for command in commands(page) if command not in known and not is_name_of_a_command(command)]

    assert new == [], f"{page.name} prints commands that nothing tries: add them to a table of this test"


def test_commands_that_are_tried_stand_on_a_page() -> None:
    printed = {command for page in PAGES for command in commands(page)}
    tried = {*RUN, *RUN_SLOWLY, *TRAINS, *PARSED, *ELSEWHERE}

    assert tried - printed == {"python -m bnlab import reports/runs/quick-resnet18-batch20-cpu.jsonl"}


@pytest.mark.parametrize("command", [*RUN, *(pytest.param(slow, marks=pytest.mark.slow) for slow in RUN_SLOWLY)])
def test_a_command_runs_as_it_is_printed(command: str, shell: Shell) -> None:
    code, says = {**RUN, **RUN_SLOWLY}[command]

    ran = shell(command.replace("DIR", ".bnlab/store"))

    assert " ".join(says.split()) in " ".join(ran.stdout.split()), ran.stdout + ran.stderr
    assert ran.returncode == code, ran.stdout + ran.stderr


@pytest.mark.parametrize("command", TRAINS)
def test_a_command_that_trains_for_long_can_be_planned(command: str, shell: Shell) -> None:
    ran = shell(f"{command} --plan")

    assert re.search(r"plan for the first look .* to train", ran.stdout), ran.stdout + ran.stderr
    assert ran.returncode == 0


@pytest.mark.parametrize("command", PARSED)
def test_a_command_line_is_one_that_the_parser_takes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, _, name, *options = shlex.split(command)
    called = []
    monkeypatch.setitem(COMMANDS, name, replace(COMMANDS[name], run=lambda arguments: called.append(arguments) or 0))

    assert main([name, *options]) == 0
    assert len(called) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_commands_name_are_there(page: Path) -> None:
    files = {word for command in commands(page) for word in shlex.split(command) if "/" in word and "=" not in word}

    made_here = {".venv/bin/activate"}
    assert [file for file in files - made_here if not (REPOSITORY / file).exists()] == []


def test_options_that_the_pages_name_exist(capsys: pytest.CaptureFixture[str]) -> None:
    prose = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?<=[` ])--[a-z][a-z-]+", prose))
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            main([name, "--help"])
    of_others = [
        subprocess.run([sys.executable, *other], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
        for other in (["-m", "pytest", "--help"], [".ci/gpu", "start", "--help"])
    ]

    known = set(re.findall(r"--[a-z][a-z-]+", "".join([*of_others, capsys.readouterr().out])))
    assert named - known == {"--junitxml", "--check"}, "an alias of --junit-xml, an option of ruff"
