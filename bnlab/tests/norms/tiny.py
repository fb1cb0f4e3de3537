"""A network small enough to train in a test: two norms, on maps of 16x16 and 1x1."""

from collections.abc import Callable

from torch import Tensor, nn

from bnlab.parts import Net

TINY = Net(build=f"{__name__}:build")


class Tiny(nn.Module):
    def __init__(self, norm: Callable[[int], nn.Module], classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = norm(8)
        self.layer1 = nn.Sequential(nn.Sequential(nn.Conv2d(8, 16, 16, bias=False), norm(16)))
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.bn1(self.conv1(x)).relu()).relu()
        return self.fc(x.flatten(1))


def build(*, norm: Callable[[int], nn.Module], classes: int) -> Tiny:
    return Tiny(norm, classes)
