"""Triton kernels of the norm with all that follows it: scale and shift, the residual, the ReLU.

Axes, grids and offsets as in `bnlab.engine.kernels.triton_maps`: a replica's bits depend on nothing beside it.
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

# products and sums stay apart unless a kernel says fma: Triton's default depends on its version, and bits must not
_OPTIONS = {"enable_fp_fusion": False}


def norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    normalise: Tensor,
    eps: float,
    running: tuple[Tensor, Tensor] | None,
    momentum: float,
    residual: Tensor | None,
    relu: bool,
    readers: int = 1,
) -> tuple[Tensor, ...]:
    """BatchNorm of x [k, m, c] in the replicas that `normalise` [k] names, scale and shift [k, c], then what follows.

    Replicas with a 1 (or True) in `normalise` are normalised over m, as `batched.batch_norm` does it, and move
    their rows of `running` mean and variance [k, c], which must be contiguous, by a `momentum` above 0; the others get
    x * scale + shift and keep theirs. `residual` [k, m, c] is added to that; `relu` comes last. Gives y, twice for two
    `readers`: their gradients are added in the backward kernel.
    """
    assert scale.shape == shift.shape == (x.shape[0], x.shape[2]), (scale.shape, shift.shape, x.shape)
    flags = normalise.view(torch.uint8) if normalise.dtype == torch.bool else normalise
    ys: tuple[Tensor, ...] = _Norm.apply(x, scale, shift, residual, flags, running, (eps, momentum, relu, readers))
    return ys


class _Norm(Function):
    """BatchNorm or scale and shift, then residual and ReLU: one kernel each way where a tile holds all m, else two.

    Backward needs the sign of y. Without a residual it is worked out again from x, which backward reads anyway: 4 bytes
    an element less in each kernel than with a saved y. With one, y costs what the residual would, and is kept alive as
    the next block's input: y is saved, and the masked gradient, which is the residual's, is what the second kernel
    reads instead of both.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        residual: Tensor | None,
        flags: Tensor,
        running: tuple[Tensor, Tensor] | None,
        how: tuple[float, float, bool, int],
    ) -> tuple[Tensor, ...]:
        eps, momentum, relu, readers = how
        x, scale, shift = x.contiguous(), scale.contiguous(), shift.contiguous()
        k, m, c = x.shape
        grid, tile, options = _norm_tiles(x)
        y, saved = torch.empty_like(x), x.new_empty(k, 2, c)
        parts = x.new_empty(k, 2, grid[0], c) if grid[0] > 1 else x
        if grid[0] > 1:
            _norm_parts[grid](x, flags, parts, m, c, *tile, **options)
        moved, beside = running or (x, x), x if residual is None else residual.contiguous()
        tensors = (x, scale, shift, flags, parts, beside, *moved, y, saved)
        # not known to the compiler: training and testing take the same kernel
        momentum = 0.0 if running is None else momentum
        given = (residual is not None, relu, grid[0], triton.next_power_of_2(grid[0]))
        _norm_apply[grid](*tensors, m, c, momentum, eps, *given, *tile, **options)
        ctx.save_for_backward(x, y if relu and residual is not None else x, scale, shift, saved, flags)
        ctx.relu, ctx.residual = relu, residual is not None
        return (y, *(y.detach() for _ in range(readers - 1)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, more: Tensor | None = None) -> tuple[Tensor | None, ...]:
        x, y, scale, shift, saved, flags = ctx.saved_tensors
        k, m, c = x.shape
        grid, tile, options = _norm_tiles(x)
        grad, more = grad.contiguous(), more if more is None else more.contiguous()
        relu = ctx.relu * (1 + ctx.residual)
        masked = torch.empty_like(x) if relu == 2 or more is not None else grad
        given = (x, y, scale, shift, saved, masked)
        parts = x.new_empty(k, 2, grid[0], c) if grid[0] > 1 else x
        if grid[0] > 1:
            _norm_grad_parts[grid](grad, more, *given, parts, m, c, relu, *tile, **options)
            grad, more, relu = masked, None, relu % 2 if more is None else 0
        grad_x, (grad_scale, grad_shift) = torch.empty_like(x), x.new_empty(2, k, c)
        results = (parts, flags, grad_x, grad_scale, grad_shift)
        how = (relu, grid[0], triton.next_power_of_2(grid[0]))
        _norm_grad_apply[grid](grad, more, *given, *results, m, c, *how, *tile, **options)
        return grad_x, grad_scale, grad_shift, masked if ctx.residual else None, None, None, None


def _norm_tiles(x: Tensor) -> tuple[tuple[int, int, int], tuple[int, int], dict[str, Any]]:
    """For x [k, m, c] the grid, rows and columns of a tile, and what else a launch is told.

    Up to 1024 rows one tile holds them all, and a norm is one kernel. Beyond that every program reads the partial
    results of all tiles: 256 rows keep that below its own tile up to 64 tiles, and 1024 rows from there. A
    tile's row is 128 bytes, and 64 in tiles of more than 256 rows.
    """
    k, m, c = x.shape
    rows = 256 if 1024 < m <= 64 * 256 else min(1024, triton.next_power_of_2(m))
    cols = min((128 if rows <= 256 else 64) // x.element_size(), triton.next_power_of_2(c))
    warps = min(16, max(4, rows * cols // 1024))
    return (triton.cdiv(m, rows), triton.cdiv(c, cols), k), (rows, cols), {"num_warps": warps, **_OPTIONS}


@triton.jit
def _tile(m, c, rows: tl.constexpr, cols: tl.constexpr):
    """Offsets [rows, cols] from the replica's first element, which of them are there, channels, and which are there."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    channel = tl.program_id(1) * cols + tl.arange(0, cols)
    offsets = (row * c)[:, None] + channel[None, :]
    return offsets, (row < m)[:, None] & (channel < c)[None, :], channel, channel < c


@triton.jit
def _moments(x, value, inside, n, k, m, c, channel, there, rows: tl.constexpr):
    """Mean and sum of squared deviations of each column's n values, summed from the first one on to keep digits."""
    pivot = tl.load(x + k * (m * c) + tl.program_id(0) * rows * c + channel, mask=there, other=0.0)
    mean = pivot + tl.sum(tl.where(inside, value - pivot[None, :], 0.0), 0) / n
    deviation = tl.where(inside, value - mean[None, :], 0.0)
    return mean, tl.sum(deviation * deviation, 0)


@triton.jit
def _affine(value, mean, rstd, scale, shift):
    """(value - mean) * rstd * scale + shift; to the bit the same wherever it is used, and value itself for 0, 1, 1, 0.

    A shift of 0 is added as -0, which changes no number, whereas 0 would turn -0 into 0.
    """
    shift = tl.where(shift == 0, tl.abs(shift) * -1.0, shift)
    return tl.fma(value - mean[None, :], (rstd * scale)[None, :], shift[None, :])


@triton.jit
def _norm_parts(x, flags, parts, m, c, rows: tl.constexpr, cols: tl.constexpr):
    k = tl.program_id(2).to(tl.int64)
    if tl.load(flags + k) != 0:
        offsets, inside, channel, there = _tile(m, c, rows, cols)
        value = tl.load(x + k * (m * c) + offsets, mask=inside, other=0.0)
        n = tl.minimum(m - tl.program_id(0) * rows, rows).to(value.dtype)
        mean, squares = _moments(x, value, inside, n, k, m, c, channel, there, rows)
        part = parts + (2 * k * tl.num_programs(0) + tl.program_id(0)) * c + channel
        tl.store(part, mean, mask=there)
        tl.store(part + tl.num_programs(0) * c, squares, mask=there)


@triton.jit
def _both_parts(parts, k, c, channel, there, tiles: tl.constexpr, padded: tl.constexpr):
    """The two partial results of every tile of replica k, [padded, cols], zero where there is no tile; which are."""
    tile = tl.arange(0, padded)
    mask = (tile < tiles)[:, None] & there[None, :]
    part = parts + k * (2 * tiles * c) + (tile * c)[:, None] + channel[None, :]
    return tl.load(part, mask=mask, other=0.0), tl.load(part + tiles * c, mask=mask, other=0.0), mask


@triton.jit
def _norm_apply(
    x, scale, shift, flags, parts, residual, running_mean, running_var, y, saved, m, c, momentum: tl.float64,
    eps: tl.constexpr, adds: tl.constexpr, relu: tl.constexpr, tiles: tl.constexpr,
    padded: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr
):  # fmt: skip
    k = tl.program_id(2).to(tl.int64)
    offsets, inside, channel, there = _tile(m, c, rows, cols)
    value = tl.load(x + k * (m * c) + offsets, mask=inside, other=0.0)
    per_channel = k * c + channel
    mine = there & (channel >= tl.program_id(0) * c)  # in the first tile only
    mean = tl.full([cols], 0.0, value.dtype)
    rstd = tl.full([cols], 1.0, value.dtype)
    if tl.load(flags + k) != 0:
        n = m.to(value.dtype)
        if tiles == 1:
            mean, squares = _moments(x, value, inside, n, k, m, c, channel, there, rows)
        else:
            # Chan, Golub & LeVeque 1983, over all tiles at once
            means, within, mask = _both_parts(parts, k, c, channel, there, tiles, padded)
            counts = tl.minimum(m - tl.arange(0, padded) * rows, rows).to(value.dtype)[:, None]
            pivot = tl.load(parts + k * (2 * tiles * c) + channel, mask=there, other=0.0)
            mean = pivot + tl.sum(tl.where(mask, means - pivot[None, :], 0.0) * counts, 0) / n
            between = tl.where(mask, means - mean[None, :], 0.0)
            squares = tl.sum(within + between * between * counts, 0)
        rstd = tl.rsqrt(squares / n + eps)
        if momentum != 0:
            weight = tl.full([cols], momentum, value.dtype)
            old = tl.load(running_mean + per_channel, mask=mine)
            tl.store(running_mean + per_channel, old + weight * (mean - old), mask=mine)
            old = tl.load(running_var + per_channel, mask=mine)
            tl.store(running_var + per_channel, old + weight * (squares / (n - 1.0) - old), mask=mine)
    tl.store(saved + 2 * k * c + channel, mean, mask=mine)
    tl.store(saved + (2 * k + 1) * c + channel, rstd, mask=mine)
    factor = tl.load(scale + per_channel, mask=there, other=0.0)
    constant = tl.load(shift + per_channel, mask=there, other=0.0)
    value = _affine(value, mean, rstd, factor, constant)
    if adds:
        value += tl.load(residual + k * (m * c) + offsets, mask=inside, other=0.0)
    if relu:
        value = tl.where(value <= 0, 0.0, value)  # and not a maximum, which would lose NaN
    tl.store(y + k * (m * c) + offsets, value, mask=inside)


@triton.jit
def _loaded(
    grad, more, x, y, scale, shift, saved, masked, m, c, relu: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr
):
    """The gradient behind the ReLU, xhat, and the factor of x; relu is 1 without a residual and 2 with one.

    `more` is the gradient of a second reader, or None.
    """
    k = tl.program_id(2).to(tl.int64)
    offsets, inside, channel, there = _tile(m, c, rows, cols)
    offsets = k * (m * c) + offsets
    per_channel = k * c + channel
    upstream = tl.load(grad + offsets, mask=inside, other=0.0)
    if more is not None:
        upstream += tl.load(more + offsets, mask=inside, other=0.0)
    value = tl.load(x + offsets, mask=inside, other=0.0)
    mean = tl.load(saved + 2 * k * c + channel, mask=there, other=0.0)
    rstd = tl.load(saved + (2 * k + 1) * c + channel, mask=there, other=1.0)
    factor = tl.load(scale + per_channel, mask=there, other=0.0)
    if relu == 1:
        constant = tl.load(shift + per_channel, mask=there, other=0.0)
        upstream = tl.where(_affine(value, mean, rstd, factor, constant) <= 0, 0.0, upstream)
    if relu == 2:
        upstream = tl.where(tl.load(y + offsets, mask=inside, other=0.0) <= 0, 0.0, upstream)
    if relu == 2 or more is not None:
        tl.store(masked + offsets, upstream, mask=inside)
    return upstream, (value - mean[None, :]) * rstd[None, :], rstd * factor


@triton.jit
def _norm_grad_parts(
    dy, more, x, y, scale, shift, saved, masked, parts, m, c, relu: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr
):
    upstream, xhat, _ = _loaded(dy, more, x, y, scale, shift, saved, masked, m, c, relu, rows, cols)
    channel = tl.program_id(1) * cols + tl.arange(0, cols)
    part = parts + (2 * tl.program_id(2).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)) * c + channel
    tl.store(part, tl.sum(upstream * xhat, 0), mask=channel < c)
    tl.store(part + tl.num_programs(0) * c, tl.sum(upstream, 0), mask=channel < c)


@triton.jit
def _norm_grad_apply(
    grad, more, x, y, scale, shift, saved, masked, parts, flags, grad_x, grad_scale, grad_shift, m, c,
    relu: tl.constexpr, tiles: tl.constexpr, padded: tl.constexpr, rows: tl.constexpr, cols: tl.constexpr
):  # fmt: skip
    k = tl.program_id(2).to(tl.int64)
    upstream, xhat, factor = _loaded(grad, more, x, y, scale, shift, saved, masked, m, c, relu, rows, cols)
    offsets, inside, channel, there = _tile(m, c, rows, cols)
    if tiles == 1:
        along, constant = tl.sum(upstream * xhat, 0), tl.sum(upstream, 0)
    else:
        first, second, _ = _both_parts(parts, k, c, channel, there, tiles, padded)
        along, constant = tl.sum(first, 0), tl.sum(second, 0)
    mine = there & (channel >= tl.program_id(0) * c)
    tl.store(grad_scale + k * c + channel, along, mask=mine)
    tl.store(grad_shift + k * c + channel, constant, mask=mine)
    if tl.load(flags + k) != 0:
        n = m.to(upstream.dtype)
        upstream -= (constant / n)[None, :] + xhat * (along / n)[None, :]
    tl.store(grad_x + k * (m * c) + offsets, upstream * factor[None, :], mask=inside)
