"""The norm slots of K replicas: each holds the parameters and statistics of one layer for every replica.

A slot maps x [k, b, h, w, c] to the same shape in one of four modes: `train` (batch statistics, running ones move),
`eval` (running statistics), `batch` (batch statistics, nothing moves) and `calibrate` (batch statistics, which become
the running ones by cumulative average). What follows a norm in a ResNet is part of the call: the residual that is
added, and the ReLU.
"""

import warnings
from copy import deepcopy
from itertools import groupby
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call, vmap

from bnlab.engine.ops import batch_norm, fused_kernels
from bnlab.norms import AffineLayer, BatchNorm, Identity

Mode = Literal["train", "eval", "batch", "calibrate"]
State = dict[str, Tensor]


class Slot(Protocol):
    """One norm layer of K replicas."""

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Apply the layer of replica k to x[k] [b, h, w, c], then add the residual, then the ReLU."""

    def parameters(self) -> dict[str, list[Tensor]]:
        """Trained leaves by the layer's own parameter name: one stacked leaf, or one leaf a replica."""

    def rows(self, name: str) -> range:
        """The replicas that a stacked leaf has rows for, in order."""

    def buffers(self, k: int) -> State:
        """What replica k's layer holds beside its trained parameters, under torchvision's names; live views."""

    def statistics(self) -> list[Tensor]:
        """The tensors that a training step moves beside the parameters, for all replicas."""

    def counters(self) -> list[Tensor]:
        """The tensors among them that count batches, for the program to count in one go."""

    def start_calibration(self) -> None:
        """Forget the running statistics and average the coming batches with equal weights."""

    def running(self, k: int) -> bool:
        """Whether replica k's layer keeps running statistics."""


