"""What the effective weight of a convolution is made of, for K replicas.

A plain convolution has one trained weight. A convolution with torch's parametrizations (`torch.nn.utils.parametrize`)
has others, from which the weight is computed before each use: RunSpec.parametrization names a function that registers
one, such as `torch.nn.utils.parametrizations:weight_norm`. Its parameters are trained whole, under their own names,
since taps that meet no data may enter the weight of those that do. Of the computed weight only live taps are used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from bnlab.engine.kernels.packing import Packed, kernels, rows
from bnlab.engine.kernels.taps import ConvGeometry, geometry_of
from bnlab.engine.slots import Mode


@dataclass(frozen=True)
class Weight:
    """A convolution's weight: called, it gives the effective weight [k, o, t*c]; `parameters` are trained for it."""

    geometry: ConvGeometry
    parameters: list[Packed]
    compute: Callable[[Mode], Tensor]

    def __call__(self, mode: Mode) -> Tensor:
        """The effective weight [k, o, t*c] of the live taps."""
        return self.compute(mode)


def effective_weight(
    name: str, convs: Sequence[nn.Conv2d], size: int, device: torch.device, dtype: torch.dtype, *, elide: bool
) -> Weight:
    """The weight of the convolution of this name in every replica, on maps of size x size."""
    if is_parametrized(convs[0]):
        return _parametrized(name, convs, size, device, dtype, elide=elide)
    geometry = geometry_of(convs[0], size, elide=elide)
    leaf = kernels([conv.weight for conv in convs], geometry, device, dtype)
    packed = Packed(name=f"{name}.weight", leaves=[leaf], shape=convs[0].weight.shape, geometry=geometry)
    return Weight(geometry, [packed], lambda mode: leaf)


def _parametrized(
    name: str, convs: Sequence[nn.Conv2d], size: int, device: torch.device, dtype: torch.dtype, *, elide: bool
) -> Weight:
    """Each replica's own parametrization computes its weight."""
    lists = [_parametrization(conv).to(device, dtype) for conv in convs]
    geometry = geometry_of(convs[0], size, elide=elide)
    parameters = [
        Packed(
            name=f"{name}.parametrizations.weight.{own}",
            leaves=[one.get_parameter(own) for one in lists],
            shape=parameter.shape,
        )
        for own, parameter in lists[0].named_parameters()
    ]

    def compute(mode: Mode) -> Tensor:
        return rows([one.train(mode != "eval")() for one in lists], geometry)

    return Weight(geometry, parameters, compute)


def _parametrization(conv: nn.Conv2d) -> ParametrizationList:
    return cast(ParametrizationList, cast(nn.ModuleDict, conv.parametrizations)["weight"])
