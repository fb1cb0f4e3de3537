"""The network of K replicas as one program: read from its graph, with a leading k everywhere."""

import weakref
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from bnlab.engine.kernels.batched import conv, max_pool
from bnlab.engine.kernels.packing import Packed, head, padded_rows
from bnlab.engine.operations import Op, last_uses
from bnlab.engine.reader import read
from bnlab.engine.side import Side
from bnlab.engine.slots import Mode, Slot, slot
from bnlab.engine.weights import Weight, effective_weight

Single = Callable[[list[Tensor], Mode], Tensor]
Compute = Callable[[list[Tensor], Mode], tuple[Tensor, ...]]
"""One operation of a program: its inputs, activations [k, b, h, w, c] or vectors [k, b, c], to its output.

An output may be several tensors of the same numbers, each for a reader of its own.
"""


class Program:
    """K networks, alike but for their norms, with weights, statistics and activations stacked along a leading k.

    Built from torch networks, one a replica; those that train a norm's scale stand together, and those that train its
    shift. `elide` leaves taps that never meet data out of compute and optimizer; `compute` is the dtype of the
    convolutions, `dtype` that of everything else. With a `side` the gradients of weights are computed there. A network
    that the reader cannot read is an UnreadableError.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        device: torch.device,
        *,
        size: int = 32,
        elide: bool = True,
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
    ) -> None:
        self.models = list(models)
        self.device, self.dtype, self.elide = device, dtype, elide
        self.compute = compute or dtype
        self.captured = device.type == "cuda"
        self.side: Side | None = None
        self.parameters: dict[str, Packed] = {}
        self.slots: dict[str, Slot] = {}
        self.orders = [list(model.state_dict()) for model in self.models]
        self.initial = [{name: p.detach().clone() for name, p in model.named_parameters()} for model in self.models]
        self.ops = read(self.models[0], size)
        sizes = {0: size} | {op.output: op.size for op in self.ops}
        self.weights: dict[str, Weight] = {}
        computes = [self._compute(op, sizes[op.inputs[0]]) for op in self.ops]
        self.steps = list(zip(self.ops, computes, last_uses(self.ops), strict=True))
        self.counters = [counter for layer in self.slots.values() for counter in layer.counters()]
        if not elide or all(
            packed.geometry is None or packed.geometry.taps == packed.geometry.kernel for packed in self.packed
        ):
            self.initial = []

    @property
    def replicas(self) -> int:
        """How many networks there are."""
        return len(self.models)

    @property
    def network(self) -> nn.Module:
        """The first replica's network as a torch module, whose weights are not trained."""
        return self.models[0]

    @property
    def packed(self) -> list[Packed]:
        """The trained parameters."""
        return list(self.parameters.values())

    def add(self, packed: Packed) -> None:
        """Register a trained parameter."""
        self.parameters[packed.name] = packed

    def leaves(self) -> list[Tensor]:
        """Every trained leaf, in a fixed order."""
        return [leaf for packed in self.packed for leaf in packed.leaves]

    def __call__(self, images: Tensor, mode: Mode) -> Tensor:
        """Logits [k, b, classes] for standardised images [k, b, size, size, 3]."""
        if mode == "train" and self.counters:
            torch._foreach_add_(self.counters, 1)
        values = {0: [images]}
        for op, compute, done in self.steps:
            # each reader takes a tensor of its own while there are several
            given = [values[number].pop() if len(values[number]) > 1 else values[number][0] for number in op.inputs]
            values[op.output] = list(compute(given, mode))
            for number in done:
                del values[number]
        return values[self.ops[-1].output][0]

    def _compute(self, op: Op, size_in: int) -> Compute:
        """The function of one operation; layers register their parameters here."""
        match op.kind:
            case "slot":
                return self._slot(op)
            case _:
                one = self._single(op, size_in)
                return lambda inputs, mode: (one(inputs, mode),)

    def _single(self, op: Op, size_in: int) -> Single:
        """An operation that gives one tensor, whoever reads it."""
        match op.kind:
            case "conv":
                return self._conv(op.module, size_in)
            case "linear":
                return self._linear(op.module)
            case "add":
                return lambda inputs, mode: inputs[0] + inputs[1]
            case "relu":
                return lambda inputs, mode: torch.relu(inputs[0])
            case "max_pool":
                return lambda inputs, mode: max_pool(inputs[0], *op.window)
            case "mean":
                return lambda inputs, mode: inputs[0].mean((2, 3), keepdim=op.size == 1)
            case "flatten":
                return lambda inputs, mode: inputs[0].permute(0, 1, 4, 2, 3).flatten(2)
            case _:
                apply = op.apply
                assert apply is not None
                if op.kind == "images":
                    return lambda inputs, mode: _to_each_image(apply, inputs[0])
                return lambda inputs, mode: apply(inputs[0])

    def _conv(self, name: str, size_in: int) -> Single:
        convs = cast(list[nn.Conv2d], [model.get_submodule(name) for model in self.models])
        weight = effective_weight(name, convs, size_in, self.device, self.dtype, elide=self.elide)
        self.weights[name] = weight
        for packed in weight.parameters:
            self.add(packed)
        geometry, bias = weight.geometry, self._bias(name, convs)
        # a gradient that is computed from another one cannot wait at the side
        of_a_leaf = weight.is_leaf and self.compute == self.dtype
        within, outside, program = self.compute, self.dtype, weakref.proxy(self)  # a cycle would keep gigabytes

        def compute(inputs: list[Tensor], mode: Mode) -> Tensor:
            side = program.side if of_a_leaf else None
            y = conv(inputs[0].to(within), weight(mode).to(within), geometry, side).to(outside)
            return y if bias is None else y + bias[:, None, None, None, : geometry.c_out]

        return compute

    def _bias(self, name: str, layers: Sequence[nn.Conv2d] | Sequence[nn.Linear]) -> Tensor | None:
        """The biases of a layer as a leaf [k, n], n padded to whole registers; None where there are none."""
        biases = [layer.bias for layer in layers if layer.bias is not None]
        if not biases:
            return None
        leaf = padded_rows(list(biases), self.device, self.dtype).requires_grad_()
        self.add(Packed(name=f"{name}.bias", leaves=[leaf], shape=biases[0].shape))
        return leaf

    def _slot(self, op: Op) -> Compute:
        layers = [model.get_submodule(op.module) for model in self.models]
        layer = self.slots[op.module] = slot(layers, self.device, self.dtype, op.module)
        for name, leaves in layer.parameters().items():
            rows = layer.rows(name)
            shape = next(own[name].shape for one in layers if name in (own := dict(one.named_parameters())))
            replicas = rows if len(leaves) == 1 and rows else None
            self.add(Packed(name=f"{op.module}.{name}", leaves=leaves, shape=shape, replicas=replicas))

        readers = sum(one.inputs.count(op.output) for one in self.ops)

        def compute(inputs: list[Tensor], mode: Mode) -> tuple[Tensor, ...]:
            return layer.for_readers(inputs[0], mode, *inputs[1:], relu=op.relu, readers=readers)

        return compute

    def _linear(self, name: str) -> Single:
        layers = cast(list[nn.Linear], [model.get_submodule(name) for model in self.models])
        weight = head([layer.weight for layer in layers], self.device, self.dtype)
        n = layers[0].out_features
        self.add(Packed(name=f"{name}.weight", leaves=[weight], shape=layers[0].weight.shape, classes=n))
        bias = self._bias(name, layers)

        def compute(inputs: list[Tensor], mode: Mode) -> Tensor:
            columns = weight.transpose(1, 2)
            product = (
                torch.bmm(inputs[0], columns) if bias is None else torch.baddbmm(bias[:, None], inputs[0], columns)
            )
            return product[:, :, :n]

        return compute

    def evaluations(self, k: int) -> tuple[str, ...]:
        """Tests that the norms of replica k ask for beside the one with running statistics, each once."""
        return tuple(dict.fromkeys(name for layer in self.slots.values() for name in layer.evaluations(k)))

    def seed(self, moments: Sequence[str]) -> None:
        """Say what the random numbers of the coming pass are a function of: a text for each replica."""
        for layer in self.slots.values():
            layer.seed(moments)

    def uncapturable(self) -> str:
        """Why a step cannot be captured as a CUDA graph, or ""; known after the first pass."""
        return next((reason for layer in self.slots.values() if (reason := layer.uncapturable())), "")

    def trained(self, k: int) -> list[str]:
        """Names of the parameters that replica k trains."""
        return [name for name, packed in self.parameters.items() if packed.replicas is None or k in packed.replicas]

    def state_dict(self, k: int) -> dict[str, Tensor]:
        """Replica k's state dict as the network has it: full kernels, its own names and order; CPU copies."""
        state = {
            name: self.parameters[name].read(
                k, self.parameters[name].leaves, self.initial[k][name] if self.initial else torch.zeros(())
            )
            for name in self.trained(k)
        }
        for norm_name, layer in self.slots.items():
            state |= {f"{norm_name}.{name}": t.detach().cpu().clone() for name, t in layer.buffers(k).items()}
        return {name: state[name] for name in self.orders[k]}

    @torch.no_grad()
    def load_state_dict(self, k: int, state: dict[str, Tensor]) -> None:
        """Put a state dict in the network's shape into replica k; dead taps keep what `state` holds."""
        for name in self.trained(k):
            self.parameters[name].write(k, self.parameters[name].leaves, state[name])
        for norm_name, layer in self.slots.items():
            for name, buffer in layer.buffers(k).items():
                buffer.copy_(state[f"{norm_name}.{name}"])
        if self.initial:
            self.initial[k] = {name: state[name].clone() for name in self.trained(k)}


def _to_each_image(apply: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A function of maps [n, c, h, w] on x [k, b, h, w, c]: to it, k and b are one axis."""
    y = apply(x.flatten(0, 1).permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:2], *y.shape[2:], x.shape[4])
