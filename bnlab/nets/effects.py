"""What a layer does to the convolution before it, to two domains, and what an untrained network learns first.

Found by feeding them random numbers in double precision: the definitional claims of the paper's section 2.4 ask for it.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnlab.nets import apply_part, build, norm_slots
from bnlab.norms import layer
from bnlab.parts import Net, Norm, Part

TOLERANCE = 1e-3
"""Largest difference of numbers of size 1 that count as equal: room for eps beside a variance."""


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a convolution and the norm behind it do with a training batch, by the seven questions of section 2.4.

    `depends_on_batch`: what the first image gets changes with the other images. `noise`: by how much, as a standard
    deviation over batches, relative to that over the numbers of an image. `centres`, `standardises`, `decorrelates`:
    each channel has mean 0; also variance 1; also no correlation with another of its four neighbours.
    `keeps_variance`: each channel has the variance that the convolution gave it. `centres_gradient`: the gradient of
    what the convolution gave has mean 0 in each channel. `ignores_length`: three times the weight gives the same.
    `gradient_is_orthogonal`: the gradient of each filter is at a right angle to the filter. The weight is the one
    that is trained; of a weight-normalised convolution it is the direction. `decouples` is both.
    """

    depends_on_batch: bool
    noise: float
    centres: bool
    standardises: bool
    decorrelates: bool
    keeps_variance: bool
    centres_gradient: bool
    ignores_length: bool
    gradient_is_orthogonal: bool

    @property
    def decouples(self) -> bool:
        """Whether the length of a filter and its direction are independent."""
        return self.ignores_length and self.gradient_is_orthogonal


