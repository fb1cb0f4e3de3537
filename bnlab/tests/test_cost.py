"""How long it takes to train Runs."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from bnlab.cost import Speeds, disk_text, next_step, plan_text
from bnlab.lab import replicates
from bnlab.parts import ResNet
from bnlab.runs import Run
from bnlab.tests.report.samples import SPECS

SHORT = replace(SPECS[0], epochs=1)


def run(spec, speed: float, cuda: str | None) -> Run:
    return Run(spec=spec, seed=0, curves={}, readings={}, weights="", provenance={"images_per_s": speed, "cuda": cuda})


def test_the_next_step_is_the_claim_whose_missing_runs_train_fastest() -> None:
    lacking = {
        "long": [*replicates(SPECS[0], 4), *replicates(SPECS[1], 4)],
        "short": replicates(SHORT, 4),
        "shorter": replicates(SHORT, 2),
        "as short": replicates(SHORT, 2),
    }

    said = next_step(lacking, 1000, None, [run(SPECS[0], 100.0, None), run(SPECS[0], 1e4, "13")], ["--protocol quick"])

    assert said == (
        "next: pytest 'shorter' --protocol quick --device cpu trains 2 Runs in about 20 s here, which 2 claims lack; "
        "all 12 Runs would take a GPU about 12 s"
    )
    assert "--device" not in next_step(lacking, 1000, "cuda", [], [])


@pytest.mark.parametrize(("device", "seconds"), [("cpu", 40.0), ("cuda:1", 4.0)])
def test_a_speed_is_the_median_of_the_runs_of_that_kind_of_device(device: str, seconds: float) -> None:
    recorded = [run(SHORT, speed, None) for speed in (50.0, 100.0, 900.0)] + [run(SHORT, 1000.0, "13")]

    found = Speeds(device, recorded).cost(replicates(SHORT, 4), 1000)

    assert (found.images, found.seconds, found.assumed) == (4000, seconds, False)


def test_a_plan_of_one_run_is_said_in_the_singular() -> None:
    (run,) = replicates(SPECS[0], 1)

    first, last = plan_text([run], [run], (1,), Speeds("cpu", []).cost([run], 1000), "cpu")

    assert first.endswith(": 1 Run, 0 finished")
    assert "1 RunSpec, 1 Run, 0 finished, 1 to train, 15,000 training images, about" in last


def test_a_plan_says_how_much_of_the_disk_snapshots_take_and_what_is_free(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free={tmp_path: 43e9}[folder]))
    long = replace(SPECS[0], net=ResNet(101))

    said = disk_text([*replicates(SPECS[0], 4), *replicates(long, 4)], tmp_path / "new" / "store")

    # torchvision's ResNet101 with ten classes has 42,520,650 parameters; Adam has two moments of each, in 4 bytes
    assert said == (
        "disk: 2 snapshots of up to 510 MB for each Run while it trains, 8.2 GB for 8 Runs at a time; "
        f"43.0 GB are free in {tmp_path}"
    )
