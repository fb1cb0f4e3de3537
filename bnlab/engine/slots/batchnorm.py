"""The fused slot of BatchNorm, AffineLayer and no norm, side by side."""

from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from bnlab.engine.kernels.batched import batch_norm, fused_kernels
from bnlab.engine.kernels.packing import stacked
from bnlab.engine.slots.base import IdentitySlot, Mode, State, finish
from bnlab.norms import AffineLayer, BatchNorm


class NormSlot(IdentitySlot):
    """BatchNorm, AffineLayer or nothing, whichever a replica has, over its own batch.

    Scale and shift of all replicas stand in a table [k, c], 1 and 0 where a replica has none; the leaf that is trained
    is the part of the table whose replicas train it, which must be neighbours.
    """

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
        norms = [layer for layer in layers if isinstance(layer, BatchNorm)]
        known = next(layer for layer in layers if isinstance(layer, (BatchNorm, AffineLayer)))
        self.layers = layers
        self.n = known.weight.numel()
        self.normalises = [isinstance(layer, BatchNorm) for layer in layers]
        kinds = [(kind, list(group)) for kind, group in groupby(range(len(layers)), self.normalises.__getitem__)]
        self.parts = [(slice(group[0], group[-1] + 1), kind) for kind, group in kinds]
        self.flags = torch.tensor(self.normalises, dtype=torch.int32, device=device)
        self.eps, self.momentum = (norms[0].eps, norms[0].momentum or 0.0) if norms else (0.0, 0.0)
        self.tables: dict[str, Tensor] = {}
        self.leaves: dict[str, Tensor] = {}
        self.trained: dict[str, range] = {}
        for name, fill in (("weight", 1.0), ("bias", 0.0)):
            absent = torch.full((self.n,), fill)
            held = [getattr(layer, name, None) for layer in layers]
            self.tables[name] = table = stacked([absent if one is None else one for one in held], device, dtype)
            self.trained[name] = rows = _neighbours(layers, name)
            if rows:
                self.leaves[name] = table[rows.start : rows.stop].detach().requires_grad_()
        start = torch.zeros(self.n), torch.ones(self.n), torch.tensor(0)
        kept = [
            (layer.running_mean, layer.running_var, layer.num_batches_tracked)
            if isinstance(layer, BatchNorm)
            else start
            for layer in layers
        ]
        mean, var, batches = ([part for part in parts if part is not None] for parts in zip(*kept, strict=True))
        self.mean, self.var = torch.stack(mean).to(device, dtype), torch.stack(var).to(device, dtype)
        self.batches = torch.stack(batches).to(device)
        self.calibrated = 0

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Normalise, scale and shift x [k, b, h, w, c] over b, h and w of each replica, and what follows."""
        scale, shift = (self._whole(name) for name in ("weight", "bias"))
        flags, weight = self.flags, 0.0
        if mode == "eval":
            factor = torch.where(flags[:, None] > 0, scale * torch.rsqrt(self.var + self.eps), scale)
            flags, scale, shift = torch.zeros_like(flags), factor, shift - self.mean * factor
        elif mode == "train":
            weight = self.momentum
        elif mode == "calibrate":
            self.calibrated += 1
            weight = 1 / self.calibrated
        flat = x.flatten(1, 3)
        running = (self.mean, self.var) if weight else None
        if (fused := fused_kernels(x, "norm")) is not None:
            scale, shift = scale.expand(len(x), x.shape[-1]), shift.expand(len(x), x.shape[-1])
            beside = None if residual is None else residual.flatten(1, 3)
            y: Tensor = fused.norm(flat, scale, shift, flags, self.eps, running, weight, beside, relu)
            return y.view_as(x)
        if mode == "eval" or not any(self.normalises):
            y = torch.addcmul(shift[:, None], flat, scale[:, None])
        elif all(self.normalises):
            y = batch_norm(flat, scale, shift, self.eps, running, weight)
        else:
            y = torch.cat([self._part(flat, scale, shift, running, weight, *part) for part in self.parts])
        return finish(y.view_as(x), residual, relu)

    def _part(
        self,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        running: tuple[Tensor, Tensor] | None,
        weight: float,
        part: slice,
        normalises: bool,
    ) -> Tensor:
        """Neighbours of one kind, of a program that mixes kinds."""
        x, scale, shift = x[part], scale[part], shift[part]
        if not normalises:
            return torch.addcmul(shift[:, None], x, scale[:, None])
        own = None if running is None else (running[0][part], running[1][part])
        return batch_norm(x, scale, shift, self.eps, own, weight, alone=False)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Gamma and beta where they are trained."""
        return {name: [leaf] for name, leaf in self.leaves.items()}

    def rows(self, name: str) -> range:
        """The replicas that train gamma or beta."""
        return self.trained[name]

    def buffers(self, k: int) -> State:
        """Of BatchNorm running mean and variance and the batch count; gamma and beta where they are frozen."""
        held = {} if isinstance(self.layers[k], nn.Identity) else self.tables
        frozen = {name: table[k, : self.n] for name, table in held.items() if k not in self.trained[name]}
        if not self.normalises[k]:
            return frozen
        return frozen | {
            "running_mean": self.mean[k],
            "running_var": self.var[k],
            "num_batches_tracked": self.batches[k],
        }

    def statistics(self) -> list[Tensor]:
        """Running mean and variance [k, c] and the batch counts [k], where any replica normalises."""
        return [self.mean, self.var, self.batches] if any(self.normalises) else []

    def counters(self) -> list[Tensor]:
        """The batch counts [k], where any replica normalises."""
        return [self.batches] if any(self.normalises) else []

    def start_calibration(self) -> None:
        """Forget the running statistics."""
        self.calibrated = 0

    def running(self, k: int) -> bool:
        """BatchNorm keeps running statistics."""
        return self.normalises[k]

    def _whole(self, name: str) -> Tensor:
        """The table [k, c or 1] whose gradient goes to the leaf; the leaf itself where every replica trains it."""
        table, rows = self.tables[name], self.trained[name]
        if len(rows) == len(table):
            table = self.leaves[name]
        elif rows:
            table = _Whole.apply(self.leaves[name], table, rows.start, rows.stop)
        return table if table.shape[1] == self.n else table[:, : self.n]


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
