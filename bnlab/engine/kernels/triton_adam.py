"""A Triton kernel that steps Adam for any number of leaves in one launch: a table on the device says where they lie.

Every element is stepped by itself, so the bits of a replica depend on nothing beside it.
"""

# Triton has no types, and is not there on every machine that mypy runs on
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator,import-untyped,import-not-found"
import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Elements that one program steps."""


def rows(leaves: Sequence[Sequence[Tensor]]) -> list[list[int]]:
    """The table of leaves, each (weight, gradient, first moment, second moment, count of steps), all contiguous.

    Seven rows with a number a leaf: the five addresses, its elements, and the first of the programs that step it; the
    last column holds the number of programs.
    """
    sizes = [leaf[0].numel() for leaf in leaves]
    first = [0]
    for size in sizes:
        first.append(first[-1] + triton.cdiv(size, BLOCK))
    addresses = [[tensor.data_ptr() for tensor in column] for column in zip(*leaves, strict=True)]
    return [*([*row, 0] for row in (*addresses, sizes)), first]


def step(
    table: Tensor,
    known: Sequence[Sequence[int]],
    rate: Tensor,
    dtype: torch.dtype,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """Step the leaves of a `table` [7, n + 1] on the device, which may be filled after the launch is captured.

    `known` are those numbers, `rate` the learning rate on the device, `dtype` that of the leaves. The counts of steps
    have been raised by one, to t. Kingma & Ba 2015, algorithm 1, with decay as torch.optim.Adam has it:

        g = gradient + decay * weight
        m = m + (1 - beta1) * (g - m),  v = beta2 * v + (1 - beta2) * g * g
        weight = weight - rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
    """
    aligned = all(number % 16 == 0 for row in known[:6] if row is not known[4] for number in row)
    leaves = len(known[0]) - 1
    constants = (1 - betas[0], betas[1], 1 - betas[1], math.log(betas[0]), math.log(betas[1]), eps, decay)
    kind = tl.float64 if dtype == torch.float64 else tl.float32
    how = (kind, aligned, max(64, triton.next_power_of_2(leaves)), BLOCK)  # one kernel for most networks
    # products and sums stay apart: Triton's default depends on its version, and bits must not
    _step[(known[6][-1],)](table, rate, leaves, *constants, *how, num_warps=8, enable_fp_fusion=False)


@triton.jit
def _step(
    table, rate, leaves, first_share: tl.constexpr, kept: tl.constexpr, second_share: tl.constexpr,
    log_first: tl.constexpr, log_second: tl.constexpr, eps: tl.constexpr, decay: tl.constexpr, kind: tl.constexpr,
    aligned: tl.constexpr, padded: tl.constexpr, block: tl.constexpr
):  # fmt: skip
    program = tl.program_id(0)
    number = tl.arange(0, padded)
    begins = tl.load(table + 6 * (leaves + 1) + number, mask=number < leaves, other=2147483647)
    leaf = tl.sum((begins <= program).to(tl.int32), 0) - 1
    row = table + leaf
    size = tl.load(row + 5 * (leaves + 1))
    at = (program - tl.load(row + 6 * (leaves + 1))) * block
    weight = tl.load(row).to(tl.pointer_type(kind))
    gradient = tl.load(row + (leaves + 1)).to(tl.pointer_type(kind))
    moment = tl.load(row + 2 * (leaves + 1)).to(tl.pointer_type(kind))
    square = tl.load(row + 3 * (leaves + 1)).to(tl.pointer_type(kind))
    count = tl.load(tl.load(row + 4 * (leaves + 1)).to(tl.pointer_type(tl.float32))).to(tl.float64)
    if aligned:
        size = tl.multiple_of(size, 16)
        weight, gradient = tl.multiple_of(weight, 16), tl.multiple_of(gradient, 16)
        moment, square = tl.multiple_of(moment, 16), tl.multiple_of(square, 16)
    at += tl.arange(0, block)
    live = at < size

    w = tl.load(weight + at, mask=live, other=0.0)
    g = tl.load(gradient + at, mask=live, other=0.0)
    m = tl.load(moment + at, mask=live, other=0.0)
    v = tl.load(square + at, mask=live, other=0.0)
    if decay != 0:
        g += w * decay
    m += (g - m) * first_share
    v = v * kept + g * g * second_share
    length = (tl.load(rate).to(tl.float64) / (1 - tl.exp(count * log_first))).to(kind)
    root = tl.sqrt(1 - tl.exp(count * log_second)).to(kind)
    tl.store(weight + at, w - length * (m / (tl.sqrt(v) / root + eps)), mask=live)
    tl.store(moment + at, m, mask=live)
    tl.store(square + at, v, mask=live)
