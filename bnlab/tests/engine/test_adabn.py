"""AdaBN as an evaluation: the other domain, and statistics of it in place of those of training."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bnlab import engine
from bnlab.data.images import Images
from bnlab.data.sources import load
from bnlab.engine import adabn
from bnlab.engine.eager import network
from bnlab.engine.evaluations import buffers_restored
from bnlab.engine.program import Program
from bnlab.engine.training import Training
from bnlab.parts import BATCHNORM, NONE
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.norms.tiny import TINY

SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=20, epochs=1, precision="fp32")


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """Two replicas after an epoch."""
    images = Images.of(load("synthetic:200+150", tmp_path), "cpu")
    cohort = [Replicate(SPEC, seed) for seed in (0, 1)]
    made = Training(cohort, Program([network(one) for one in cohort], torch.device("cpu")), images)
    made.epoch(0)
    return made


def torchs(training: Training, k: int, seen: int | None) -> float:
    """Accuracy of torch's own network on the shifted images, with batch statistics of the first `seen` put in place."""
    model = network(training.cohort[k])
    model.load_state_dict(training.program.state_dict(k))
    images = training.images
    x = (adabn.shifted(images.x_test) / 255 - images.mean) / images.std
    x = x.permute(0, 3, 1, 2)
    if seen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train()(x[:seen])
    return 100 * (model.eval()(x).argmax(1) == images.y_test).float().mean().item()


def test_the_other_domain_has_less_contrast_and_noise_and_is_the_same_each_time() -> None:
    images = torch.full((50, 32, 32, 3), 200, dtype=torch.uint8)
    got = adabn.shifted(images)

    assert got.dtype == torch.uint8
    assert torch.equal(got, adabn.shifted(images))
    assert float(got.float().mean()) == pytest.approx(60, abs=0.5)
    assert float(got.float().std()) == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize(
    ("evaluation", "seen"), [("source", None), ("adapted_10", 10), ("adapted_100", 100), ("adapted", 150)]
)
def test_an_evaluation_is_torchs_with_statistics_of_so_many_images(
    training: Training, evaluation: str, seen: int | None
) -> None:
    images = training.images
    with buffers_restored(training):
        found = getattr(adabn, evaluation)(training)

    assert found == pytest.approx([torchs(training, k, seen) for k in (0, 1)], abs=1e-4)
    assert training.images is images


def test_adapting_moves_statistics_alone_and_doing_it_again_nothing(training: Training) -> None:
    before = training.program.state_dict(0)
    once = adabn.adapted(training)
    after = training.program.state_dict(0)

    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if "running" in name}
    assert adabn.adapted(training) == once
    assert all(torch.equal(value, after[name]) for name, value in training.program.state_dict(0).items())


@pytest.mark.parametrize("norm", [BATCHNORM, NONE], ids=str)
def test_a_run_has_a_reading_for_each_evaluation_that_it_names(tmp_path: Path, norm) -> None:
    names = tuple(f"bnlab.engine.adabn:{name}" for name in ("source", "adapted"))
    images = Images.of(load("synthetic:60+40", tmp_path), "cpu")
    (run,) = engine.train([Replicate(replace(SPEC, norm=norm, evaluations=names), 0)], images, "cpu")

    found = {name: run.readings[f"test_accuracy_{name}"] for name in names}
    assert set(found) <= set(names)
    assert norm == BATCHNORM or len(set(found.values())) == 1