def slot(layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> Slot:
    """The fused slot for the same place in every replica; a layer of somebody's own runs replica by replica."""
    # the very classes: a subclass may compute something else
    if all(type(layer) is Identity for layer in layers):
        return IdentitySlot()
    if all(type(layer) in (Identity, BatchNorm, AffineLayer) for layer in layers):
        return NormSlot(layers, device, dtype)
    return OwnSlot(layers, device, dtype)


def stacked(tensors: list[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One parameter vector a replica as [k, n], n padded to whole SIMD registers.

    The padding (zeros that receive zero gradients) keeps a replica's numbers away from the scalar tail of vectorised
    loops, whose last bit may differ: the tail would sit elsewhere for another K.
    """
    rows = torch.stack([tensor.detach().flatten() for tensor in tensors]).to(device, dtype)
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % 16))


def finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Add the residual, then the ReLU; in place only on a sum, since y is a view, whose gradient would be copied."""
    if residual is not None:
        y = y + residual
        return torch.relu_(y) if relu else y
    return torch.relu(y) if relu else y


class IdentitySlot:
    """No normalisation."""

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """x itself, and what follows."""
        return finish(x, residual, relu)

    def parameters(self) -> dict[str, list[Tensor]]:
        """None."""
        return {}

    def rows(self, name: str) -> range:
        """Nobody's."""
        return range(0)

    def buffers(self, k: int) -> State:
        """None."""
        return {}

    def statistics(self) -> list[Tensor]:
        """None."""
        return []

    def counters(self) -> list[Tensor]:
        """None."""
        return []

    def start_calibration(self) -> None:
        """Nothing to calibrate."""

    def running(self, k: int) -> bool:
        """No statistics."""
        return False


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


class OwnSlot(IdentitySlot):
    """Somebody's own torch module, one copy a replica, called on [b, c, h, w].

    Replica by replica this is right for whatever the module does, since each is alone in its copy. On a GPU, where that
    is K times the launches, all are called at once by torch.func wherever the first batch shows that it comes to the
    same.
    """

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
        self.layers = [layer.to(device, dtype) for layer in layers]
        self.at_once: bool | None = None if device.type == "cuda" and len(layers) > 1 else False

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Call each replica's module on its own x[k], or all at once."""
        if self.at_once is None and mode == "train":
            self.at_once = self._comes_to_the_same(x)
        # torch's cumulative average looks at numbers, which torch.func cannot
        at_once = self.at_once and mode != "calibrate"
        return finish((self._call_at_once if at_once else self._call_each)(x, mode), residual, relu)

    def _call_each(self, x: Tensor, mode: Mode) -> Tensor:
        outs = []
        for k, layer in enumerate(self.layers):
            kept = [buffer.clone() for buffer in layer.buffers()] if mode == "batch" else []
            # x[k] and not a loop over x, whose parts no module may change in place
            outs.append(layer.train(mode != "eval")(x[k].permute(0, 3, 1, 2)))
            for buffer, before in zip(layer.buffers(), kept, strict=False):
                buffer.copy_(before)
        return torch.stack(outs).permute(0, 1, 3, 4, 2)

    def _call_at_once(self, x: Tensor, mode: Mode) -> Tensor:
        module = self.layers[0].train(mode != "eval")
        names = [name for name, _ in module.named_parameters()]
        parameters = {name: torch.stack([layer.get_parameter(name) for layer in self.layers]) for name in names}
        names = [name for name, _ in module.named_buffers()]
        buffers = {name: torch.stack([layer.get_buffer(name) for layer in self.layers]) for name in names}

        def call(parameters: State, buffers: State, x: Tensor) -> Tensor:
            out: Tensor = functional_call(module, (parameters, buffers), (x,))
            return out

        outs: Tensor = vmap(call)(parameters, buffers, x.permute(0, 1, 4, 2, 3))
        if mode != "batch":
            with torch.no_grad():
                for name, moved in buffers.items():
                    for layer, value in zip(self.layers, moved, strict=True):
                        layer.get_buffer(name).copy_(value)
        return outs.permute(0, 1, 3, 4, 2)

    def _comes_to_the_same(self, x: Tensor) -> bool:
        """Whether a call of all replicas at once gives the numbers and buffers of a call each, tried on copies."""
        each, at_once = deepcopy(self), deepcopy(self)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("error")  # vmap warns where it has no rule and would call replica by replica
                got, expected = at_once._call_at_once(x.clone(), "train"), each._call_each(x.clone(), "train")
        except Exception:
            return False  # random numbers, a look at numbers, a Function without a rule: each call alone can have them
        if each._plain_values() != self._plain_values():
            return False  # the module counts or remembers in Python, where only the first copy would be called
        pairs = [(got, expected), *zip(at_once.statistics(), each.statistics(), strict=True)]
        return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True) for one, other in pairs)

    def _plain_values(self) -> list[object]:
        """What the first copy's modules hold beside tensors and modules, but for whether they train."""
        held = (pair for module in self.layers[0].modules() for pair in vars(module).items())
        return [pair for pair in held if pair[0] != "training" and isinstance(pair[1], (bool, int, float, str))]

    def parameters(self) -> dict[str, list[Tensor]]:
        """The module's trained parameters, one leaf a replica."""
        names = [name for name, parameter in self.layers[0].named_parameters() if parameter.requires_grad]
        return {name: [layer.get_parameter(name) for layer in self.layers] for name in names}

    def buffers(self, k: int) -> State:
        """The rest of the module's state dict."""
        trained = self.parameters()
        return {name: tensor for name, tensor in self.layers[k].state_dict().items() if name not in trained}

    def statistics(self) -> list[Tensor]:
        """The modules' buffers."""
        return [buffer for layer in self.layers for buffer in layer.buffers()]

    def start_calibration(self) -> None:
        """Forget running statistics where the module keeps torch's kind."""
        for layer in self.layers:
            for module in layer.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
                    module.momentum = None

    def running(self, k: int) -> bool:
        """Whether any part of the module keeps torch's kind of running statistics."""
        return any(name.endswith("running_mean") for name, _ in self.layers[k].named_buffers())
