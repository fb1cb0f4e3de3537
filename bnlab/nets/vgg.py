"""VGG-11 for 32x32 images (Simonyan & Zisserman 2015, configuration A): plain convolutions without shortcuts.

The five poolings leave one pixel, so a single linear layer stands for the three of the ImageNet network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
"""Output channels of each convolution; 0 is a 2x2 max pooling."""


class VGG11(nn.Module):
    """Convolution (with a bias), norm and ReLU, eight times, with poolings between; then a linear layer.

    With `after` the norm stands behind the ReLU, and before a pooling.
    """

    def __init__(self, norm: Callable[[int], nn.Module], classes: int, after: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in CHANNELS:
            if channels == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                behind = [norm(channels), nn.ReLU(inplace=not after)]
                layers += [nn.Conv2d(before, channels, 3, padding=1), *(behind[::-1] if after else behind)]
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


def build(*, norm: Callable[[int], nn.Module], classes: int, order: str = "before") -> VGG11:
    """VGG-11 with this layer between every convolution and its ReLU, or with `order="after"` behind the ReLU."""
    if order not in ("before", "after"):
        raise ValueError(f"order is {order!r}: expected 'before' or 'after'")
    return VGG11(norm, classes, after=order == "after")