@cache
def effects(norm: Norm, parametrization: Part | None = None) -> Effects:
    """Of a 3x3 convolution from three to eight channels, on 64 random images of 8x8."""
    draw = torch.Generator().manual_seed(0)
    x, fresh = (torch.randn(64, 3, 8, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    conv, behind = nn.Conv2d(3, 8, 3, bias=False).double(), layer(norm, 8).double().train()
    nn.init.normal_(conv.weight, std=0.3, generator=draw)
    if parametrization is not None:
        apply_part(parametrization, conv)
    weight = next(p for p in reversed(list(conv.parameters())) if p.dim() == 4 and p.numel() > 8)

    given = conv(x)
    given.retain_grad()
    y = behind(given)
    upstream = torch.randn(y.shape, generator=draw, dtype=torch.float64)
    torch.autograd.backward(y, upstream)
    assert weight.grad is not None
    assert given.grad is not None
    along = (weight * weight.grad).flatten(1).sum(1) / (weight.norm() * weight.grad.norm())
    with torch.no_grad():
        others = [behind(conv(torch.cat([x[:1], part]))) for part in fresh.view(4, 16, 3, 8, 8)]
        noise = torch.stack([one[0] for one in others]).std(0).mean() / y[0].std()
        weight.mul_(3)
        longer = behind(conv(x))
    rows = y.detach().transpose(0, 1).flatten(1)
    covariance = torch.cov(rows, correction=0)
    variance = given.detach().transpose(0, 1).flatten(1).var(1, correction=0)
    beside = torch.kron(torch.eye(2), torch.ones(4, 4)).double() - torch.eye(8).double()
    centres = _small(rows.mean(1))
    standardises = centres and _small(covariance.diagonal() - 1)
    return Effects(
        depends_on_batch=bool(noise > 0),
        noise=float(noise),
        centres=centres,
        standardises=standardises,
        decorrelates=standardises and _small(covariance * beside),
        keeps_variance=_small(covariance.diagonal() - variance),
        centres_gradient=_small(given.grad.mean((0, 2, 3)) / upstream.std()),
        ignores_length=_small(longer - y),
        gradient_is_orthogonal=_small(along),
    )


def _small(x: Tensor) -> bool:
    return bool((x.detach().abs() < TOLERANCE).all())


@dataclass(frozen=True, kw_only=True)
class Start:
    """How an untrained network starts, on eight random images, and what three steps of SGD reach.

    `largest_logit` and `loss` before the first step; `reached`: by step, which parts first get a gradient, among "head"
    (the linear layer), "ends" (the last convolution of each branch), "insides" (the other convolutions of branches)
    and "stem" (the first convolution). `scalars` counts the trained numbers of the norm slots.
    """

    largest_logit: float
    loss: float
    reached: tuple[tuple[str, ...], ...]
    scalars: int


@cache
def start(net: Net, norm: Norm) -> Start:
    """Build a residual network and take three steps."""
    model = build(net, norm, seed=0).double().train()
    draw = torch.Generator().manual_seed(0)
    x, labels = torch.randn(8, 3, 32, 32, generator=draw, dtype=torch.float64), torch.arange(8)
    last = {name: max(own) for name, own in _branches(model).items()}
    seen: dict[str, int] = {}
    first: list[Tensor] = []
    for step in range(3):
        logits = model(x)
        loss = F.cross_entropy(logits, labels)
        first = first or [logits.detach().abs().max(), loss.detach()]
        model.zero_grad()
        torch.autograd.backward(loss)
        for name, parameter in model.named_parameters():
            if (kind := _kind(name, last)) and parameter.grad is not None and parameter.grad.abs().max() > 0:
                seen.setdefault(kind, step)
            if parameter.grad is not None:
                parameter.data -= 0.1 * parameter.grad
    slots = [model.get_submodule(name) for name in norm_slots(model)]
    return Start(
        largest_logit=float(first[0]),
        loss=round(float(first[1]), 6),
        reached=tuple(tuple(sorted(kind for kind, at in seen.items() if at == step)) for step in range(3)),
        scalars=sum(p.numel() for slot in slots for p in slot.parameters() if p.requires_grad),
    )


def _branches(model: nn.Module) -> dict[str, list[str]]:
    """Names of the convolutions of each block that has several called conv1, conv2, ..."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        block, _, own = name.rpartition(".")
        if block and isinstance(module, nn.Conv2d) and own.startswith("conv"):
            found.setdefault(block, []).append(own)
    return found


def _kind(name: str, last: dict[str, str]) -> str:
    block, _, own = name.removesuffix(".weight").rpartition(".")
    if block in last and own.startswith("conv"):
        return "ends" if own == last[block] else "insides"
    return {"fc": "head", "conv1": "stem"}.get(name.removesuffix(".weight"), "")


@dataclass(frozen=True, kw_only=True)
class Domains:
    """What a layer makes of two domains that lie five standard deviations apart.

    `gap`: how far apart the means lie behind the layer, of a training batch that is half source and half target.
    `moved`: what a training batch of the target alone moves in the state dict. `adapted`: with statistics that such a
    batch replaced, evaluation gives the target mean 0 and variance 1.
    """

    gap: float
    moved: tuple[str, ...]
    adapted: bool


@cache
@torch.no_grad()
def domains(norm: Norm) -> Domains:
    """Of four channels of 256 random images of 4x4, all shifted alike."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 256, 4, 4, 4, generator=draw, dtype=torch.float64)
    x -= x.mean((1, 3, 4), keepdim=True)
    x /= x.std((1, 3, 4), keepdim=True, correction=0)
    source, target = x[0], x[1] + 5
    both, made = (layer(norm, 4).double().train() for _ in range(2))
    y = both(torch.cat([source, target])).view(x.shape)
    start = {name: value.clone() for name, value in made.state_dict().items()}
    made.momentum = 1.0  # type: ignore[assignment]  # the batch's share in the running statistics
    made(target)
    seen = made.eval()(target)
    return Domains(
        gap=round(float((y[0].mean((0, 2, 3)) - y[1].mean((0, 2, 3))).abs().max()), 4),
        moved=tuple(sorted(name for name, value in made.state_dict().items() if not torch.equal(value, start[name]))),
        adapted=_small(seen.mean((0, 2, 3))) and _small(seen.var((0, 2, 3), correction=0) - 1),
    )
