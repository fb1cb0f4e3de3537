"""What the effective weight of a convolution is made of, for K replicas.

A plain convolution has one trained weight. A convolution with torch's parametrizations (`torch.nn.utils.parametrize`)
has others, from which the weight is computed before each use: RunSpec.parametrization names a function that registers
one, such as `torch.nn.utils.parametrizations:weight_norm`. Its parameters are trained whole, under their own names,
since taps that meet no data may enter the weight of those that do. Of the computed weight only live taps are used. For
weight normalisation all replicas share a product; any other parametrization is called replica by replica.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from bnlab.engine.kernels.packing import Packed, kernels, padded_rows, rows
from bnlab.engine.kernels.taps import ConvGeometry, geometry_of
from bnlab.engine.kernels.weight_norm import weight_norm
from bnlab.engine.slots import Mode


@dataclass(frozen=True)
class Weight:
    """A convolution's weight: called, it gives the effective weight [k, o, t*c]; `parameters` are trained for it.

    `is_leaf` says that it is the one parameter itself.
    """

    geometry: ConvGeometry
    parameters: list[Packed]
    compute: Callable[[Mode], Tensor]
    is_leaf: bool = False

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
    return Weight(geometry, [packed], lambda mode: leaf, is_leaf=True)


def _parametrized(
    name: str, convs: Sequence[nn.Conv2d], size: int, device: torch.device, dtype: torch.dtype, *, elide: bool
) -> Weight:
    lists = [_parametrization(conv).to(device, dtype) for conv in convs]
    geometry = geometry_of(convs[0], size, elide=elide)
    if _is_weight_norm(lists[0]):
        return _weight_normalised(name, lists, geometry)
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


def _is_weight_norm(one: ParametrizationList) -> bool:
    kind = getattr(parametrizations, "_WeightNorm", None)  # torch has no public name for it
    return kind is not None and len(one) == 1 and type(one[0]) is kind and bool(one[0].dim == 0)


def _weight_normalised(name: str, lists: Sequence[ParametrizationList], geometry: ConvGeometry) -> Weight:
    """The lengths g [k, o] and the directions v [k, o, n] of the filters as one leaf each."""
    lengths, directions = ([one.get_parameter(own) for one in lists] for own in ("original0", "original1"))
    device, dtype = directions[0].device, directions[0].dtype
    whole = replace(geometry, first=0, last=geometry.kernel)
    g = padded_rows(lengths, device, dtype).requires_grad_()
    v = rows([weight.detach() for weight in directions], whole).requires_grad_()
    place = f"{name}.parametrizations.weight"
    parameters = [
        Packed(name=f"{place}.original0", leaves=[g], shape=lengths[0].shape),
        Packed(name=f"{place}.original1", leaves=[v], shape=directions[0].shape, geometry=whole),
    ]
    return Weight(geometry, parameters, lambda mode: weight_norm(v, g[:, : geometry.c_out], geometry))


def _parametrization(conv: nn.Conv2d) -> ParametrizationList:
    return cast(ParametrizationList, cast(nn.ModuleDict, conv.parametrizations)["weight"])
