"""torchvision's ResNets.

The paper's section 3.3 names PyTorch's ResNet builder, which takes the layer to normalise with as an argument; so the
network is torchvision's own, for 32x32 images and ten classes, and the same seed gives its initialisation to the bit.
"""

from collections.abc import Callable

import torch
import torchvision
from torch import nn


def build(
    *, norm: Callable[[int], nn.Module], classes: int, depth: int, conv_bias: bool = False
) -> torchvision.models.ResNet:
    """ResNet18, 34, 50 or 101 with this layer behind every convolution.

    The bias of a convolution starts at zero and draws nothing, so a seed gives the same weights with and without it.
    """
    model: torchvision.models.ResNet = getattr(torchvision.models, f"resnet{depth}")(
        num_classes=classes, norm_layer=norm
    )
    if conv_bias:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return model
