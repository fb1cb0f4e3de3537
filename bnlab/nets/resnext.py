"""torchvision's ResNeXt-50 (32x4d): bottleneck blocks whose 3x3 convolution has 32 groups (Xie et al. 2017)."""

from collections.abc import Callable

import torchvision
from torch import nn


def build(*, norm: Callable[[int], nn.Module], classes: int) -> torchvision.models.ResNet:
    """ResNeXt-50 with this layer behind every convolution."""
    return torchvision.models.resnext50_32x4d(num_classes=classes, norm_layer=norm)
