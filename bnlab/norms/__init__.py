"""What stands in the norm slot: `layer(norm, channels)` builds it for every Norm."""

import importlib
import inspect

from torch import nn

from bnlab.errors import SpecError
from bnlab.norms.affine import AffineLayer
from bnlab.norms.batchnorm import BatchNorm
from bnlab.norms.none import Identity
from bnlab.parts import Norm

__all__ = ["AffineLayer", "BatchNorm", "Identity", "layer"]


def layer(norm: Norm, channels: int) -> nn.Module:
    """The module for this many channels; none of ours draws random numbers, so one seed pairs all arms.

    A layer that cannot be imported or made, or that has no such option, is a SpecError.
    """
    module, _, name = norm.layer.partition(":")
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"the norm {norm.layer!r} cannot be imported ({error}): put its module on the Python path"
        ) from error
    try:
        made = factory(channels, **norm.keywords)
    except Exception as error:
        raise SpecError(
            f"the norm {norm.layer!r} cannot be made with {channels} channels and the options {norm.keywords} "
            f"({type(error).__name__}: {error}): it is called as {name}{_signature(factory)}"
        ) from error
    if not isinstance(made, nn.Module):
        raise SpecError(f"the norm {norm.layer!r} gave a {type(made).__name__}: expected a torch.nn.Module")
    return made


def _signature(factory: object) -> str:
    try:
        return str(inspect.signature(factory))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(channels)"
