"""Residual networks without normalisation: Fixup's initialisation, and the ResNets that it was made for.

Zhang, Dauphin & Ma 2019, "Fixup Initialization: Residual Learning Without Normalization", section 3; the paper's
section 2.4.6. The rules, of a network with L residual branches of m convolutions each:

1. The last convolution of every branch and the linear layer start at zero.
2. The other convolutions start as He et al. draw them, those in branches times L^(-1 / (2m - 2)).
3. A number is added before every convolution, linear layer and ReLU, and each branch is multiplied by one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]

SHAPES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
"""Blocks a stage of torchvision's ResNets, by depth; from 50 on they are bottlenecks."""


class FixupBlock(nn.Module):
    """x + f(x), then ReLU. f is slot, convolution, slot, once for each of `kernels`, with ReLUs between.

    The first slot serves a shortcut that changes shape too; the last, `scale`, stands at the end of the branch. The
    first 3x3 convolution takes the stride.
    """

    def __init__(self, before: int, width: int, out: int, kernels: tuple[int, ...], stride: int, norm: Norm) -> None:
        super().__init__()
        self.last = len(kernels)
        widths = [before, *[width] * (self.last - 1), out]
        for i, kernel in enumerate(kernels, start=1):
            step = stride if i - 1 == kernels.index(3) else 1
            self.add_module(f"before{i}", norm(widths[i - 1]))
            self.add_module(f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], kernel, step, kernel // 2, bias=False))
            self.add_module("scale" if i == self.last else f"behind{i}", norm(widths[i]))
        self.shortcut: nn.Module | None = None
        if stride != 1 or before != out:
            self.shortcut = nn.Conv2d(before, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [n, before, h, w] to [n, out, h / stride, w / stride]."""
        y = first = self.get_submodule("before1")(x)
        for i in range(1, self.last):
            y = F.relu(self.get_submodule(f"behind{i}")(self.get_submodule(f"conv{i}")(y)))
            y = self.get_submodule(f"before{i + 1}")(y)
        y = self.get_submodule("scale")(self.get_submodule(f"conv{self.last}")(y))
        return F.relu(y + (x if self.shortcut is None else self.shortcut(first)))


class FixupResNet(nn.Module):
    """Stem, stages of blocks, and a linear layer on the mean of the last map, with a slot before it."""

    def __init__(self, depth: int, norm: Norm, classes: int) -> None:
        super().__init__()
        imagenet = depth in SHAPES
        shape = SHAPES[depth] if imagenet else 3 * ((depth - 2) // 6,)
        kernels, expansion = ((1, 3, 1), 4) if imagenet and depth >= 50 else ((3, 3), 1)
        width = before = 64 if imagenet else 16
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.behind1 = norm(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        for stage, blocks in enumerate(shape):
            made, out = [], width * expansion
            for i in range(blocks):
                made.append(FixupBlock(before, width, out, kernels, 2 if stage and i == 0 else 1, norm))
                before = out
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
            width *= 2
        self.stages = len(shape)
        self.before_fc = norm(before)  # before the pooling: a number passes through a mean
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, 3, 32, 32]."""
        x = self.maxpool(F.relu(self.behind1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        logits: Tensor = self.fc(torch.flatten(self.pool(self.before_fc(x)), 1))
        return logits


def build(*, norm: Norm, classes: int, depth: int = 20) -> FixupResNet:
    """torchvision's ResNet18, 34, 50 or 101, or the ResNet-20, 32, 44, 56, ... of `bnlab.nets.cifar_resnet`.

    Convolutions and linear layer start by rules 1 and 2. Rule 3 is the norm `bnlab.norms.scalars:fixup`; with no norm
    the network has the initialisation alone.
    """
    if depth not in SHAPES and (depth < 8 or (depth - 2) % 6):
        raise ValueError(f"depth is {depth}: expected 18, 34, 50 or 101, or 6n + 2 such as 20")
    model = FixupResNet(depth, norm, classes)
    initialise(model)
    return model


def initialise(model: nn.Module, *, zero: bool = True, scaled: bool = True) -> None:
    """Rules 1 (`zero`) and 2 (`scaled`) for a network whose residual blocks hold convolutions conv1, conv2, ...

    He's draw is by fan-out, N(0, 2 / (channels out * kernel^2)). Without `zero` the last convolutions are drawn as the
    others, and the linear layer stays as it is. Serves torchvision's ResNets as the `init` of a RunSpec.
    """
    branches = [found for module in model.modules() if len(found := _branch(module)) > 1]
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    with torch.no_grad():
        for branch in branches:
            for conv in branch:
                conv.weight *= len(branches) ** (-0.5 / (len(branch) - 1)) if scaled else 1
            if zero:
                branch[-1].weight.zero_()
        for head in (module for module in model.modules() if isinstance(module, nn.Linear) and zero):
            head.weight.zero_()
            head.bias.zero_()


def _branch(module: nn.Module) -> list[nn.Conv2d]:
    children = dict(module.named_children())
    found = [children.get(f"conv{i}") for i in range(1, 4)]
    return [conv for conv in found if isinstance(conv, nn.Conv2d)]
