"""Norm slots: `slot(layers, device, dtype)` makes the fused form of one norm layer of K replicas."""

import torch
from torch import nn

from bnlab.engine.slots.base import IdentitySlot, Mode, Slot, State
from bnlab.engine.slots.batchnorm import NormSlot
from bnlab.engine.slots.custom import CustomSlot
from bnlab.norms import AffineLayer, BatchNorm, Identity

__all__ = ["CustomSlot", "IdentitySlot", "Mode", "NormSlot", "Slot", "State", "slot"]


def slot(layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> Slot:
    """The fused slot for the same place in every replica; a layer of somebody's own runs replica by replica."""
    # the very classes: a subclass may compute something else
    if all(type(layer) is Identity for layer in layers):
        return IdentitySlot()
    if all(type(layer) in (Identity, BatchNorm, AffineLayer) for layer in layers):
        return NormSlot(layers, device, dtype)
    return CustomSlot(layers, device, dtype)
