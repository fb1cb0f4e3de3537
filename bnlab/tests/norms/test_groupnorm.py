"""GroupNorm against its formula in numpy, and what it refuses."""

import numpy as np
import pytest
import torch

from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.norms import layer
from bnlab.norms.groupnorm import GroupNorm
from bnlab.parts import Norm, ResNet

X = 2 + 3 * torch.randn(4, 12, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("groups", [1, 2, 3, 12])
def test_every_group_of_every_image_is_normalised_by_its_own_mean_and_variance(groups: int, training: bool) -> None:
    made = GroupNorm(12, groups=groups).train(training)
    with torch.no_grad():
        made.weight.copy_(torch.arange(12.0))
        made.bias.fill_(0.5)
    split = X.double().numpy().reshape(4, groups, -1)
    expected = (split - split.mean(2, keepdims=True)) / np.sqrt(split.var(2, keepdims=True) + 1e-5)
    expected = expected.reshape(4, 12, 5, 5) * np.arange(12.0)[:, None, None] + 0.5

    np.testing.assert_allclose(made.double()(X.double()).detach().numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("groups", [5, 0, -3, 24])
def test_groups_that_do_not_divide_the_channels_are_refused_in_one_sentence(groups: int) -> None:
    with pytest.raises(SpecError) as caught:
        layer(Norm(layer="bnlab.norms.groupnorm:GroupNorm", options={"groups": groups}), 12)

    assert str(caught.value) == f"GroupNorm has {groups} groups for 12 channels: take a number that divides them"


def test_single_numbers_on_1x1_maps_are_refused_with_their_place() -> None:
    """torchvision makes the shortcut of a block first."""
    with pytest.raises(SpecError, match=r"512 channels on the 1x1 maps of layer4\.0\.downsample\.1, where every"):
        build(ResNet(18), Norm(layer=f"{__name__}:as_many_groups_as_channels"), seed=0)


def as_many_groups_as_channels(channels: int, place: object) -> GroupNorm:
    """InstanceNorm."""
    return GroupNorm(channels, groups=channels, place=place)
