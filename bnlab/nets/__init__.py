"""Networks with a slot for the norm: `build(net, norm, seed)` makes every Net.

A builder is called with `norm` (number of channels -> module), `classes` and its options, and gives a torch module that
maps images [n, 3, 32, 32] to logits [n, classes].
"""

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bnlab.errors import SpecError
from bnlab.norms import asks_for_place, layer, places
from bnlab.parts import Net, Norm, Part

CLASSES = 10


def build(
    net: Net,
    norm: Norm,
    seed: int,
    *,
    init: Part | None = None,
    parametrization: Part | None = None,
    images: Tensor | None = None,
    classes: int = CLASSES,
) -> nn.Module:
    """The network with so many outputs, initialised from the seed; the ambient random state is left as it was.

    `norm_slots` of the network then names its norm layers. `init` is called with the network and replaces what its
    builder drew; if its signature has a parameter `images`, it also gets `images` [n, 3, 32, 32], the first of the
    training images, standardised. `parametrization` is called with every convolution, such as one of
    torch.nn.utils.parametrizations. Code that cannot be imported or called with its options is a SpecError.
    """
    builder = partial(_imported("network", net.build), classes=classes, **net.keywords)
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
            _initialise(init, model, images)
        if parametrization is not None:
            for conv in convolutions(model):
                apply_part(parametrization, conv)
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


def _initialise(init: Part, model: nn.Module, images: Tensor | None) -> None:
    function = _imported("initialisation", init.code)
    if "images" not in inspect.signature(function).parameters:
        apply_part(init, model, "initialisation")
    elif images is None:
        raise SpecError(f"the initialisation {init.code!r} looks at images: build the network with some")
    else:
        apply_part(init, model, "initialisation", images=images)


def apply_part(part: Part, module: nn.Module, kind: str = "parametrization", **beside: Tensor) -> None:
    """Call the code of a Part with a module; a SpecError where that fails."""
    try:
        _imported(kind, part.code)(module, **part.keywords, **beside)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SpecError(f"the {kind} {part} cannot be applied to a {type(module).__name__}: {error}") from error


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """All convolutions of a network, in order."""
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]
