"""What is read off networks for the definitional claims."""

import torch
from torch import nn

from bnlab.nets.facts import _is_identity_without_branch, _is_normal, describe
from bnlab.parts import BATCHNORM, NONE, ResNet
from bnlab.parts import Norm as NormPart


class Doubled(nn.BatchNorm2d):
    """A BatchNorm that gives twice what it should."""

    def forward(self, x):
        return 2 * super().forward(x)


DOUBLED = NormPart(layer=f"{__name__}:Doubled")


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
