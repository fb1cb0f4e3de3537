"""What stands in the norm slot: `layer(norm, channels)` builds it for every Norm."""

import importlib

from torch import nn

from bnlab.errors import SpecError
from bnlab.norms.affine import AffineLayer
from bnlab.norms.batchnorm import BatchNorm
from bnlab.specs import Norm

__all__ = ["AffineLayer", "BatchNorm", "layer"]


def layer(norm: Norm, channels: int) -> nn.Module:
    """The module for this many channels; none of ours draws random numbers, so one seed pairs all arms."""
    match norm.layer:
        case "batchnorm":
            return BatchNorm(channels, scale=norm.scale, shift=norm.shift)
        case "affine":
            return AffineLayer(channels if norm.per == "channel" else 1, scale=norm.scale, shift=norm.shift)
        case "none":
            return nn.Identity()
    return _own(norm.layer, channels)


def _own(name: str, channels: int) -> nn.Module:
    """Build `package.module:Class` with the number of channels; a SpecError says what is missing."""
    where, _, what = name.partition(":")
    try:
        factory = getattr(importlib.import_module(where), what)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"the norm {name!r} cannot be imported ({error}): put its module on the Python path") from error
    try:
        made = factory(channels)
    except Exception as error:
        raise SpecError(
            f"the norm {name!r} cannot be made ({type(error).__name__}: {error}): "
            f"expected a class that is called with nothing but the number of channels, here {channels}"
        ) from error
    if not isinstance(made, nn.Module):
        raise SpecError(f"the norm {name!r} gave a {type(made).__name__}: expected a torch.nn.Module")
    return made
