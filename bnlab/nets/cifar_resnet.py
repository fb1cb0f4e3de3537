"""The ResNets that He et al. made for CIFAR-10 (2016a, section 4.2), and their pre-activation form (2016b).

A 3x3 stem of 16 channels, then three stages of n basic blocks with 16, 32 and 64 channels on maps of 32, 16 and 8
pixels: 6n + 2 layers. A shortcut that changes shape is a 1x1 convolution (option B of the paper).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


class Block(nn.Module):
    """x + f(x), then ReLU, with f = conv, norm, ReLU, conv, norm."""

    def __init__(self, before: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(before, channels, stride), norm(channels)
        self.conv2, self.bn2 = _conv(channels, channels), norm(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x [n, before, h, w] to [n, channels, h / stride, w / stride]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class PreActivationBlock(nn.Module):
    """x + f(x), with f = norm, ReLU, conv, norm, ReLU, conv; a shortcut of another shape sees x normalised."""

    def __init__(self, before: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.bn1, self.conv1 = norm(before), _conv(before, channels, stride)
        self.bn2, self.conv2 = norm(channels), _conv(channels, channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or before != channels:
            self.shortcut = nn.Conv2d(before, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, before, h, w] to [n, channels, h / stride, w / stride]."""
        y = F.relu(self.bn1(x))
        kept = x if self.shortcut is None else self.shortcut(y)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(y)))) + kept
        return out


class CifarResNet(nn.Module):
    """Stem, three stages and a linear layer on the mean of the last map."""

    def __init__(self, depth: int, order: str, norm: Norm, classes: int) -> None:
        super().__init__()
        pre = order == "pre"
        block: Callable[..., nn.Module] = PreActivationBlock if pre else Block
        self.conv1 = _conv(3, 16)
        self.bn1 = nn.Identity() if pre else norm(16)
        blocks: list[nn.Module] = []
        before = 16
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            for i in range((depth - 2) // 6):
                blocks.append(block(before, channels, stride if i == 0 else 1, norm))
                before = channels
        self.blocks = nn.Sequential(*blocks)
        self.last = norm(before) if pre else nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(before, classes)
        self.pre = pre
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 3, 32, 32]."""
        x = self.conv1(x)
        x = self.blocks(x if self.pre else F.relu(self.bn1(x)))
        x = F.relu(self.last(x)) if self.pre else x
        logits: Tensor = self.fc(torch.flatten(self.pool(x), 1))
        return logits


def build(*, norm: Norm, classes: int, depth: int = 20, order: str = "post") -> CifarResNet:
    """ResNet-20, 32, 44, ... with the norm after each convolution (`post`) or before it (`pre`)."""
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth is {depth}: expected 6n + 2, such as 20")
    if order not in ("post", "pre"):
        raise ValueError(f"order is {order!r}: expected 'post' or 'pre'")
    return CifarResNet(depth, order, norm, classes)


def _conv(before: int, channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, channels, 3, stride, padding=1, bias=False)
