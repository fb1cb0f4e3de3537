"""The fused slot of BatchNorm, AffineLayer and no norm, side by side."""

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from bnlab.engine.kernels.batched import batch_norm, fused_kernels
from bnlab.engine.kernels.packing import padded_rows
from bnlab.engine.slots.base import IdentitySlot, Mode, Slot, State, finish
from bnlab.norms import BatchNorm, Identity

_FILL = {"weight": 1.0, "bias": 0.0}
"""What stands in the tables of scale and shift where a replica has none."""


def fused(layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> Slot:
    """The slot of layers of our own that name this function as their fused form."""
    if all(isinstance(layer, Identity) for layer in layers):
        return IdentitySlot()
    return NormSlot(layers, device, dtype)


class NormSlot(Slot):
    """BatchNorm, AffineLayer or nothing, whichever a replica has, over its own batch."""

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
        self.normalises = [isinstance(layer, BatchNorm) for layer in layers]
        kinds = [(kind, list(group)) for kind, group in groupby(range(len(layers)), self.normalises.__getitem__)]
        self.parts = [(slice(group[0], group[-1] + 1), kind) for kind, group in kinds]
        self.flags = torch.tensor(self.normalises, dtype=torch.int32, device=device)
        self.tables = {name: AffineTable(layers, name, device, dtype) for name in _FILL}
        self.running = RunningStatistics(layers, self.tables["weight"].n, device, dtype)
        self.has_table = [not isinstance(layer, Identity) for layer in layers]

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Normalise, scale and shift x [k, b, h, w, c] over b, h and w of each replica, then residual and ReLU."""
        return self.for_readers(x, mode, residual, relu=relu)[0]

    def for_readers(
        self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False, readers: int = 1
    ) -> tuple[Tensor, ...]:
        """The same; on a GPU two tensors for two readers."""
        scale, shift = (table.whole() for table in self.tables.values())
        flags, momentum = self.flags, self.running.momentum(mode)
        if mode == "eval":
            scale, shift = self.running.folded(scale, shift, flags)
            flags = torch.zeros_like(flags)
        moving = (self.running.mean, self.running.var) if momentum else None
        flat, eps = x.flatten(1, 3), self.running.eps
        if (kernels := fused_kernels(x, "norm")) is not None:
            scale, shift = scale.expand(len(x), x.shape[-1]), shift.expand(len(x), x.shape[-1])
            beside = None if residual is None else residual.flatten(1, 3)
            ys = kernels.norm(flat, scale, shift, flags, eps, moving, momentum, beside, relu, min(readers, 2))
            return tuple(y.view_as(x) for y in ys)
        if mode == "eval" or not any(self.normalises):
            y = torch.addcmul(shift[:, None], flat, scale[:, None])
        elif all(self.normalises):
            y = batch_norm(flat, scale, shift, eps, moving, momentum)
        else:
            y = torch.cat([self._part(flat, scale, shift, moving, momentum, *part) for part in self.parts])
        return (finish(y.view_as(x), residual, relu),)

    def _part(
        self,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        part: slice,
        normalises: bool,
    ) -> Tensor:
        """Neighbours of one kind, of a program that mixes kinds."""
        x, scale, shift = x[part], scale[part], shift[part]
        if not normalises:
            return torch.addcmul(shift[:, None], x, scale[:, None])
        own = None if running is None else (running[0][part], running[1][part])
        return batch_norm(x, scale, shift, self.running.eps, own, momentum, alone=False)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Gamma and beta where they are trained."""
        return {name: [table.leaf] for name, table in self.tables.items() if table.leaf is not None}

    def rows(self, name: str) -> range:
        """The replicas that train gamma or beta."""
        return self.tables[name].rows

    def buffers(self, k: int) -> State:
        """Of BatchNorm running mean and variance and the batch count; gamma and beta where they are frozen."""
        frozen = {name: table.of(k) for name, table in self.tables.items() if self.has_table[k] and k not in table.rows}
        return frozen | (self.running.of(k) if self.normalises[k] else {})

    def statistics(self) -> list[Tensor]:
        """Running mean and variance [k, c] and the batch counts [k], where any replica normalises."""
        return [self.running.mean, self.running.var, self.running.batches] if any(self.normalises) else []

    def counters(self) -> list[Tensor]:
        """The batch counts [k], where any replica normalises."""
        return [self.running.batches] if any(self.normalises) else []

    def evaluations(self, k: int) -> tuple[str, ...]:
        """Those of BatchNorm where the replica has it."""
        return BatchNorm.evaluations if self.normalises[k] else ()

    def start_calibration(self) -> None:
        """Count calibration batches from 1: the first of them replaces the running statistics."""
        self.running.calibrated = 0


class AffineTable:
    """Scale or shift of all replicas: a table [k, c], or [k, 1] per layer; 1 or 0 where a replica has none.

    The leaf that is trained is the part of the table whose replicas train it, which must be neighbours.
    """

    def __init__(self, layers: list[nn.Module], name: str, device: torch.device, dtype: torch.dtype) -> None:
        found = [getattr(layer, name, None) for layer in layers]
        self.n = next(one.numel() for one in found if one is not None)
        absent = torch.full((self.n,), _FILL[name])
        self.table = padded_rows([absent if one is None else one for one in found], device, dtype)
        self.rows = _neighbours(layers, name)
        part = self.table[self.rows.start : self.rows.stop]
        self.leaf = part.detach().requires_grad_() if self.rows else None

    def whole(self) -> Tensor:
        """The table [k, c or 1] whose gradient goes to the leaf; the leaf itself where every replica trains it."""
        table = self.table
        if self.leaf is not None and len(self.rows) == len(table):
            table = self.leaf
        elif self.leaf is not None:
            table = _Whole.apply(self.leaf, table, self.rows.start, self.rows.stop)
        return table if table.shape[1] == self.n else table[:, : self.n]

    def of(self, k: int) -> Tensor:
        """Replica k's row, a live view [c] or [1]."""
        return self.table[k, : self.n]


class RunningStatistics:
    """Running mean and variance [k, c] and batch counts [k]; 0, 1 and 0 where a replica does not normalise."""

    def __init__(self, layers: list[nn.Module], n: int, device: torch.device, dtype: torch.dtype) -> None:
        norms = [layer for layer in layers if isinstance(layer, BatchNorm)]
        # one class, so one eps and momentum; a momentum of 0 leaves the statistics as they are
        self.eps, self._momentum = (norms[0].eps, norms[0].momentum or 0.0) if norms else (0.0, 0.0)
        known = BatchNorm(n)
        kept = [layer if isinstance(layer, BatchNorm) else known for layer in layers]
        self.mean, self.var, self.batches = (
            torch.stack([layer.get_buffer(name) for layer in kept]).to(device, kind)
            for name, kind in (("running_mean", dtype), ("running_var", dtype), ("num_batches_tracked", torch.int64))
        )
        self.calibrated = 0

    def momentum(self, mode: Mode) -> float:
        """The batch's share in the running statistics: 1/i for calibration batch i, which makes them an average."""
        if mode == "calibrate":
            self.calibrated += 1
            return 1 / self.calibrated
        return self._momentum if mode == "train" else 0.0

    def folded(self, scale: Tensor, shift: Tensor, flags: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift [k, c] with normalisation by the running statistics in them, where `flags` [k] say so."""
        factor = torch.where(flags[:, None] > 0, scale * torch.rsqrt(self.var + self.eps), scale)
        return factor, shift - self.mean * factor

    def of(self, k: int) -> State:
        """Replica k's part under the layer's own names; live views."""
        return {"running_mean": self.mean[k], "running_var": self.var[k], "num_batches_tracked": self.batches[k]}


class _Whole(Function):
    """A table of which a leaf is some rows: gives the table, and the leaf its rows of the gradient."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, table: Tensor, first: int, last: int) -> Tensor:
        ctx.rows = slice(first, last)
        return table.view_as(table)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad[ctx.rows], None, None, None


def _neighbours(layers: list[nn.Module], name: str) -> range:
    """The replicas that train a parameter of this name; a ValueError if others stand between them."""
    trained = [isinstance(one := getattr(layer, name, None), Tensor) and one.requires_grad for layer in layers]
    if True not in trained:
        return range(0)
    rows = range(trained.index(True), len(trained) - trained[::-1].index(True))
    if not all(trained[k] for k in rows):
        raise ValueError(f"the replicas that train {name} are no neighbours: {trained}")
    return rows
