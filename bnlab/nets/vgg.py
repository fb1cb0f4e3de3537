"""VGG-11 for 32x32 images (Simonyan & Zisserman 2015, configuration A): plain convolutions without shortcuts.

The five poolings leave one pixel, so a single linear layer stands for the three of the ImageNet network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
"""Output channels of each convolution; 0 is a 2x2 max pooling."""


class VGG11(nn.Module):
    """Convolution (with a bias), norm and ReLU, eight times, with poolings between; then a linear layer."""

    def __init__(self, norm: Callable[[int], nn.Module], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in CHANNELS:
            if channels == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(before, channels, 3, padding=1), norm(channels), nn.ReLU(inplace=True)]
                before = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                assert module.bias is not None
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 3, 32, 32]."""
        logits: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return logits


def build(*, norm: Callable[[int], nn.Module], classes: int) -> VGG11:
    """VGG-11 with this layer between every convolution and its ReLU."""
    return VGG11(norm, classes)
