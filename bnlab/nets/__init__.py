"""Networks with a slot for the norm: `build(net, norm, seed)` makes every Net.

A builder is called with `norm` (number of channels -> module), `classes` and its options, and gives a torch module that
maps images [n, 3, 32, 32] to logits [n, classes].
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bnlab.errors import SpecError
from bnlab.norms import asks_for_place, layer, places
from bnlab.parts import Net, Norm, Part

CLASSES = 10


def build(
    net: Net, norm: Norm, seed: int, *, init: Part | None = None, parametrization: Part | None = None
) -> nn.Module:
    """The network, initialised from the seed; the ambient random state is left as it was.

    `norm_slots` of the network then names its norm layers. `init` is called with the network and replaces what its
    builder drew. `parametrization` is called with every convolution, such as one of torch.nn.utils.parametrizations.
    Code that cannot be imported or called with its options is a SpecError.
    """
    builder = partial(_imported("network", net.build), classes=CLASSES, **net.keywords)
    with torch.random.fork_rng(devices=[]):
        made: list[nn.Module] = []

        def norm_layer(channels: int) -> nn.Module:
            made.append(layer(norm, channels, stand[len(made)] if stand else None))
            return made[-1]

        try:
            stand = places(lambda survey: builder(norm=survey)) if asks_for_place(norm) else ()
            torch.default_generator.manual_seed(seed)  # what manual_seed does on a CPU, without the GPUs' state
            model: nn.Module = builder(norm=norm_layer)
        except SpecError:
            raise
        except (TypeError, ValueError) as error:
            raise SpecError(f"the network {net.build!r} cannot be built with {net.keywords}: {error}") from error
        if init is not None:
            _call("initialisation", init, model)
        if parametrization is not None:
            for conv in _convolutions(model):
                _call("parametrization", parametrization, conv)
    slots = {id(module) for module in made}
    model.norm_slots = [name for name, module in model.named_modules() if id(module) in slots]  # type: ignore[assignment]
    return model


def norm_slots(model: nn.Module) -> list[str]:
    """Names of the norm layers of a network that `build` made, or of a copy of it."""
    names: list[str] = getattr(model, "norm_slots", [])
    return names


def _imported(kind: str, code: str) -> Callable[..., Any]:
    where, _, name = code.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(where), name)
    except (ImportError, AttributeError) as error:
        remedy = "put its module on the Python path"
        raise SpecError(f"the {kind} {code!r} cannot be imported ({error}): {remedy}") from error
    return found


def _call(kind: str, part: Part, module: nn.Module) -> None:
    try:
        _imported(kind, part.code)(module, **part.keywords)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"the {kind} {part} cannot be applied to a {type(module).__name__}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class NetFacts:
    """Counts read off a built network.

    `parameters` and `trainable` count numbers, `affine_parameters` the trained scales and shifts among them and
    `frozen_parameters` those kept at their initial value; `norm_layers`, `convolutions` and `blocks` count modules;
    `widths` are the output channels of the stages, which a network names `layer1` and so on; `normalizes` says whether
    batch statistics are used. `macs` are the multiply-accumulates of one forward pass on one 32x32 image.
    """

    macs: int

    parameters: int
    trainable: int
    affine_parameters: int
    frozen_parameters: int
    norm_layers: int
    convolutions: int
    conv_biases: int
    blocks: int
    block: str
    widths: tuple[int, ...]
    has_running_statistics: bool
    normalizes: bool
    frozen_scale: tuple[float, ...]
    frozen_shift: tuple[float, ...]


_BLOCKS = {"BasicBlock": "basic", "Bottleneck": "bottleneck"}


@cache
def describe(net: Net, norm: Norm) -> NetFacts:
    """Build the network once and count what is in it; `frozen_scale` and `frozen_shift` are the distinct values met."""
    model = build(net, norm, seed=0)
    slots = [model.get_submodule(name) for name in norm_slots(model)]
    stages = [list(child.children()) for name, child in model.named_children() if name.startswith("layer")]
    affine = [parameter for slot in slots for parameter in slot.parameters()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))
    return NetFacts(
        macs=counter.get_total_flops() // 2,
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        affine_parameters=sum(p.numel() for p in affine if p.requires_grad),
        frozen_parameters=sum(p.numel() for p in affine if not p.requires_grad),
        norm_layers=len(slots),
        convolutions=len(_convolutions(model)),
        conv_biases=sum(conv.bias is not None for conv in _convolutions(model)),
        blocks=sum(len(stage) for stage in stages),
        block=_BLOCKS.get(type(stages[0][0]).__name__, "") if stages else "",
        widths=tuple(_convolutions(stage[-1])[-1].out_channels for stage in stages),
        has_running_statistics=any(name.endswith("running_mean") for name, _ in model.named_buffers()),
        normalizes=_normalizes(slots[0], _convolutions(model)[0].out_channels),
        frozen_scale=_frozen(slots, "weight"),
        frozen_shift=_frozen(slots, "bias"),
    )


def _normalizes(module: nn.Module, channels: int) -> bool:
    """Whether a training batch leaves the layer with mean 0 and variance 1 in every channel."""
    x = 2 + 3 * torch.randn(16, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        var, mean = torch.var_mean(module.train()(x), dim=(0, 2, 3), correction=0)
    return torch.allclose(mean, torch.zeros(()), atol=1e-4) and torch.allclose(var, torch.ones(()), atol=1e-3)


def _convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def _frozen(slots: list[nn.Module], name: str) -> tuple[float, ...]:
    held = [getattr(slot, name, None) for slot in slots]
    return tuple(sorted({float(v) for p in held if p is not None and not p.requires_grad for v in p.unique()}))
