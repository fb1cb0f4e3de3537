"""Read a plain torch network from its graph: a list of operations that a Program runs for K replicas.

torch.fx traces the network once. What is read: square convolutions (grouped ones too), norm slots, pointwise
activations, additions, pooling, flatten, and linear layers. A norm with the addition and the ReLU behind it becomes one
operation. Whatever else the graph holds is an UnreadableError that names it; such a network trains replica by replica.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bnlab.errors import SpecError


class UnreadableError(SpecError):
    """The engine cannot read a network; the message names the module or function."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation: `kind`, the values it takes by number, and the number of the value it gives.

    `module` names the layer that it applies, if any. A map has `size` x `size` pixels; a vector has size 0.
    `relu` and a second input are what a norm slot adds behind itself. `apply` is the function of a pointwise operation.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    channels: int
    size: int
    module: str = ""
    relu: bool = False
    window: tuple[int, int, int] = (0, 0, 0)
    apply: Callable[[Tensor], Tensor] | None = None


_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Hardswish, nn.Hardtanh,
)  # fmt: skip
_POINTWISE_FUNCTIONS = (
    F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, torch.tanh, torch.sigmoid,
)  # fmt: skip
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELUS = (F.relu, torch.relu)


def _refuse_shared(ops: list[Op], changed: set[int]) -> None:
    """UnreadableError where a value is changed in place and somebody else reads it."""
    for number in changed:
        if sum(number in op.inputs for op in ops) > 1:
            raise UnreadableError("a value that is read twice is changed in place")


def read(model: nn.Module, size: int) -> list[Op]:
    """The operations of a network on images of size x size, in the order in which they are computed.

    `model.norm_slots` names its norm layers. An UnreadableError says what cannot be read.
    """
    slots = set(getattr(model, "norm_slots", ()))
    try:
        graph = _Tracer(slots).trace(model)
    except UnreadableError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableError(f"torch.fx cannot trace {type(model).__name__} ({reason})") from error
    reading = _Reading(model, slots, size)
    ops = reading.ops(graph)
    _refuse_shared(ops, reading.changed)
    return _fused(ops)


def unreadable(model: nn.Module, size: int = 32) -> str | None:
    """Why the engine cannot read a network; None where it can."""
    try:
        read(model, size)
    except UnreadableError as error:
        return str(error)
    return None


