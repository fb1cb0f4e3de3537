"""What a layer does, found by making one and giving it batches: the definitional claims ask for this."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from bnlab.norms import layer
from bnlab.parts import Norm

TOLERANCE = 1e-4
"""Largest absolute difference at which two float32 results of one formula count as equal."""

CHANNELS = 8


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """What one layer did with batches of 16 images of eight channels and 4x4 pixels, mean 2 and standard deviation 3.

    Untrained:

    - `trained`: the names of its trained parameters.
    - `is_identity`: it gave what it was given.
    - `looks_at_batch`: in training an image's output depends on the other images.
    - `evaluates_as_it_trains`: evaluation gave the same numbers as training.
    - `ignores_scale_of_channels`, `ignores_scale_of_images`, `ignores_scale_of_maps`: training gives the same numbers
      when every channel, every image, or every channel of every image is multiplied and shifted by numbers of its own.
    - `raises_contrast`: the map with the most contrast, the largest standard deviation, leaves with more than it had.
    - `centres_maps`: every channel of every image has mean 0 in the end.

    With other scales and shifts, and False for a layer without a scale, shift, running mean and variance of each
    channel:

    - `computes_batchnorm`: it gave gamma * (x - mean) / sqrt(var + eps) + beta over the batch.
    - `restores_input`: with the batch's own standard deviation and mean as scale and shift it gave what it was given.
    - `evaluates_with_running_statistics`: in evaluation it put the running mean and variance into the same formula, and
      gave something else than in training.
    """

    trained: tuple[str, ...]
    is_identity: bool
    looks_at_batch: bool
    evaluates_as_it_trains: bool
    ignores_scale_of_channels: bool
    ignores_scale_of_images: bool
    ignores_scale_of_maps: bool
    raises_contrast: bool
    centres_maps: bool
    computes_batchnorm: bool = False
    restores_input: bool = False
    evaluates_with_running_statistics: bool = False


@cache
@torch.no_grad()
def describe_layer(norm: Norm) -> LayerFacts:
    """Make the layer for eight channels, give it batches, and say what it did."""
    module: Any = layer(norm, CHANNELS)
    generator = torch.Generator().manual_seed(0)
    x = _batch(generator)
    alone = module.train()(x)

    def ignores(*shape: int) -> bool:
        factor = torch.empty(*shape, 1, 1).uniform_(0.5, 3, generator=generator)
        return _close(module.train()(factor * x + factor.flip(0)), alone)

    others = torch.cat([x[:1], 2 * x[1:] + 1])
    return LayerFacts(
        trained=tuple(sorted(name for name, p in module.named_parameters() if p.requires_grad)),
        is_identity=torch.equal(alone, x),
        looks_at_batch=not _close(module.train()(others)[0], alone[0]),
        evaluates_as_it_trains=_close(module.eval()(x), module.train()(x)),
        ignores_scale_of_channels=ignores(CHANNELS),
        ignores_scale_of_images=ignores(len(x), 1),
        ignores_scale_of_maps=ignores(len(x), CHANNELS),
        raises_contrast=bool(alone.std((2, 3)).max() > x.std((2, 3)).max() + TOLERANCE),
        centres_maps=bool(alone.mean((2, 3)).abs().max() < TOLERANCE),
        **_as_batchnorm(layer(norm, CHANNELS), x, generator),
    )


def _as_batchnorm(module: Any, x: Tensor, generator: torch.Generator) -> dict[str, bool]:
    """The last three facts, of a layer that was not yet trained."""
    tensors = [getattr(module, name, None) for name in ("weight", "bias", "running_mean", "running_var")]
    if not hasattr(module, "eps") or any(one is None or one.shape != (CHANNELS,) for one in tensors):
        return {}
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)

    def formula(mean: Tensor, var: Tensor) -> Tensor:
        wide = [v[:, None, None] for v in (module.weight, mean, var, module.bias)]
        return wide[0] * (x - wide[1]) / torch.sqrt(wide[2] + float(module.eps)) + wide[3]

    _scatter(module, generator)
    trained, computed = module.train()(x), formula(mean, var)
    evaluated = module.eval()(x)
    by_running = formula(module.running_mean, module.running_var)
    module.weight.copy_(torch.sqrt(var + float(module.eps)))
    module.bias.copy_(mean)
    restored = module.train()(x)
    return {
        "computes_batchnorm": _close(trained, computed),
        "restores_input": _close(restored, x),
        "evaluates_with_running_statistics": _close(evaluated, by_running) and not _close(evaluated, trained),
    }


@cache
@torch.no_grad()
def same_layer(one: Norm, other: Norm) -> bool:
    """Whether both layers, with the same scales and shifts, give the same two batches in training and evaluation."""
    outputs = []
    for norm in (one, other):
        module, generator = layer(norm, CHANNELS), torch.Generator().manual_seed(0)
        batches = [_batch(generator), 0.5 * _batch(generator) + 1]
        _scatter(module, generator)
        trained = [module.train()(x) for x in batches]
        outputs.append(torch.stack([*trained, *(module.eval()(x) for x in batches)]))
    return _close(*outputs)


def _batch(generator: torch.Generator) -> Tensor:
    return 2 + 3 * torch.randn(16, CHANNELS, 4, 4, generator=generator)


def _scatter(module: nn.Module, generator: torch.Generator) -> None:
    """Draw scales and shifts anew."""
    for name, ends in (("weight", (0.5, 2.0)), ("bias", (-1.0, 1.0))):
        if isinstance(parameter := getattr(module, name, None), Tensor):
            parameter.uniform_(*ends, generator=generator)


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() < TOLERANCE)
