"""The layers of section 2.4, for the tests of what all of them have to do."""

from typing import Any

import torch
from torch import Tensor

from bnlab.norms import layer
from bnlab.parts import Norm

CHANNELS = 6


def norm(name: str, **options: Any) -> Norm:
    """`lp:LpNorm` of bnlab.norms with these options."""
    return Norm(layer=f"bnlab.norms.{name}", options=options)


PER_IMAGE = {
    "LayerNorm": norm("layernorm:LayerNorm"),
    "InstanceNorm": norm("instancenorm:InstanceNorm"),
    "GroupNorm": norm("groupnorm:GroupNorm", groups=3),
    "SwitchableNorm without batch": norm("switchable:SwitchableNorm", among="instance layer"),
}
OVER_BATCH = {
    "GhostBatchNorm": norm("ghost:GhostBatchNorm", size=2),
    "LpNorm 1": norm("lp:LpNorm", p=1.0),
    "LpNorm 3": norm("lp:LpNorm", p=3.0),
    "LpNorm inf": norm("lp:LpNorm", p="inf"),
    "UnitizedBatchNorm": norm("unitized:UnitizedBatchNorm", alpha=0.3),
    "PopulationNorm": norm("population:PopulationNorm"),
    "PopulationNorm of constants": norm("population:PopulationNorm", through_batch=False),
    "SwitchableNorm": norm("switchable:SwitchableNorm"),
    "MeanOnlyBatchNorm": norm("mean_only:MeanOnlyBatchNorm"),
    "DecorrelatedBatchNorm": norm("whitening:DecorrelatedBatchNorm", group_size=2),
    "IterNorm": norm("whitening:IterNorm", group_size=2),
}
OVER_DOMAINS = {"AutoDial": norm("autodial:AutoDial", alpha=0.5)}
ALL = PER_IMAGE | OVER_BATCH | OVER_DOMAINS


def batch(seed: int, n: int = 4, size: int = 3) -> Tensor:
    """Images [n, CHANNELS, size, size] in float64, mean 2 and standard deviation 3."""
    shape = (n, CHANNELS, size, size)
    return 2 + 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(what: Norm, seed: int = 0) -> Any:
    """The layer in float64, its parameters drawn around what they start at."""
    module = layer(what, CHANNELS).double()
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws, dtype=torch.float64))
    return module


def step(module: Any, x: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients of x and the trained parameters, and buffers of a training batch."""
    x = x.clone().requires_grad_()
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    y = module.train()(x)
    upstream = torch.linspace(0, 7, y.numel(), dtype=y.dtype).cos().view_as(y)
    gradients = torch.autograd.grad(y, [x, *trained.values()], upstream)
    found = dict(zip(["x", *trained], gradients, strict=True))
    return {"y": y.detach(), **{f"gradient of {name}": g for name, g in found.items()}}
