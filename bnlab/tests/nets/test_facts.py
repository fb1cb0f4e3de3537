"""What is read off networks and layers for the definitional claims."""

import pytest
import torch
from torch import nn

from bnlab.nets.facts import _is_identity_without_branch, _is_normal, describe, describe_layer
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, ResNet
from bnlab.parts import Norm as NormPart


class Doubled(nn.BatchNorm2d):
    """A BatchNorm that gives twice what it should."""

    def forward(self, x):
        return 2 * super().forward(x)


DOUBLED = NormPart(layer=f"{__name__}:Doubled")


def test_batchnorm_is_found_to_be_one_and_its_double_is_not() -> None:
    ours, doubled = describe_layer(BATCHNORM), describe_layer(DOUBLED)

    assert (ours.computes_batchnorm, ours.restores_input, ours.evaluates_with_running_statistics) == (True, True, True)
    assert (doubled.computes_batchnorm, doubled.restores_input, doubled.evaluates_with_running_statistics) == (
        (False, False, False)
    )


@pytest.mark.parametrize(
    ("norm", "identity"), [(BATCHNORM, False), (BATCHNORM_MINUS, False), (AFFINE_LAYER, True), (NONE, True)], ids=str
)
def test_an_untrained_layer_is_the_identity_where_it_does_not_normalize(norm, identity) -> None:
    assert describe_layer(norm).is_identity == identity


def test_a_network_normalizes_only_if_every_norm_layer_does() -> None:
    assert describe(ResNet(18), BATCHNORM).normalizes
    assert not describe(ResNet(18), DOUBLED).normalizes


def test_a_channel_that_is_off_is_not_normal() -> None:
    x = nn.BatchNorm2d(3)(torch.randn(32, 3, 4, 4))

    assert _is_normal(x)
    assert not _is_normal(x + torch.tensor([0.0, 0.0, 0.1])[:, None, None])
    assert not _is_normal(x * torch.tensor([1.0, 1.0, 1.2])[:, None, None])


def test_a_block_with_a_bias_behind_its_branch_is_no_identity() -> None:
    class Block(nn.Module):
        def __init__(self, bias):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1, bias=bias)

        def forward(self, x):
            return torch.relu(x + self.conv(x))

    assert _is_identity_without_branch(Block(bias=False))
    assert not _is_identity_without_branch(Block(bias=True))


def test_every_relu_of_a_resnet_is_fed_by_a_norm() -> None:
    facts = describe(ResNet(18), NONE)

    assert (facts.activations, facts.activations_after_norm, facts.shortcut_convolutions) == (17, 17, 3)
    assert (facts.norm_channels, facts.block_channels[0]) == (4_800, (64, 64, 64))
