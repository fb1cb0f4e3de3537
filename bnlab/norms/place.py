"""Place: where in the network a norm layer stands, for layers that ask for it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnlab.errors import SpecError

Norms = Callable[[int], nn.Module]
"""What a network's builder is given: from the number of channels to the layer."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a norm layer stands.

    `name` is the layer's name in the network, such as "layer2.0.bn1", and `size` the height and width in pixels of the
    maps that it gets for images of 32x32. `stage`, `block` and `position` are read off the name: 2, 0 and "bn1". Of
    "blocks.4.bn1", in a network without stages, they are 0, 4 and "bn1"; of any other name, such as "bn1" of a stem,
    0, 0 and the name itself.
    """

    name: str
    size: int
    stage: int
    block: int
    position: str

    @classmethod
    def of(cls, name: str, size: int) -> "Place":
        """The place of the layer of this name."""
        numbered = re.fullmatch(r"\D*(?:(\d+)\.)?(\d+)\.(.+)", name)
        stage, block, position = numbered.groups() if numbered else (0, 0, name)
        return cls(name=name, size=size, stage=int(stage or 0), block=int(block), position=position)


def places(build: Callable[[Norms], nn.Module]) -> Sequence[Place]:
    """The places of a network's norm layers in the order in which `build` asks for them.

    The network is built once with layers that do nothing and shown one image. A builder that asks for a layer and does
    not use it is a SpecError.
    """
    made: list[_Survey] = []

    def survey(channels: int) -> nn.Module:
        made.append(_Survey())
        return made[-1]

    network = build(survey).eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))
    names = {module: name for name, module in network.named_modules()}
    for layer in made:
        if layer not in names or not layer.size:
            raise SpecError(
                f"{type(network).__name__} asks for a norm layer that it does not use, so a norm with `place` has no "
                "place there: let its builder call `norm` once for each layer in the network"
            )
    return [Place.of(names[layer], layer.size) for layer in made]


class _Survey(nn.Module):
    """Passes maps on and notes their size."""

    size = 0

    def forward(self, x: Tensor) -> Tensor:
        self.size = x.shape[-1]
        return x
