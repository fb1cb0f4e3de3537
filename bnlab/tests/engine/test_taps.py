"""Dead taps: which they are, that leaving them out changes nothing, and that they are kept in where they would move."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine.program import Program
from bnlab.nets import build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, ResNet
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")
DEAD = {18: 6_946_816, 34: 11_141_120, 50: 5_505_024, 101: 5_505_024}


@pytest.mark.parametrize("depth", [18, 50, *[pytest.param(depth, marks=pytest.mark.slow) for depth in (34, 101)]])
def test_the_taps_left_out_are_those_that_eager_torchvision_gives_no_gradient(depth: int) -> None:
    model = reference.network(ResNet(depth), BATCHNORM, seed=0)
    x = reference.standardised(proofs.FEW.x_train[:8], proofs.FEW, torch.float32)
    F.cross_entropy(model(x), torch.arange(8)).backward()
    program = Program([build(ResNet(depth), BATCHNORM, seed=0)], torch.device("cpu"))

    dead = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            geometry = program.parameters[f"{name}.weight"].geometry
            planned = torch.zeros(module.kernel_size, dtype=torch.bool)
            planned[geometry.first : geometry.last, geometry.first : geometry.last] = True
            met = module.weight.grad.abs().amax((0, 1)) > 0
            assert torch.equal(planned, met), f"{name} has gradients at {met.tolist()}"
            dead += int((~met).sum()) * module.in_channels * module.out_channels
    elided = sum(packed.shape.numel() - packed.leaves[0].numel() for packed in program.packed if packed.geometry)
    assert elided == dead == DEAD[depth]


@pytest.mark.parametrize("seeds", [(7,), (3, 7)], ids=["alone", "beside another"])
@pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER], ids=str)
def test_leaving_dead_taps_out_changes_no_result_and_keeps_their_initial_bits(norm, seeds, record_property) -> None:
    got, expected = (states(replace(SPEC, norm=norm), seeds, elide, epochs=2) for elide in (True, False))

    record_property("difference", assert_all_near(got, expected, within=1e-9))


@pytest.mark.slow
def test_leaving_dead_taps_out_of_resnet50_changes_no_result(record_property) -> None:
    got, expected = (states(replace(SPEC, net=ResNet(50)), (3, 7), elide, epochs=1) for elide in (True, False))

    record_property("difference", assert_all_near(got, expected, within=1e-9))


def test_weight_decay_moves_dead_taps_as_eager_torchvision_does(record_property) -> None:
    spec = replace(SPEC, weight_decay=0.1, epochs=2)
    kept: list[bytes] = []
    engine.train(
        [Replicate(spec, 7)], Images.of(proofs.STEP, "cpu"), "cpu", after_epoch=lambda s, e, held: kept.append(held)
    )
    got = proofs.weights_in(kept[0])["layer4.1.conv1.weight"]
    start = reference.network(spec.net, spec.norm, 7).state_dict()["layer4.1.conv1.weight"]
    solo = reference.free(spec, 7, proofs.STEP, 1)

    # decay alone makes Adam's first step one of the learning rate towards zero
    expected = solo.state["layer4.1.conv1.weight"][:, :, 0, 0]
    moved = (start[:, :, 0, 0] - expected).abs()
    assert moved.median() > 0.99 * spec.lr
    record_property("difference", proofs.assert_near(got[:, :, 0, 0], expected, 1e-6, "a corner tap"))


@pytest.mark.parametrize(("seeds", "slot"), [((7,), 0), ((3, 7), 1)], ids=["alone", "beside another"])
def test_training_with_weight_decay_is_eager_torchvisions(seeds, slot, record_property) -> None:
    spec = replace(SPEC, weight_decay=0.1)
    record_property("differences", proofs.assert_free_steps(spec, seeds, slot, proofs.STEP, epochs=2, within=1e-9))


def test_dead_taps_of_a_trained_run_hold_their_initial_bits() -> None:
    kept: list[bytes] = []
    spec = replace(SPEC, epochs=2)
    engine.train(
        [Replicate(spec, 7)], Images.of(proofs.STEP, "cpu"), "cpu", after_epoch=lambda s, e, held: kept.append(held)
    )
    got = proofs.weights_in(kept[0])["layer4.1.conv1.weight"]
    start = reference.network(spec.net, spec.norm, 7).state_dict()["layer4.1.conv1.weight"]

    changed = (got != start).flatten(0, 1).any(0)
    assert changed.tolist() == [[False, False, False], [False, True, False], [False, False, False]]


def states(spec, seeds, elide: bool, *, epochs: int) -> list[dict[str, torch.Tensor]]:
    """The state dict of every replica after some epochs of two steps in float64."""
    whole = proofs.training(spec, seeds, proofs.FEW, elide=elide)
    for number in range(epochs):
        whole.epoch(number)
    leaves = sum(leaf.numel() for leaf in whole.program.leaves())
    states = [whole.program.state_dict(k) for k in range(len(seeds))]
    for seed, state in zip(seeds, states, strict=True):
        start = reference.network(spec.net, spec.norm, seed).double().state_dict()
        name = "layer4.1.conv2.weight"
        dead = torch.ones(3, 3, dtype=torch.bool)
        dead[1, 1] = False
        assert torch.equal(state[name][:, :, dead], start[name][:, :, dead]), "a dead tap moved"
    assert (leaves < 0.5 * sum(t.numel() for t in start.values()) * len(seeds)) == (elide and spec.net == ResNet(18))
    return states


def assert_all_near(got, expected, *, within: float) -> float:
    """The largest difference of two lists of state dicts."""
    return max(
        proofs.assert_near(one[name], other[name], within, name)
        for one, other in zip(got, expected, strict=True)
        for name in one
    )
