"""Convolution and BatchNorm of K replicas at once, with their backward passes written out.

Axes: k replicas, b images, h w map, c channels in, o channels out, m = b*h*w positions, t live taps. Activations are
[k, b, h, w, c], so a convolution is one batched matrix product: patches [k, m, t*c] times weights [k, t*c, o]. Replica
k of any K is the same product of the same numbers, which is what makes a fused replica the solo one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bnlab.engine.taps import ConvPlan


def patches(x: Tensor, plan: ConvPlan) -> Tensor:
    """The live patches of x [k, b, h, w, c] as [k, m, t*c]; a view wherever every number is met exactly once."""
    k, b, size, _, c = x.shape
    taps, stride, out = plan.taps, plan.stride, plan.size_out
    before, after = plan.margin
    if taps == 1 and stride == 1 or (out == 1 and taps == size and before == 0):
        return x.reshape(k, b * out * out, taps * taps * c)
    if before or after > 0:
        x = F.pad(x, (0, 0, before, after, before, after))
    sk, sb, sh, sw, sc = x.stride()
    windows = x.as_strided((k, b, out, out, taps, taps, c), (sk, sb, sh * stride, sw * stride, sh, sw, sc))
    return windows.reshape(k, b * out * out, taps * taps * c)


def fold(grad: Tensor, plan: ConvPlan, b: int) -> Tensor:
    """The adjoint of `patches`: gradients of patches [k, m, t*c] summed into the map [k, b, h, w, c]."""
    k, c = grad.shape[0], plan.c_in
    taps, stride, out, size = plan.taps, plan.stride, plan.size_out, plan.size_in
    before, after = plan.margin
    if taps == 1 and stride == 1 or (out == 1 and taps == size and before == 0):
        return grad.view(k, b, size, size, c)
    grad = grad.view(k, b, out, out, taps, taps, c)
    width = size + before + max(after, 0)
    padded = grad.new_zeros(k, b, width, width, c)
    reach = (out - 1) * stride + 1
    for row in range(taps):
        for column in range(taps):
            padded[:, :, row : row + reach : stride, column : column + reach : stride] += grad[:, :, :, :, row, column]
    return padded[:, :, before : before + size, before : before + size]


class _Conv(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, plan: ConvPlan) -> Tensor:
        columns = patches(x, plan)
        ctx.save_for_backward(columns, weight)
        ctx.plan, ctx.b = plan, x.shape[1]
        return torch.bmm(columns, weight)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None]:
        columns, weight = ctx.saved_tensors
        grad_weight = torch.bmm(columns.transpose(1, 2), grad)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = fold(torch.bmm(grad, weight.transpose(1, 2)), ctx.plan, ctx.b)
        return grad_x, grad_weight, None


def conv(x: Tensor, weight: Tensor, plan: ConvPlan) -> Tensor:
    """Convolve x [k, b, h, w, c] with weight [k, t*c, o], each replica with its own kernel; gives [k, b, h', w', o]."""
    out: Tensor = _Conv.apply(x, weight, plan)
    return out.view(x.shape[0], x.shape[1], plan.size_out, plan.size_out, plan.c_out)


class _BatchNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        var, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        rstd = torch.rsqrt(var + eps)
        factor = scale[:, None] * rstd
        ctx.save_for_backward(x, mean, rstd, scale)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(shift[:, None] - mean * factor, x, factor), mean, var

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, rstd, scale = ctx.saved_tensors
        m = x.shape[1]
        grad_shift = grad.sum(1, keepdim=True)
        # sum of grad * xhat, with xhat = (x - mean) * rstd never materialised
        grad_scale = (torch.einsum("kmc,kmc->kc", grad, x)[:, None] - mean * grad_shift) * rstd
        factor = scale[:, None] * rstd
        along = -factor * rstd * grad_scale / m
        constant = -factor * grad_shift / m - along * mean
        grad_x = torch.addcmul(torch.addcmul(constant, x, along), grad, factor)
        return grad_x, grad_scale[:, 0], grad_shift[:, 0], None


def batch_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise x [k, m, c] over m, then scale and shift [k, c]; gives y, mean [k, 1, c] and biased var [k, 1, c].

    Ioffe & Szegedy 2015, algorithm 1; the paper's section 2.1.1.
    """
    y, mean, var = _BatchNorm.apply(x, scale, shift, eps)
    return y, mean, var