class _Tracer(fx.Tracer):
    """A norm slot is one operation, whatever it is made of; so is a convolution with a parametrization."""

    def __init__(self, slots: set[str]) -> None:
        super().__init__()
        self._slots = slots

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the graph shows this module as one operation."""
        known = isinstance(m, (nn.Conv2d, nn.Linear))
        return module_qualified_name in self._slots or known or super().is_leaf_module(m, module_qualified_name)


class _Reading:
    """The state of one walk through a graph: which value has which number, channels and size."""

    def __init__(self, model: nn.Module, slots: set[str], size: int) -> None:
        self.model, self.slots, self.size = model, slots, size
        self.numbers: dict[fx.Node, int] = {}
        self.shapes: dict[int, tuple[int, int]] = {}
        self.found: list[Op] = []
        self.changed: set[int] = set()

    def ops(self, graph: fx.Graph) -> list[Op]:
        """One operation for each node that computes something."""
        for node in graph.nodes:
            if node.op == "placeholder":
                self.numbers[node] = 0
                self.shapes[0] = (3, self.size)
            elif node.op == "call_module":
                self._module(node, str(node.target), self.model.get_submodule(str(node.target)))
            elif node.op in ("call_function", "call_method"):
                self._function(node)
            elif node.op == "get_attr":
                raise UnreadableError(f"the network uses its parameter {node.target!r} outside a layer")
            elif node.op == "output" and self._inputs(node) != [len(self.found)]:
                raise UnreadableError("the network's output is not what its last operation gives")
        return self.found

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> None:
        if name not in self.slots or "slot" in vars(type(module)):  # a custom norm is called with its hooks
            _refuse_hooks(name, module)
        (x,) = self._inputs(node)
        channels, size = self.shapes[x]
        if name in self.slots:
            self._add(node, "slot", (x,), channels, size, module=name)
        elif isinstance(module, nn.Conv2d):
            self._add(node, "conv", (x,), module.out_channels, _conv_size(name, module, size), module=name)
        elif isinstance(module, nn.Linear) and size == 0:
            self._add(node, "linear", (x,), module.out_features, 0, module=name)
        elif isinstance(module, _POINTWISE_MODULES):
            self._pointwise(node, module)
        elif isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
            kind = "max_pool" if isinstance(module, nn.MaxPool2d) else "avg_pool"
            self._pool(node, kind, _window(name, module))
        elif isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
            self._add(node, "global_pool", (x,), channels, 1)
        elif isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
            self._flatten(node)
        elif isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0):
            self.numbers[node] = x
        else:
            raise UnreadableError(f"{name} is a {type(module).__name__}{_why(module)}")

    def _function(self, node: fx.Node) -> None:
        target = node.target
        if target in _ADDITIONS and len(node.args) == 2 and not node.kwargs:
            inputs = self._inputs(node)
            if len(inputs) != 2 or self.shapes[inputs[0]] != self.shapes[inputs[1]]:
                raise UnreadableError("an addition is of something else than two values of one shape")
            if target is operator.iadd:
                self.changed.add(inputs[0])
            self._add(node, "add", tuple(inputs), *self.shapes[inputs[0]])
        elif target in _POINTWISE_FUNCTIONS or target in ("relu", "relu_", "tanh", "sigmoid"):
            function = getattr(torch, target.strip("_")) if isinstance(target, str) else target
            extra = {name: value for name, value in node.kwargs.items() if name != "inplace"}
            if len(node.args) != 1 or len(self._inputs(node)) != 1:
                raise UnreadableError(f"{_named(target)} is called with more than a tensor")
            self._pointwise(node, function if not extra else lambda x: function(x, **extra))
        elif target in (torch.flatten, "flatten") and node.args[1:] in ((1,), (1, -1)) and not node.kwargs:
            self._flatten(node)
        else:
            raise UnreadableError(f"it calls {_named(target)}")

    def _inputs(self, node: fx.Node) -> list[int]:
        return [self.numbers[value] for value in node.all_input_nodes]

    def _add(self, node: fx.Node, kind: str, inputs: tuple[int, ...], channels: int, size: int, **how: Any) -> None:
        output = len(self.found) + 1
        self.found.append(Op(kind=kind, inputs=inputs, output=output, channels=channels, size=size, **how))
        self.numbers[node], self.shapes[output] = output, (channels, size)

    def _pointwise(self, node: fx.Node, function: Callable[[Tensor], Tensor]) -> None:
        (x,) = self._inputs(node)
        if getattr(function, "inplace", False) or node.kwargs.get("inplace") or node.target == "relu_":
            self.changed.add(x)
        is_relu = type(function) is nn.ReLU or function in _RELUS
        if not is_relu and getattr(function, "inplace", False):
            function = copy.copy(function)  # without changing its input, which the backward pass may need
            function.inplace = False  # type: ignore[attr-defined]
        self._add(node, "relu" if is_relu else "pointwise", (x,), *self.shapes[x], apply=function)

    def _pool(self, node: fx.Node, kind: str, window: tuple[int, int, int]) -> None:
        (x,) = self._inputs(node)
        channels, size = self.shapes[x]
        kernel, stride, padding = window
        self._add(node, kind, (x,), channels, (size + 2 * padding - kernel) // stride + 1, window=window)

    def _flatten(self, node: fx.Node) -> None:
        (x,) = self._inputs(node)
        channels, size = self.shapes[x]
        self._add(node, "flatten", (x,), channels * max(1, size) ** 2, 0)


def _fused(ops: list[Op]) -> list[Op]:
    """The same operations, a slot taking in the addition and the ReLU behind it where nobody else sees its output."""
    users: dict[int, list[Op]] = {}
    for op in ops:
        for number in op.inputs:
            users.setdefault(number, []).append(op)
    by_output = {op.output: op for op in ops}
    taken: dict[int, Op] = {}
    gone: set[int] = set()
    for op in ops:
        if op.kind != "add":
            continue
        for number in op.inputs:
            slot = by_output.get(number)
            if slot is not None and slot.kind == "slot" and len(users[number]) == 1 and number not in gone:
                (residual,) = [other for other in op.inputs if other != number] or [number]
                if residual != number:
                    taken[op.output] = replace(slot, inputs=(slot.inputs[0], residual), output=op.output)
                    gone.add(number)
                    break
    result = [taken.get(op.output, op) for op in ops if op.output not in gone]
    by_output = {op.output: op for op in result}
    merged: dict[int, Op] = {}
    for op in result:
        if op.kind == "relu":
            before = by_output.get(op.inputs[0])
            if before is not None and before.kind == "slot" and len(users[op.inputs[0]]) == 1:
                merged[op.output] = replace(before, output=op.output, relu=True)
                gone.add(before.output)
    return [merged.get(op.output, op) for op in result if op.output not in gone]


def _conv_size(name: str, conv: nn.Conv2d, size: int) -> int:
    """Pixels along an axis behind a convolution; UnreadableError for one that is not square or not plain."""
    pairs = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    square = all(isinstance(pair, tuple) and pair[0] == pair[1] for pair in pairs)
    if not square or conv.dilation[0] != 1 or conv.padding_mode != "zeros" or conv.transposed:
        raise UnreadableError(f"{name} is a convolution that is not square, not undilated or not padded by zeros")
    return (size + 2 * int(conv.padding[0]) - conv.kernel_size[0]) // conv.stride[0] + 1


def _window(name: str, pool: nn.MaxPool2d | nn.AvgPool2d) -> tuple[int, int, int]:
    """Kernel, stride and padding of a square pooling; UnreadableError for any other."""
    sides = (pool.kernel_size, pool.stride, pool.padding)
    pairs = [side if isinstance(side, tuple) else (side, side) for side in sides]
    special = ("dilation", 1), ("return_indices", False), ("divisor_override", None), ("ceil_mode", False)
    if any(a != b for a, b in pairs) or any(getattr(pool, name, usual) != usual for name, usual in special):
        raise UnreadableError(f"{name} is a {type(pool).__name__} with {pool.extra_repr()}: only a square one is read")
    (kernel, _), (stride, _), (padding, _) = pairs
    return kernel, stride, padding


def _refuse_hooks(name: str, module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        raise UnreadableError(f"{name} has hooks, which the engine would not call")


def _why(module: nn.Module) -> str:
    return ", which draws random numbers" if isinstance(module, nn.Dropout) else ""


def _named(target: object) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))
