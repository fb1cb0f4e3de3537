"""Convolution and BatchNorm of K replicas, with the backward passes of the batched forms written out.

Axes: k replicas, b images, h w map, c channels in, o channels out, m = b*h*w positions, t live taps. Activations are
[k, b, h, w, c], so a convolution is one batched matrix product: patches [k, m, t*c] times weights [k, o, t*c]. Replica
k of any K is a product of the same numbers, which is what makes a fused replica the solo one: to the bit on a CPU; on a
GPU the library may choose another product for another K, whose last bits differ.
"""

import importlib
import importlib.util
import itertools
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bnlab.engine.fallbacks import uses
from bnlab.engine.kernels.taps import ConvGeometry
from bnlab.engine.side import Side


def fused_kernels(x: Tensor, of: Literal["maps", "norm"]) -> ModuleType | None:
    """The Triton kernels for this tensor: on a GPU, where PyTorch brought Triton along and it is not switched off."""
    return _triton(of) if x.is_cuda and uses("triton") else None


@cache
def _triton(of: str) -> ModuleType | None:
    return importlib.import_module(f"bnlab.engine.kernels.triton_{of}") if importlib.util.find_spec("triton") else None


def patches(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The live patches of x [k, b, h, w, c] as [k, m, t*c]; a view wherever every number is met exactly once."""
    k, b, _, _, c = x.shape
    taps, stride, out = geometry.taps, geometry.stride, geometry.size_out
    before, after = geometry.margin
    if geometry.is_view:
        return x.reshape(k, b * out * out, taps * taps * c)
    if (fused := fused_kernels(x, "maps")) is not None:
        columns: Tensor = fused.patches(x, geometry)
        return columns
    if before or after > 0:
        x = F.pad(x, (0, 0, before, after, before, after))
    sk, sb, sh, sw, sc = x.stride()
    windows = x.as_strided((k, b, out, out, taps, taps, c), (sk, sb, sh * stride, sw * stride, sh, sw, sc))
    # never a strided view: oneDNN multiplies such a matrix by its reference code, a hundred times slower
    return windows.reshape(k, b * out * out, taps * taps * c).contiguous()


def fold(grad: Tensor, geometry: ConvGeometry, b: int) -> Tensor:
    """The adjoint of `patches`: gradients of patches [k, m, t*c] summed into the map [k, b, h, w, c]."""
    k, c = grad.shape[0], geometry.c_in
    taps, stride, out, size = geometry.taps, geometry.stride, geometry.size_out, geometry.size_in
    before, after = geometry.margin
    if geometry.is_view:
        return grad.view(k, b, size, size, c)
    if (fused := fused_kernels(grad, "maps")) is not None:
        folded: Tensor = fused.fold(grad, geometry, b)
        return folded
    if (meetings := _meetings(geometry, grad.device)) is not None:
        return grad.view(k, b, -1, c).index_select(2, meetings).view(k, b, size, size, -1, c).sum(4)
    grad = grad.view(k, b, out, out, taps, taps, c)
    width = size + before + max(after, 0)
    padded = grad.new_zeros(k, b, width, width, c)
    reach = (out - 1) * stride + 1
    for row in range(taps):
        for column in range(taps):
            # add_ and not +=, which would also copy the sum onto itself
            part = grad[:, :, :, :, row, column]
            padded[:, :, row : row + reach : stride, column : column + reach : stride].add_(part)
    return padded[:, :, before : before + size, before : before + size]


@cache
def _meetings(geometry: ConvGeometry, device: torch.device) -> Tensor | None:
    """Where each pixel of the map is met among an image's patches, if every pixel is met equally often; else None.

    So it is on the 2x2 maps of the third stage: a gather and a sum take the place of nine strided additions.
    """
    met: dict[tuple[int, int], list[int]] = {}
    places = itertools.product(
        range(geometry.size_out), range(geometry.size_out), range(geometry.taps), range(geometry.taps)
    )
    for at, (row, column, down, right) in enumerate(places):
        h, w = (first * geometry.stride + tap - geometry.margin[0] for first, tap in ((row, down), (column, right)))
        if 0 <= h < geometry.size_in and 0 <= w < geometry.size_in:
            met.setdefault((h, w), []).append(at)
    if len(met) < geometry.size_in**2 or len(set(map(len, met.values()))) > 1:
        return None
    return torch.tensor([at for pixel in sorted(met) for at in met[pixel]], device=device)


class _Product(Function):
    """patches [k, m, t*c] times weight [k, o, t*c], whose patches are not kept apart from the map they come from."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: ConvGeometry, side: Side | None) -> Tensor:
        columns = patches(x, geometry)
        ctx.save_for_backward(columns, weight)
        ctx.geometry, ctx.b, ctx.side = geometry, x.shape[1], side
        return _multiply(columns, weight.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        columns, weight = ctx.saved_tensors

        def of_weight() -> Tensor:
            return _multiply(grad.transpose(1, 2), columns)

        grad_weight = of_weight() if ctx.side is None else ctx.side.run(of_weight, grad, columns)
        grad_x = fold(_multiply(grad, weight), ctx.geometry, ctx.b) if ctx.needs_input_grad[0] else None
        return grad_x, grad_weight, None, None


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """a [k, m, n] times b [k, n, o].

    One replica in fp32 on a CPU goes through oneDNN, which uses AVX-512 on every maker's processors: 2.3 times the
    speed of MKL's product on an AMD EPYC (240 against 105 GFLOP/s on one core).
    """
    if len(a) == 1 and a.device.type == "cpu" and a.dtype == torch.float32 and _onednn is not None:
        product: Tensor = _onednn(a[0], b[0].t(), None, "none", [], "")
        return product.unsqueeze_(0)  # in place: a view could not be handed out of a Function and then changed
    return torch.bmm(a, b)


_onednn = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None  # type: ignore[no-untyped-call]


def conv(x: Tensor, weight: Tensor, geometry: ConvGeometry, side: Side | None = None) -> Tensor:
    """Convolve x [k, b, h, w, c] with weight [k, o, t*c/groups], each replica with its own; gives [k, b, h', w', o].

    With a `side` the gradient of a weight, which must be a leaf then, is computed there.

    A single replica on a CPU takes torch's own convolution where that is faster than patches: where every tap is live,
    on maps from 4x4 on (8x8 at stride 2), or where the convolution has groups.
    """
    if len(x) == 1 and x.device.type == "cpu" and (_direct(geometry) or geometry.groups > 1):
        kernel = weight.view(geometry.c_out, geometry.taps, geometry.taps, -1).permute(0, 3, 1, 2)
        image, padding = x.squeeze(0).permute(0, 3, 1, 2), geometry.padding
        if geometry.taps < geometry.kernel:
            before, after = geometry.margin
            image, padding = F.pad(image, (before, after, before, after)), 0
        y = F.conv2d(image, kernel, stride=geometry.stride, padding=padding, groups=geometry.groups)
        return y.permute(0, 2, 3, 1)[None]
    if geometry.groups > 1:
        return _grouped(x, weight, geometry)
    out: Tensor = _Product.apply(x, weight, geometry, side)
    return out.view(x.shape[0], x.shape[1], geometry.size_out, geometry.size_out, geometry.c_out)


def _grouped(x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """The same with groups: each group of each replica is a product of its own, so k and groups lead together."""
    k, b, size, _, c = x.shape
    g = geometry.groups
    apart = x.view(k, b, size, size, g, c // g).permute(0, 4, 1, 2, 3, 5).reshape(k * g, b, size, size, c // g)
    part = replace(geometry, c_in=c // g, c_out=geometry.c_out // g, groups=1)
    y = conv(apart, weight.reshape(k * g, part.c_out, -1), part)
    y = y.view(k, g, b, geometry.size_out, geometry.size_out, part.c_out)
    return y.permute(0, 2, 3, 4, 1, 5).reshape(k, b, geometry.size_out, geometry.size_out, geometry.c_out)


def _direct(geometry: ConvGeometry) -> bool:
    return 1 < geometry.taps == geometry.kernel and geometry.size_in >= 4 * geometry.stride


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
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, mean, rstd, scale = ctx.saved_tensors
        m = x.shape[1]
        grad_shift = grad.sum(1, keepdim=True)
        # sum of grad * xhat, with xhat = (x - mean) * rstd never materialised
        grad_scale = ((grad * x).sum(1, keepdim=True) - mean * grad_shift) * rstd
        factor = scale[:, None] * rstd
        along = -factor * rstd * grad_scale / m
        constant = -factor * grad_shift / m - along * mean
        grad_x = torch.addcmul(torch.addcmul(constant, x, along), grad, factor)
        return grad_x, grad_scale[:, 0], grad_shift[:, 0], None


def batch_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    eps: float,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    *,
    alone: bool = True,
) -> Tensor:
    """Normalise x [k, m, c] over m, then scale and shift [k, c].

    `running` mean and variance [k, c] move by `momentum` towards the batch's mean and unbiased variance. Ioffe &
    Szegedy 2015, algorithm 1; the paper's section 2.1.1. A single replica on a CPU takes torch's own kernel, unless it
    is not `alone` but part of a larger program.
    """
    if alone and len(x) == 1 and x.device.type == "cpu":
        mean, var = (None, None) if running is None else (running[0][0], running[1][0])
        # squeeze and not [0], whose gradient is a copy
        one, scale, shift = x.squeeze(0), scale.squeeze(0), shift.squeeze(0)
        return F.batch_norm(one, mean, var, scale, shift, True, momentum, eps)[None]
    y, mean, var = _BatchNorm.apply(x, scale, shift, eps)
    if running is not None:
        m = x.shape[1]
        running[0].lerp_(mean[:, 0], momentum)
        running[1].lerp_(var[:, 0] * (m / (m - 1)), momentum)
    normalised: Tensor = y
    return normalised


class _MaxPool(Function):
    """The largest of each window of x [k, b, h, w, c]; its gradient goes to the first of them, tap by tap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        k, b, size, _, c = x.shape
        padded = F.pad(x, (0, 0, padding, padding, padding, padding), value=-torch.inf)
        out = (size + 2 * padding - kernel) // stride + 1
        sk, sb, sh, sw, sc = padded.stride()
        shape = (k, b, out, out, kernel, kernel, c)
        windows = padded.as_strided(shape, (sk, sb, stride * sh, stride * sw, sh, sw, sc))
        largest, where = windows.reshape(k, b, out, out, kernel**2, c).max(4)
        ctx.save_for_backward(where.to(torch.uint8))
        ctx.shape, ctx.window = padded.shape, (kernel, stride, padding)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (where,) = ctx.saved_tensors
        kernel, stride, padding = ctx.window
        padded = grad.new_zeros(ctx.shape)
        reach = stride * (grad.shape[2] - 1) + 1
        for tap in range(kernel**2):
            row, column = divmod(tap, kernel)
            part = torch.where(where == tap, grad, 0)
            padded[:, :, row : row + reach : stride, column : column + reach : stride].add_(part)
        inner = slice(padding, padded.shape[2] - padding)
        return padded[:, :, inner, inner].contiguous(), None, None, None


def max_pool(x: Tensor, kernel: int = 3, stride: int = 2, padding: int = 1) -> Tensor:
    """Max pooling over square windows of x [k, b, h, w, c].

    torch's own backward pass adds in no fixed order on a GPU, where windows overlap; this one does. On a CPU torch's is
    deterministic and faster, and seen as [k*b, c, h, w] in channels-last memory it needs no copy.
    """
    if x.device.type == "cpu" and len(x) == 1:
        pooled = F.max_pool2d(x.squeeze(0).permute(0, 3, 1, 2), kernel_size=kernel, stride=stride, padding=padding)
        return pooled.permute(0, 2, 3, 1)[None]
    # the kernels are written for the ResNets' stem
    fused = fused_kernels(x, "maps") if (kernel, stride, padding) == (3, 2, 1) else None
    largest: Tensor = _MaxPool.apply(x, kernel, stride, padding) if fused is None else fused.max_pool(x)
    return largest
