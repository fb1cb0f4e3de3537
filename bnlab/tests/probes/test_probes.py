"""A probe sees each replica as if alone, and leaves the training as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from bnlab import engine
from bnlab.data import sources
from bnlab.data.images import Images
from bnlab.engine import randomness
from bnlab.engine.program import Program
from bnlab.engine.training import Training
from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.parts import BATCHNORM, ResNet
from bnlab.probes import probes
from bnlab.specs import Replicate, RunSpec

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, epochs=2)
PROBED = ("gradient_spread",)
NAMES = {f"gradient_spread/{layer}/{when}" for layer in ("input", "final") for when in ("early", "late")}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images.of(sources.load("synthetic:200+20", tmp_path_factory.mktemp("cache")), "cpu")


@pytest.fixture(scope="module")
def alone(images):
    (trained,) = engine.train([Replicate(SPEC, 1, PROBED)], images, "cpu")
    return trained


def test_training_is_the_same_to_the_bit_with_and_without_a_probe(images, alone):
    (unprobed,) = engine.train([Replicate(SPEC, 1)], images, "cpu")

    assert (unprobed.weights, unprobed.curves) == (alone.weights, alone.curves)
    assert {f"gradient_spread/{name}" for name in alone.probes["gradient_spread"]} == NAMES
    assert unprobed.probes == {}
    assert Replicate(SPEC, 1, PROBED).key == Replicate(SPEC, 1).key


def test_replica_is_read_as_if_alone(images, alone):
    trained = engine.train([Replicate(SPEC, 0, PROBED), Replicate(SPEC, 1, PROBED)], images, "cpu")

    assert trained[1].probes == alone.probes
    assert trained[0].probes != alone.probes


def test_readings_survive_a_resume(images, alone):
    kept = {}
    engine.train(
        [Replicate(SPEC, 1, PROBED)],
        images,
        "cpu",
        after_epoch=lambda run, epoch, snapshot: kept.update({run: snapshot}),
    )

    (resumed,) = engine.train([Replicate(SPEC, 1, PROBED)], images, "cpu", resume=list(kept.values()))

    assert resumed.probes == alone.probes


def test_spread_is_that_of_eager_torchvision_gradients_in_every_slot_of_a_batched_program(images):
    spec = replace(SPEC, epochs=1)
    program = Program([build(spec.net, spec.norm, seed) for seed in (4, 3)], torch.device("cpu"), dtype=torch.float64)
    training = Training([Replicate(spec, seed, PROBED) for seed in (4, 3)], program, images)
    training.prepare(0)
    training.advance(2)

    for k, seed in enumerate((4, 3)):
        torch.manual_seed(seed)
        model = torchvision.models.resnet18(num_classes=10).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        entries = []
        for batch in randomness.order(seed, 0, 200, 8)[:2]:
            x = (images.x_train[batch].double() / 255 - images.mean.double()) / images.std.double()
            optimizer.zero_grad()
            F.cross_entropy(model(x.permute(0, 3, 1, 2)), images.y_train[batch]).backward()
            entries.append(model.conv1.weight.grad.flatten().numpy().copy())
            optimizer.step()
        (probe,) = training.probes[k]
        assert probe.readings()["gradient_spread/input/early"] == pytest.approx(
            np.std(np.concatenate(entries)), rel=1e-9
        )


@pytest.mark.parametrize(
    ("step", "steps", "wanted"), [(0, 100, True), (19, 100, True), (20, 100, False), (79, 100, False), (80, 100, True)]
)
def test_first_and_last_twenty_updates_of_the_first_epoch_are_read(step, steps, wanted):
    (probe,) = probes(["gradient_spread"])

    assert probe.wants(0, step, steps) is wanted
    assert not probe.wants(1, step, steps)


def test_unknown_probe_is_refused_in_words():
    with pytest.raises(SpecError, match=r"^unknown probe 'loss': expected one of gradient_spread$"):
        probes(["loss"])
