"""What the effective weight of a convolution is made of, for K replicas.

A plain convolution has one trained weight. A convolution with torch's parametrizations (`torch.nn.utils.parametrize`)
has others, from which the weight is computed before each use: RunSpec.parametrization names a function that registers
one, such as `torch.nn.utils.parametrizations:weight_norm`. Its parameters are trained as they are, under their own
names, and no tap is left out, since taps that meet no data may enter the weight of those that do.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from bnlab.engine.kernels.packing import Packed, kernels, rows
from bnlab.engine.kernels.taps import ConvGeometry, geometry
from bnlab.engine.reader import UnreadableError


@dataclass(frozen=True)
class Weight:
    """A convolution's weight: called, it gives the effective weight [k, o, t*c]; `parameters` are trained for it."""

    plan: ConvGeometry
    parameters: list[Packed]
    compute: Callable[[], Tensor]

    def __call__(self) -> Tensor:
        """The effective weight [k, o, t*c] of the live taps."""
        return self.compute()


def effective_weight(
    name: str, convs: Sequence[nn.Conv2d], size: int, device: torch.device, dtype: torch.dtype, *, elide: bool
) -> Weight:
    """The weight of the convolution of this name in every replica, on maps of size x size."""
    if is_parametrized(convs[0]):
        return _parametrized(name, convs, size, device, dtype)
    plan = geometry(convs[0], size, elide=elide)
    leaf = kernels([conv.weight for conv in convs], plan, device, dtype)
    packed = Packed(name=f"{name}.weight", leaves=[leaf], shape=convs[0].weight.shape, plan=plan)
    return Weight(plan, [packed], lambda: leaf)


def _parametrized(name: str, convs: Sequence[nn.Conv2d], size: int, device: torch.device, dtype: torch.dtype) -> Weight:
    """Each replica's own parametrization computes its weight."""
    lists: list[ParametrizationList] = []
    for conv in convs:
        parametrizations = cast(nn.ModuleDict, conv.parametrizations)
        if set(parametrizations) != {"weight"} or list(parametrizations.buffers()):
            raise UnreadableError(f"{name} has a parametrization with a state, or of something else than its weight")
        lists.append(cast(ParametrizationList, parametrizations["weight"].to(device, dtype)))
    plan = geometry(convs[0], size, elide=False)
    parameters = [
        Packed(
            name=f"{name}.parametrizations.weight.{own}",
            leaves=[one.get_parameter(own) for one in lists],
            shape=parameter.shape,
        )
        for own, parameter in lists[0].named_parameters()
        if parameter.requires_grad
    ]
    return Weight(plan, parameters, lambda: rows(torch.stack([one() for one in lists]), plan))
