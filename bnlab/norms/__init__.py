"""Norm layers, and what a layer has to be; `layer(norm, channels, place)` makes the layer of a `Norm`.

A layer is a class of torch modules, or a function that makes one. Ours and a user's are held to the same contract.

- It is called with the number of channels and its options, as `GroupNorm(64, groups=8)`. Options are checked against
  the signature before the call. If the signature has a parameter `place`, it also gets a `Place`: its name, the size of
  its maps, stage, block and position. All parameters and buffers are made in `__init__`.
- `forward(x)` maps x [n, c, h, w] to the same shape and type. `self.training` says whether the batch is a training
  batch.
- Random numbers come from the generator of `forward(x, generator)` alone. Its state is a function of the seed, the
  layer's name and the step, so the same Run gives the same bits again, whatever trains beside it. A layer that draws
  from torch's global generator is a SpecError on the first batch.
- What it remembers from batch to batch lies in buffers of its state dict. A layer that counts or remembers elsewhere
  is a SpecError on the first batch, since a resumed Run would not remember it. Evaluation moves no buffer.
- Running statistics are the buffers that training moves. They can be recalibrated if the module that holds them, or one
  around it, has `reset_running_stats()`. Before calibration batch i = 1, 2, ... the engine sets `momentum` to 1/i on
  modules that have it, so that `running = (1 - momentum) * running + momentum * batch` becomes the average over the
  batches. A layer without `momentum` averages by itself from its reset on.
- `evaluations`, an attribute of the class, names the tests of a trained network that make sense for this layer beside
  the one with running statistics: "recalibrated", "batch" or both. Without it they are both for a layer whose running
  statistics can be recalibrated, "batch" for one whose cannot, and none for a layer without running statistics.
- A method `learned()` may give numbers by name, which the probe `learned` reads at the end of a training.
- `slot`, an attribute of the class, may name a fused form for K replicas, as "package.module:function". The function is
  called with the K layers, the device and the dtype and gives a `bnlab.engine.slots.Slot`. Layers of one program that
  name the same function share a slot. A subclass does not inherit it. Without a fused form the engine calls replica by
  replica; on a GPU it calls all replicas at once by `torch.func.vmap`, if the first batch gives the same numbers,
  gradients and buffers.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from bnlab.errors import BnlabError, SpecError
from bnlab.norms.affine import AffineLayer
from bnlab.norms.batchnorm import BatchNorm
from bnlab.norms.none import Identity
from bnlab.norms.place import Place, places
from bnlab.parts import Norm

__all__ = [
    "AffineLayer",
    "BatchNorm",
    "Identity",
    "Place",
    "asks_for_place",
    "draws",
    "layer",
    "places",
    "use_generator",
]


def layer(norm: Norm, channels: int, place: Place | None = None) -> nn.Module:
    """The module for this many channels at this place.

    A layer that cannot be imported or made, or that has no such option, is a SpecError.
    """
    made_by, name = _factory(norm), norm.layer.partition(":")[2]
    _check_options(norm, made_by)
    at = {"place": place} if "place" in _parameters(made_by) else {}
    try:
        made = made_by(channels, **norm.keywords, **at)
    except BnlabError:
        raise
    except Exception as error:
        raise SpecError(
            f"the norm {norm.layer!r} cannot be made with {channels} channels and the options {norm.keywords} "
            f"({type(error).__name__}: {error}): it is called as {name}{_signature(made_by)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise SpecError(f"the norm {norm.layer!r} gave a {type(made).__name__}: expected a torch.nn.Module")
    if draws(made):
        made.register_forward_pre_hook(_with_generator, with_kwargs=True)
    return made


def draws(module: nn.Module) -> bool:
    """Whether the layer's forward takes a generator."""
    return "generator" in inspect.signature(module.forward).parameters


def use_generator(module: nn.Module, generator: torch.Generator) -> None:
    """Let the layer draw from this generator where it is called with x alone, as its network calls it."""
    vars(module)["_generator"] = generator


def _with_generator(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
    """Hand over the layer's generator; one with seed 0 where nobody gave it any."""
    if len(args) > 1 or "generator" in kwargs:
        return None
    if "_generator" not in vars(module):
        use_generator(module, torch.Generator(args[0].device).manual_seed(0))
    return args, kwargs | {"generator": vars(module)["_generator"]}


def asks_for_place(norm: Norm) -> bool:
    """Whether the layer's signature has a parameter `place`."""
    return "place" in _parameters(_factory(norm))


def _factory(norm: Norm) -> Callable[..., object]:
    module, _, name = norm.layer.partition(":")
    try:
        factory: Callable[..., object] = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise SpecError(
            f"the norm {norm.layer!r} cannot be imported ({type(error).__name__}: {error}): mend its module, or put it "
            "on the Python path"
        ) from error
    return factory


def _parameters(factory: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """The parameters behind the channels, by name; any keyword where Python cannot tell them."""
    try:
        return dict(list(inspect.signature(factory).parameters.items())[1:])
    except (TypeError, ValueError):
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def _check_options(norm: Norm, factory: Callable[..., object]) -> None:
    """A SpecError for the first option that the layer does not have."""
    taken = _parameters(factory)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    options = [name for name, parameter in taken.items() if parameter.kind in kinds and name != "place"]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    for option in norm.keywords:
        if option not in options:
            close = difflib.get_close_matches(option, options, n=1)
            has = f"it has {', '.join(options)}" if options else "it has none"
            meant = f"; did you mean {close[0]!r}?" if close else ""
            raise SpecError(f"the norm {norm.layer!r} has no option {option!r}: {has}{meant}")


def _signature(factory: object) -> str:
    try:
        return str(inspect.signature(factory))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(channels)"
