"""python -m bnlab."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab import devices
from bnlab.cli import main
from bnlab.lab import Lab
from bnlab.parts import BATCHNORM, ResNet
from bnlab.protocol import QUICK
from bnlab.specs import CIFAR10, RunSpec
from bnlab.store import Store
from bnlab.tests.claims_folder import GRID, HELD, INCONCLUSIVE, make
from bnlab.tests.fakes import FakeTrainer, epochs

pytest_plugins = ["pytester"]

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)


@pytest.fixture
def trained() -> Store:
    """A store with two Runs, and a third that was interrupted after epoch 2."""
    store = Store.open(".bnlab/store")
    lab = Lab(store=store, protocol=QUICK, data=CIFAR10, seeds=2, trainer=FakeTrainer)
    lab.train(SPEC)
    with store.try_work(replace(SPEC, epochs=5), 2) as work:
        work.save_snapshot(2, b"state")
    return store


def test_status_counts_what_is_finished_and_what_is_not(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"ResNet18, BatchNorm, batch 50, 5 epochs: 2 finished (data {CIFAR10[:12]})",
        "ResNet18, BatchNorm, batch 50, 5 epochs, seed 2: interrupted, 2 of 5 epochs kept",
        "2 Runs finished, 0 in training, 1 interrupted",
    ]


def test_runs_travel_as_a_file(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "runs.jsonl"]) == 0
    assert main(["import", "runs.jsonl", "--store", "other"]) == 0
    assert main(["import", "runs.jsonl", "--store", "other"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "2 Runs written to runs.jsonl",
        "2 Runs imported from runs.jsonl, 0 known before",
        "0 Runs imported from runs.jsonl, 2 known before",
    ]
    assert {run.digest for run in Store.open("other").runs()} == {run.digest for run in trained.runs()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "nowhere.jsonl"], "nowhere.jsonl"),
        (["plan"], "there is no hypotheses/ in"),
        (["plan", "--protocol", "thorough"], "unknown protocol 'thorough'"),
        (["train"], "there is no GPU here"),
        (["train", "--device", "cuda"], "--device cuda was asked for"),
        (["train", "--device", "cpu", "--replicas", "0"], "--replicas 0"),
        (["plan", "--data", "nowhere.npz"], "nowhere.npz"),
        (["status", "--store", "hypotheses"], "is not a store of bnlab"),
    ],
    ids="-".join,
)
def test_what_goes_wrong_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words != "there is no hypotheses/ in":
        Path("hypotheses").mkdir()
        Path("hypotheses/test_paper.py").touch()

    assert main(arguments) == 2

    said = capsys.readouterr().err
    assert said.startswith("bnlab: ")
    assert words in said
    assert said.count("\n") == 1


def test_plan_train_and_report_work_on_the_same_store(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    make(pytester, HELD, INCONCLUSIVE)

    def bnlab(*arguments: str) -> pytest.RunResult:
        return pytester.run(sys.executable, "-m", "bnlab", *arguments, "--protocol=quick")

    planned = bnlab("plan", "--device=cpu")
    nothing = epochs()
    trained = bnlab("train", "--device=cpu", "--replicas=3")
    reported = bnlab("report")

    planned.stdout.fnmatch_lines(["plan for the first look*16 to train*"])
    assert nothing == []
    for told in (planned, trained):
        told.stdout.no_fnmatch_line("*no tests ran*")
    trained.stdout.fnmatch_lines(["16 Runs of the first look are missing", "every claim has the Runs that it needs*"])
    assert len(epochs()) == len(set(epochs())) == (4 + 4 + 8 + 8) * 5
    assert max(run.provenance["cohort"] for run in Store.open(".bnlab/store").runs()) == 3
    reported.stdout.fnmatch_lines(["1 held, 1 inconclusive (protocol quick*"])
    assert (planned.ret, trained.ret, reported.ret) == (0, 0, 1)
    assert Path("reports/report.html").exists()


def test_train_takes_one_block_of_the_grid(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    make(pytester, GRID)

    def train(*block: str) -> pytest.RunResult:
        return pytester.run(sys.executable, "-m", "bnlab", "train", "--device=cpu", "--protocol=quick", *block)

    trained = train("--net=resnet34", "--batch-size=50", "--replicas=40")
    unknown = train("--net=resnet34", "--batch-size=7")

    trained.stdout.fnmatch_lines(["16 Runs of the first look are missing", "all 16 Runs of this block are there"])
    runs = list(Store.open(".bnlab/store").runs())
    assert {(run.spec.net, run.seed) for run in runs} == {(ResNet(34), seed) for seed in range(4)}
    assert len(runs) == 16
    assert unknown.ret == 2
    unknown.stderr.fnmatch_lines(["bnlab: no claim needs a Run with --net resnet34 --batch-size 7: *"])
