"""Triton kernels that move a map's numbers: patches, their adjoint, and max pooling.

Axes as in `batched`. The replica is the last axis of every grid, and tiles follow from m and c alone: replica
k is the same program on the same numbers whatever K is. Nothing adds atomically, so nothing depends on the order of
blocks. Offsets within a replica are int32 (a replica's tensor has fewer than 2**31 elements), those of replicas int64.
"""

# Triton has no types, and is not there on every machine that mypy runs on
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,import-untyped,import-not-found"
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bnlab.engine.kernels.taps import ConvGeometry

# products and sums stay apart unless a kernel says fma: Triton's default depends on its version, and bits must not
_OPTIONS = {"enable_fp_fusion": False}


def patches(x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The live patches of x [k, b, h, w, c], with zeros around the map, copied to [k, b*h'*w', taps*taps*c]."""
    k, b, size, _, c = x.shape
    m, width = b * geometry.size_out**2, geometry.taps**2 * c
    columns = x.new_empty(k, m, width)
    # columns divide the width where they can, so that no lane idles and a program mostly meets one tap
    cols = min(256, max(32, width & -width))
    rows = 4096 // cols
    grid = (triton.cdiv(m, rows), triton.cdiv(width, cols), k)
    sizes = (size, geometry.size_out, geometry.taps, geometry.stride, geometry.margin[0])
    _patches[grid](x.contiguous(), columns, m, c, *sizes, rows, cols, **_OPTIONS)
    return columns


def fold(grad: Tensor, geometry: ConvGeometry, b: int) -> Tensor:
    """The adjoint of `patches`: gradients of patches [k, m, t*c] summed into the map [k, b, h, w, c], tap by tap."""
    k, c, size = grad.shape[0], geometry.c_in, geometry.size_in
    x = grad.new_empty(k, b, size, size, c)
    n = b * size**2
    grid, tile = _tiles(k, n, c)
    sizes = (size, geometry.size_out, geometry.taps, geometry.stride, geometry.margin[0])
    _fold[grid](grad.contiguous(), x, n, c, *sizes, _wide(grad), *tile, **_OPTIONS)
    return x


def max_pool(x: Tensor) -> Tensor:
    """The stem's pooling, 3x3 at stride 2 with padding 1, of x [k, b, h, w, c]; NaN and ties as in torch's own."""
    pooled: Tensor = _MaxPool.apply(x)
    return pooled


def _wide(x: Tensor) -> Any:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _tiles(k: int, n: int, c: int) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """Grid, and rows and columns of a tile of 2048 elements of n positions with c channels."""
    cols = min(128, triton.next_power_of_2(c))
    rows = 2048 // cols
    return (triton.cdiv(n, rows), triton.cdiv(c, cols), k), (rows, cols)


@triton.jit
def _patches(
    x,
    columns,
    m,
    c,
    size: tl.constexpr,
    out: tl.constexpr,
    taps: tl.constexpr,
    stride: tl.constexpr,
    before: tl.constexpr,
    rows: tl.constexpr,
    cols: tl.constexpr,
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * cols + tl.arange(0, cols)
    k = tl.program_id(2).to(tl.int64)
    image, at = row // (out * out), row % (out * out)
    top, left = at // out * stride - before, at % out * stride - before
    tap, channel = column // c, column % c
    down, right = tap // taps, tap % taps
    live = (row < m)[:, None] & (column < taps * taps * c)[None, :]
    h, w = top[:, None] + down[None, :], left[:, None] + right[None, :]
    inside = live & (h >= 0) & (h < size) & (w >= 0) & (w < size)
    window = ((image * size + top) * size + left) * c
    within = (down * size + right) * c + channel
    x += k * (m // (out * out) * size * size * c)
    columns += k * (m * taps * taps * c)
    value = tl.load(x + window[:, None] + within[None, :], mask=inside, other=0.0)
    tl.store(columns + (row * taps * taps * c)[:, None] + column[None, :], value, mask=live)


@triton.jit
def _fold(
    grad,
    x,
    n,
    c,
    size: tl.constexpr,
    out: tl.constexpr,
    taps: tl.constexpr,
    stride: tl.constexpr,
    before: tl.constexpr,
    wide: tl.constexpr,
    rows: tl.constexpr,
    cols: tl.constexpr,
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * cols + tl.arange(0, cols)
    k = tl.program_id(2).to(tl.int64)
    image, at = row // (size * size), row % (size * size)
    h, w = at // size + before, at % size + before
    live = (row < n)[:, None] & (channel < c)[None, :]
    grad += k * (n // (size * size) * out * out * taps * taps * c)
    total = tl.full([rows, cols], 0.0, wide)
    # of `stride` neighbouring taps one at most meets this row, and one this column
    for i in tl.static_range((taps + stride - 1) // stride):
        top, down = h // stride - i, h % stride + i * stride
        for j in tl.static_range((taps + stride - 1) // stride):
            left, right = w // stride - j, w % stride + j * stride
            met = (down < taps) & (top >= 0) & (top < out) & (right < taps) & (left >= 0) & (left < out)
            source = ((((image * out + top) * out + left) * taps + down) * taps + right) * c
            part = tl.load(grad + source[:, None] + channel[None, :], mask=live & met[:, None], other=0.0)
            total += part.to(wide)
    x += k * (n * c)
    tl.store(x + (row * c)[:, None] + channel[None, :], total.to(x.dtype.element_ty), mask=live)


class _MaxPool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        k, b, size, _, c = x.shape
        out = (size - 1) // 2 + 1
        largest = x.new_empty(k, b, out, out, c)
        where = torch.empty_like(largest, dtype=torch.uint8)
        grid, tile = _tiles(k, b * out**2, c)
        _pool[grid](x.contiguous(), largest, where, b * out**2, c, size, out, *tile, **_OPTIONS)
        ctx.save_for_backward(where)
        ctx.shape = x.shape
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (where,) = ctx.saved_tensors
        k, b, size, _, c = ctx.shape
        grad_x = grad.new_empty(ctx.shape)
        grid, tile = _tiles(k, b * size**2, c)
        _pool_grad[grid](grad.contiguous(), where, grad_x, b * size**2, c, size, where.shape[2], *tile, **_OPTIONS)
        return grad_x


@triton.jit
def _pool(x, largest, where, n, c, size: tl.constexpr, out: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * cols + tl.arange(0, cols)
    k = tl.program_id(2).to(tl.int64)
    image, at = row // (out * out), row % (out * out)
    live = (row < n)[:, None] & (channel < c)[None, :]
    x += k * (n // (out * out) * size * size * c)
    best = tl.full([rows, cols], float("-inf"), x.dtype.element_ty)
    tap = tl.full([rows, cols], 9, tl.int32)
    for down in tl.static_range(3):
        h = at // out * 2 - 1 + down
        for right in tl.static_range(3):
            w = at % out * 2 - 1 + right
            inside = live & ((h >= 0) & (h < size) & (w >= 0) & (w < size))[:, None]
            source = ((image * size + h) * size + w) * c
            value = tl.load(x + source[:, None] + channel[None, :], mask=inside, other=float("-inf"))
            # the first tap on the map, then any larger one or NaN: torch's own rule
            better = inside & ((tap == 9) | (value > best) | (value != value))
            best = tl.where(better, value, best)
            tap = tl.where(better, down * 3 + right, tap)
    target = k * (n * c) + ((row * c)[:, None] + channel[None, :])
    tl.store(largest + target, best, mask=live)
    tl.store(where + target, tap.to(tl.uint8), mask=live)


@triton.jit
def _pool_grad(
    grad, where, grad_x, n, c, size: tl.constexpr, out: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr
):
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * cols + tl.arange(0, cols)
    k = tl.program_id(2).to(tl.int64)
    image, at = row // (size * size), row % (size * size)
    h, w = at // size + 1, at % size + 1
    live = (row < n)[:, None] & (channel < c)[None, :]
    pooled = k * (n // (size * size) * out * out * c)
    total = tl.full([rows, cols], 0.0, grad.dtype.element_ty)
    for i in tl.static_range(2):
        top, down = h // 2 - i, h % 2 + i * 2
        for j in tl.static_range(2):
            left, right = w // 2 - j, w % 2 + j * 2
            met = (down < 3) & (top >= 0) & (top < out) & (right < 3) & (left >= 0) & (left < out)
            source = pooled + (((image * out + top) * out + left) * c)[:, None] + channel[None, :]
            mask = live & met[:, None]
            tap = tl.load(where + source, mask=mask, other=9).to(tl.int32)
            part = tl.load(grad + source, mask=mask, other=0.0)
            total += tl.where(tap == (down * 3 + right)[:, None], part, 0.0)
    tl.store(grad_x + k * (n * c) + ((row * c)[:, None] + channel[None, :]), total, mask=live)
