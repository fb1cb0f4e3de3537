"""Fixup and SkipInit: initial weights, initial outputs, and the blocks against torch's functions in a row."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.engine.optim import Treatment, treatments
from bnlab.engine.reader import unreadable
from bnlab.errors import SpecError
from bnlab.nets import build, convolutions, norm_slots
from bnlab.nets.cifar_resnet import Block
from bnlab.nets.fixup import FixupBlock, initialise
from bnlab.norms import AffineLayer, Identity
from bnlab.parts import NONE, Net, Part, ResNet
from bnlab.specs import Group, RunSpec
from bnlab.tests.norms.families import norm

FIXUP, SKIP = norm("scalars:fixup"), norm("scalars:skip_init")
INIT = Part(code="bnlab.nets.fixup:initialise")


def fixup(depth: int) -> Net:
    return Net(build="bnlab.nets.fixup:build", options={"depth": depth})


@pytest.fixture(scope="module", params=[18, 20, 50])
def network(request: pytest.FixtureRequest) -> nn.Module:
    return build(fixup(request.param), FIXUP, seed=0)


def blocks(model: nn.Module) -> list[FixupBlock]:
    return [module for module in model.modules() if isinstance(module, FixupBlock)]


def test_all_logits_start_at_zero_and_the_loss_at_ln_10(network: nn.Module) -> None:
    logits = network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))

    assert torch.equal(logits, torch.zeros(4, 10))
    assert F.cross_entropy(logits, torch.arange(4)).item() == pytest.approx(math.log(10))


def test_branches_start_scaled_by_their_number_and_depth_and_shortcuts_do_not(network: nn.Module) -> None:
    found = blocks(network)
    for block in found:
        *inner, last = (conv for name, conv in block.named_children() if name.startswith("conv"))
        factor = len(found) ** (-1 / (2 * (len(inner) + 1) - 2))
        assert not last.weight.any()
        for conv, share in [(conv, factor) for conv in inner] + [(block.shortcut, 1.0)]:
            if conv is not None:
                he = math.sqrt(2 / (conv.out_channels * conv.kernel_size[0] ** 2))
                assert conv.weight.std().item() == pytest.approx(share * he, rel=0.1)


def test_a_block_starts_as_the_identity_on_what_a_relu_gives(network: nn.Module) -> None:
    block = next(block for block in blocks(network) if block.shortcut is None)
    x = torch.rand(2, block.get_submodule("conv1").in_channels, 4, 4)

    assert torch.equal(block(x), x)


@pytest.mark.parametrize("depth", [20, 50])
def test_a_block_computes_what_its_authors_wrote(depth: int) -> None:
    """bias, convolution, bias, ReLU, ..., bias, convolution, times scale, bias, plus shortcut of the biased input."""
    model = build(fixup(depth), FIXUP, seed=0).double()
    block = next(block for block in blocks(model) if block.shortcut is not None)
    own = {name: parameter for name, parameter in block.named_parameters() if parameter.requires_grad}
    for i, parameter in enumerate(own.values()):
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(i))
    x = torch.randn(2, block.get_submodule("conv1").in_channels, 6, 6, dtype=torch.float64)

    m = sum(name.startswith("conv") for name in own)
    y = first = x + own["before1.bias"]
    for i in range(1, m + 1):
        conv = block.get_submodule(f"conv{i}")
        y = y if i == 1 else y + own[f"before{i}.bias"]
        y = F.conv2d(y, own[f"conv{i}.weight"], stride=conv.stride, padding=conv.kernel_size[0] // 2)
        y = F.relu(y + own[f"behind{i}.bias"]) if i < m else own["scale.weight"] * y + own["scale.bias"]
    shortcut = F.conv2d(first, own["shortcut.weight"], stride=block.shortcut.stride)

    torch.testing.assert_close(block(x), F.relu(y + shortcut), rtol=0, atol=1e-12)
    assert len(own) == 3 * m + 2


@pytest.mark.parametrize(("depth", "scalars"), [(18, 8 * 5 + 2), (20, 9 * 5 + 2), (50, 16 * 7 + 2)])
def test_it_trains_the_weights_of_a_resnet_and_a_few_numbers(depth: int, scalars: int) -> None:
    model = build(fixup(depth), FIXUP, seed=0)
    slots = [model.get_submodule(name) for name in norm_slots(model)]
    plain = build(ResNet(depth) if depth != 20 else Net(build="bnlab.nets.cifar_resnet:build"), NONE, seed=0)

    trained = sum(p.numel() for slot in slots for p in slot.parameters() if p.requires_grad)
    assert trained == scalars
    assert [c.weight.shape for c in convolutions(model)] == [c.weight.shape for c in convolutions(plain)]
    assert unreadable(model) is None


def test_its_numbers_can_learn_at_a_tenth_of_the_rate() -> None:
    spec = RunSpec(net=fixup(20), norm=FIXUP, batch_size=20, groups=(Group("norms", lr=0.1),))
    found = treatments(spec, build(spec.net, spec.norm, seed=0))

    slow = {name for name, treatment in found.items() if treatment == Treatment(0.1, 0.0)}
    assert {"layer1.0.before1.bias", "layer1.0.scale.weight", "before_fc.bias"} <= slow
    assert not any("conv" in name or name.startswith("fc") for name in slow)


@pytest.mark.parametrize(
    ("options", "zeros", "factor"),
    [({}, True, 8**-0.5), ({"zero": False}, False, 8**-0.5), ({"scaled": False}, True, 1.0)],
    ids=["both rules", "rule 2", "rule 1"],
)
def test_its_rules_are_an_initialisation_of_torchvisions_resnets(options, zeros: bool, factor: float) -> None:
    model = build(ResNet(18), NONE, seed=0, init=replace(INIT, options=options))
    block = model.get_submodule("layer3.1")

    he = math.sqrt(2 / (256 * 9))
    assert block.conv1.weight.std().item() == pytest.approx(factor * he, rel=0.05)
    assert bool(block.conv2.weight.any()) != zeros
    assert bool(model.fc.weight.any()) != zeros
    assert model.conv1.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)


@pytest.mark.parametrize(("depth", "last"), [(18, "bn2"), (50, "bn3")])
def test_skip_init_multiplies_the_end_of_each_branch_by_a_number_that_starts_at_zero(depth: int, last: str) -> None:
    model = build(ResNet(depth, conv_bias=True), replace(SKIP, options={"last": last}), seed=0)

    for name in norm_slots(model):
        slot = model.get_submodule(name)
        assert isinstance(slot, AffineLayer if name.endswith(last) else Identity)
        assert [p.item() for p in slot.parameters() if p.requires_grad] == [0.0] * name.endswith(last)
    x = torch.rand(2, model.layer1[1].conv1.in_channels, 4, 4)
    assert torch.equal(model.layer1[1](x), x)
    assert unreadable(model) is None


def test_the_end_of_a_branch_can_start_at_another_number() -> None:
    model = build(ResNet(18), replace(SKIP, options={"start": 0.5}), seed=0)

    assert model.get_submodule("layer1.0.bn2").weight.item() == 0.5


@pytest.mark.parametrize("depth", [19, 7, 21])
def test_a_depth_that_no_network_has_is_refused_in_one_sentence(depth: int) -> None:
    with pytest.raises(SpecError, match=rf"depth is {depth}: expected 18, 34, 50 or 101, or 6n \+ 2 such as 20"):
        build(fixup(depth), FIXUP, seed=0)


def test_a_block_of_another_network_is_a_branch_by_the_names_of_its_convolutions() -> None:
    block = nn.Sequential(Block(8, 8, 1, Identity))
    initialise(block)

    assert block[0].conv1.weight.any()
    assert not block[0].conv2.weight.any()
