"""ResNet50 whose bottleneck blocks do not reduce: the first 1x1 convolution keeps the number of channels.

The paper conjectures that shift and scale matter where a 1x1 convolution reduces dimensions (section 4.1.2). This
network has the blocks of ResNet50, three convolutions each, without the reduction.
"""

from collections.abc import Callable

import torchvision
from torch import nn
from torchvision.models.resnet import Bottleneck


class Unreduced(Bottleneck):  # type: ignore[misc]  # torchvision ships no types
    """A block of 1x1, 3x3 and 1x1 convolutions of one width."""

    expansion = 1


def build(*, norm: Callable[[int], nn.Module], classes: int) -> torchvision.models.ResNet:
    """3, 4, 6 and 3 blocks of 64, 128, 256 and 512 channels, behind torchvision's ImageNet stem."""
    return torchvision.models.ResNet(Unreduced, [3, 4, 6, 3], num_classes=classes, norm_layer=norm)
