"""Weight normalisation of K replicas: w = g * v / |v|, the norm over a filter, for torch's parametrization.

Salimans & Kingma 2016, equations 2 and 3. v [k, o, n] holds all taps of a filter as a row, since those that meet no
data are part of its length; w [k, o, t*c] has the live ones alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bnlab.engine.kernels.taps import ConvGeometry


def weight_norm(v: Tensor, g: Tensor, geometry: ConvGeometry) -> Tensor:
    """The live taps of g * v / |v| as rows [k, o, t*c], for v [k, o, n] with all taps and g [k, o]."""
    weight: Tensor = _WeightNorm.apply(v, g, geometry)
    return weight


class _WeightNorm(Function):
    """One pass over v and one over the live taps either way; torch's makes the whole weight first."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, geometry: ConvGeometry) -> Tensor:
        length = torch.linalg.vector_norm(v, dim=2)
        ctx.save_for_backward(v, g, length)
        ctx.geometry = geometry
        live = _live(v, geometry)
        w: Tensor = live * (g / length)[..., None, None, None]
        return w.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_w: Tensor) -> tuple[Tensor, Tensor, None]:
        """dg = dw . v / |v|;  dv = (g / |v|) * (dw - v * dg / |v|), where dw is 0 for taps that meet no data."""
        v, g, length = ctx.saved_tensors
        live = _live(v, ctx.geometry)
        of_g = torch.linalg.vecdot(of_w, live.flatten(2)) / length
        factor = g / length
        of_v = v * (-factor * of_g / length)[..., None]
        _live(of_v, ctx.geometry).addcmul_(of_w.reshape(live.shape), factor[..., None, None, None])
        return of_v, of_g, None


def _live(rows: Tensor, geometry: ConvGeometry) -> Tensor:
    """A view [k, o, taps, taps, c] of the live taps of rows with all of them."""
    kernel, first, last = geometry.kernel, geometry.first, geometry.last
    return rows.view(*rows.shape[:2], kernel, kernel, -1)[:, :, first:last, first:last]
