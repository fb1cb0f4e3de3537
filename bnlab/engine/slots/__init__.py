"""Norm slots: `slot(layers, device, dtype, name)` makes the fused form of one norm layer of K replicas.

A layer offers a fused form by an attribute `slot` of its class, see `bnlab.norms`. Any other layer, a subclass of one
with a fused form among them, is called replica by replica.
"""

import importlib

import torch
from torch import nn

from bnlab.engine.slots.base import IdentitySlot, Mode, Slot, State
from bnlab.engine.slots.batchnorm import NormSlot
from bnlab.engine.slots.custom import CustomSlot

__all__ = ["CustomSlot", "IdentitySlot", "Mode", "NormSlot", "Slot", "State", "slot"]


def slot(layers: list[nn.Module], device: torch.device, dtype: torch.dtype, name: str = "") -> Slot:
    """The slot for the same layer in every replica; `name` is that of the layer in the network, for messages."""
    # of the very class: a subclass may compute something else, so it does not inherit a fused form
    fused = {vars(type(layer)).get("slot") for layer in layers}
    if len(fused) > 1 or None in fused:
        return CustomSlot(layers, device, dtype, name)
    module, _, function = str(fused.pop()).partition(":")
    made: Slot = getattr(importlib.import_module(module), function)(layers, device, dtype)
    return made
