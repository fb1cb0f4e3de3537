"""The networks are torchvision's, initialised by the seed alone, and counted as the paper counts them."""

import pytest
import torch

from bnlab.nets import build
from bnlab.nets.facts import describe
from bnlab.paper import PLAIN34
from bnlab.parts import AFFINE_LAYER, AFFINE_PER_LAYER, BATCHNORM, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, NONE, ResNet
from bnlab.tests.engine import proofs, reference

DEPTHS = [18, 34, 50, 101]


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_network_is_torchvisions_under_its_seed_to_the_bit(depth: int) -> None:
    got = build(ResNet(depth), BATCHNORM, seed=3).state_dict()

    proofs.assert_same_bits(got, reference.network(ResNet(depth), BATCHNORM, 3).state_dict())


@pytest.mark.parametrize("norm", reference.NORMS, ids=str)
def test_one_seed_gives_every_norm_the_same_convolutions_and_head(norm) -> None:
    first = build(ResNet(18), BATCHNORM, seed=3).state_dict()
    got = build(ResNet(18), norm, seed=3).state_dict()

    names = [name for name in first if "conv" in name or "downsample.0" in name or name.startswith("fc")]
    assert len(names) == 22
    proofs.assert_same_bits({name: got[name] for name in names}, {name: first[name] for name in names})


def test_seeds_give_different_networks() -> None:
    first, second = (build(ResNet(18), BATCHNORM, seed).state_dict()["conv1.weight"] for seed in (0, 1))

    assert not torch.equal(first, second)


def test_building_leaves_the_ambient_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build(ResNet(18), BATCHNORM, seed=3)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("depth", "parameters", "affine", "norm_layers", "blocks", "block", "widths"),
    [
        (18, 11_181_642, 9_600, 20, 8, "basic", (64, 128, 256, 512)),
        (34, 21_289_802, 17_024, 36, 16, "basic", (64, 128, 256, 512)),
        (50, 23_528_522, 53_120, 53, 16, "bottleneck", (256, 512, 1024, 2048)),
        (101, 42_520_650, 105_344, 104, 33, "bottleneck", (256, 512, 1024, 2048)),
    ],
)
def test_a_network_has_the_counts_of_its_architecture(
    depth, parameters, affine, norm_layers, blocks, block, widths
) -> None:
    facts = describe(ResNet(depth), BATCHNORM)

    assert (facts.parameters, facts.trainable, facts.affine_parameters) == (parameters, parameters, affine)
    assert (facts.norm_layers, facts.convolutions, facts.blocks) == (norm_layers, norm_layers, blocks)
    assert (facts.block, facts.widths, facts.conv_biases, facts.frozen_parameters) == (block, widths, 0, 0)


@pytest.mark.parametrize(
    ("norm", "affine", "frozen", "scale", "shift", "statistics", "normalizes"),
    [
        (BATCHNORM, 9_600, 0, (), (), True, True),
        (BATCHNORM_MINUS, 0, 9_600, (1.0,), (0.0,), True, True),
        (GAMMA_ONLY, 4_800, 4_800, (), (0.0,), True, True),
        (BETA_ONLY, 4_800, 4_800, (1.0,), (), True, True),
        (AFFINE_LAYER, 9_600, 0, (), (), False, False),
        (AFFINE_PER_LAYER, 40, 0, (), (), False, False),
        (NONE, 0, 0, (), (), False, False),
    ],
    ids=str,
)
def test_a_norm_is_counted_by_what_it_trains_and_what_it_keeps(
    norm, affine, frozen, scale, shift, statistics, normalizes
) -> None:
    facts = describe(ResNet(18), norm)

    convolutions_and_head = 11_181_642 - 9_600
    assert facts.parameters == convolutions_and_head + affine + frozen
    assert facts.trainable == convolutions_and_head + affine
    assert (facts.affine_parameters, facts.frozen_parameters, facts.norm_layers) == (affine, frozen, 20)
    assert (facts.frozen_scale, facts.frozen_shift, facts.conv_biases) == (scale, shift, 0)
    assert (facts.has_running_statistics, facts.normalizes) == (statistics, normalizes)


def test_a_convolution_bias_is_trained_and_starts_at_zero() -> None:
    net = ResNet(18, conv_bias=True)
    facts, plain = describe(net, NONE), describe(ResNet(18), NONE)
    biases = [value for name, value in build(net, NONE, 0).state_dict().items() if "conv" in name and "bias" in name]

    assert (facts.conv_biases, facts.trainable - plain.trainable) == (20, 4_800)
    assert all(not bias.any() for bias in biases)
    assert len(biases) == 17


def test_a_resnet_without_shortcuts_has_the_convolutions_in_a_row_and_passes_nothing_by() -> None:
    facts = describe(PLAIN34, BATCHNORM)

    assert (facts.convolutions, facts.shortcut_convolutions, facts.norm_layers) == (33, 0, 33)
    assert not facts.identity_without_branch
