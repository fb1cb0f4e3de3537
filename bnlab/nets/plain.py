"""ResNets without their shortcuts: the plain networks that He et al. (2016, section 3.3) compare theirs with."""

from collections.abc import Callable

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


class Plain(BasicBlock):  # type: ignore[misc]  # torchvision ships no types
    """Two 3x3 convolutions, each followed by the norm and a ReLU; nothing is added to what they give."""

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.downsample = None

    def forward(self, x: Tensor) -> Tensor:
        """x [n, c_in, h, w] to [n, c_out, h / stride, w / stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)))  # type: ignore[no-any-return]


def build(*, norm: Callable[[int], nn.Module], classes: int) -> torchvision.models.ResNet:
    """ResNet34 without shortcuts and the projections on them: 32 convolutions in 16 blocks, the same stem and head."""
    return torchvision.models.ResNet(Plain, [3, 4, 6, 3], num_classes=classes, norm_layer=norm)
