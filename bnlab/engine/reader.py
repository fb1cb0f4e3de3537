"""Read a plain torch network from its graph: a list of operations that a Program runs for K replicas.

torch.fx traces the network once. What is read: square convolutions (grouped ones too), norm slots, pointwise
activations, additions, pooling, flatten, and linear layers. A norm with the addition and the ReLU behind it becomes one
operation. Whatever else the graph holds is an UnreadableError that names it; such a network trains replica by replica.
"""

import operator
from collections.abc import Callable
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bnlab.engine.operations import Op, fused
from bnlab.engine.readable import UnreadableError, check_layer, check_whole
from bnlab.nets import norm_slots

_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid,
    nn.Softplus, nn.Hardswish, nn.Hardtanh,
)  # fmt: skip
_POINTWISE_FUNCTIONS = (
    F.relu, torch.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.hardswish,
    torch.tanh, torch.sigmoid,
)  # fmt: skip
_POINTWISE_METHODS = ("relu", "tanh", "sigmoid")
_IMAGE_MODULES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_IMAGE_FUNCTIONS = (F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
_ONE = (1, (1, 1), [1, 1])
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_MEANS = (torch.mean, "mean")
_FLATTENS = (torch.flatten, "flatten")
_RESHAPES = ("view", "reshape", torch.reshape)


def read(model: nn.Module, size: int) -> list[Op]:
    """The operations of a network on images of size x size, in the order in which they are computed.

    `norm_slots` names its norm layers. An UnreadableError says what cannot be read.
    """
    slots = set(norm_slots(model))
    reading = _Reading(model, slots, size)
    training = _trace(model, slots, training=True)
    ops = reading.ops(training)
    check_whole(model, slots, [op.module for op in ops if op.module])
    if _steps(training) != _steps(_trace(model, slots, training=False)):
        raise UnreadableError(f"{type(model).__name__} computes something else in evaluation than in training")
    for number in reading.changed:
        if sum(number in op.inputs for op in ops) > 1:
            raise UnreadableError("a value that is read twice is changed in place")
    return fused(ops)


def unreadable(model: nn.Module, size: int = 32) -> str | None:
    """Why the engine cannot read a network; None where it can."""
    try:
        read(model, size)
    except UnreadableError as error:
        return str(error)
    return None


def _trace(model: nn.Module, slots: set[str], *, training: bool) -> fx.Graph:
    """The graph of a network in training or in evaluation, whose mode is left as it was."""
    modes = {module: module.training for module in model.modules()}
    tracer = _Tracer(slots)
    try:
        return tracer.trace(model.train(training))
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableError(f"torch.fx cannot trace {type(model).__name__} ({reason})") from error
    finally:
        vars(tracer).clear()  # torch.fx leaves it in a cycle, which would keep the network's weights for long
        for module, mode in modes.items():
            module.training = mode


def _steps(graph: fx.Graph) -> list[tuple[str, ...]]:
    return [(node.op, str(node.target), str(node.args), str(node.kwargs)) for node in graph.nodes]


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
    """The state of one walk through a graph: which value has which number, channels and size.

    `batch` are the nodes that hold the number of images or the shape it is taken from, `changed` the values that
    something changes in place.
    """

    def __init__(self, model: nn.Module, slots: set[str], size: int) -> None:
        self.model, self.slots, self.size = model, slots, size
        self.numbers: dict[fx.Node, int] = {}
        self.shapes: dict[int, tuple[int, int]] = {}
        self.found: list[Op] = []
        self.changed: set[int] = set()
        self.batch: set[fx.Node] = set()

    def ops(self, graph: fx.Graph) -> list[Op]:
        """One operation for each node that computes something."""
        for node in graph.nodes:
            if node.op == "placeholder" and not self.numbers:
                self.numbers[node] = 0
                self.shapes[0] = (3, self.size)
            elif node.op == "placeholder" and node.users:
                raise UnreadableError(f"the network takes {node.target!r} beside its images")
            elif node.op == "call_module":
                self._module(node, str(node.target), self.model.get_submodule(str(node.target)))
            elif node.op in ("call_function", "call_method"):
                try:
                    self._function(node)
                except TypeError as error:
                    raise UnreadableError(f"it calls {_named(node.target)} in a way that is not read") from error
            elif node.op == "get_attr":
                raise UnreadableError(f"the network uses its parameter {node.target!r} outside a layer")
            elif node.op == "output":
                self._output(node)
        return self.found

    def _output(self, node: fx.Node) -> None:
        (given,) = node.args
        if not isinstance(given, fx.Node) or self.numbers.get(given) != len(self.found):
            raise UnreadableError("the network's output is not what its last operation gives")
        if not self.found or self.found[-1].size:
            raise UnreadableError("the network's output is not a vector for each image")

    def _module(self, node: fx.Node, name: str, module: nn.Module) -> None:
        inputs = self._inputs(node)
        if len(inputs) != 1 or len(node.args) != 1:
            raise UnreadableError(f"{name} is a {type(module).__name__} of more than one value")
        (x,) = inputs
        channels, size = self.shapes[x]
        if name in self.slots:
            self._add(node, "slot", (x,), channels, size, module=name)
        elif isinstance(module, nn.Conv2d) and size:
            check_layer(name, module)
            kernel, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
            behind = _size(name, size, kernel, stride, padding)
            self._add(node, "conv", (x,), module.out_channels, behind, module=name)
        elif isinstance(module, nn.Linear) and size == 0:
            check_layer(name, module)
            self._add(node, "linear", (x,), module.out_features, 0, module=name)
        elif type(module) in _POINTWISE_MODULES:
            self._pointwise(node, module, inplace=bool(getattr(module, "inplace", False)))
        elif type(module) is nn.MaxPool2d:
            self._max_pool(node, name, **{key: getattr(module, key) for key in module.__constants__})
        elif type(module) is nn.AdaptiveAvgPool2d and module.output_size in _ONE:
            self._mean(node, (2, 3), keepdim=True)
        elif type(module) in _IMAGE_MODULES:
            self._images(node, name, module)
        elif type(module) is nn.Flatten:
            self._flatten(node, module.start_dim, module.end_dim)
        elif type(module) is nn.Identity or (type(module) in _DROPOUTS and getattr(module, "p", 1) == 0):
            self.numbers[node] = x
        else:
            draws = ", which draws random numbers" if type(module) in _DROPOUTS else ""
            raise UnreadableError(f"{name} is a {type(module).__name__}{draws}")

    def _function(self, node: fx.Node) -> None:
        target: Any = node.target
        args: tuple[Any, ...] = node.args[1:]
        options: dict[str, Any] = {name: value for name, value in node.kwargs.items() if name != "inplace"}
        if target in _ADDITIONS and not node.kwargs:
            inputs = self._inputs(node)
            if len(inputs) != 2 or len(node.args) != 2 or self.shapes[inputs[0]] != self.shapes[inputs[1]]:
                raise UnreadableError("an addition is of something else than two values of one shape")
            if target is operator.iadd:
                self.changed.add(inputs[0])
            self._add(node, "add", tuple(inputs), *self.shapes[inputs[0]])
        elif target in _POINTWISE_FUNCTIONS or str(target).removesuffix("_") in _POINTWISE_METHODS:
            # the only flag of these functions is `inplace`
            inplace = (
                node.kwargs.get("inplace") is True or any(arg is True for arg in args) or _named(target)[-1] == "_"
            )
            values = tuple(arg for arg in args if not isinstance(arg, bool))
            function = getattr(torch, target.removesuffix("_")) if isinstance(target, str) else target
            plain = not values and not options
            self._pointwise(node, function if plain else lambda x: function(x, *values, **options), inplace=inplace)
        elif target is F.max_pool2d:
            self._max_pool(node, "max_pool2d", *args, **options)
        elif target is F.adaptive_avg_pool2d and [*args, *options.values()][0] in _ONE:
            self._mean(node, (2, 3), keepdim=True)
        elif target in _IMAGE_FUNCTIONS:
            self._images(node, _named(target), lambda x: target(x, *args, **options))
        elif target in _MEANS:
            self._mean(node, *args, **options)
        elif target in _FLATTENS:
            self._flatten(node, *args, **options)
        elif target in _RESHAPES and args[:1] and args[0] in self.batch and args[1:] == (-1,):
            self._flatten(node, 1)
        elif (
            (target == "size" and args == (0,))
            or (target is getattr and args == ("shape",))
            or (target is operator.getitem and node.args[0] in self.batch and args == (0,))
        ):
            self.batch.add(node)
        else:
            raise UnreadableError(f"it calls {_named(target)}")

    def _inputs(self, node: fx.Node) -> list[int]:
        if any(value not in self.numbers for value in node.all_input_nodes):
            raise UnreadableError(f"it computes with the shape of a value in {_named(node.target)}")
        return [self.numbers[value] for value in node.all_input_nodes]

    def _only_input(self, node: fx.Node) -> int:
        inputs = [self.numbers[value] for value in node.all_input_nodes if value not in self.batch]
        if len(inputs) != 1 or node.args[:1] != tuple(node.all_input_nodes[:1]):
            raise UnreadableError(f"it calls {_named(node.target)} with more than a value")
        return inputs[0]

    def _add(self, node: fx.Node, kind: str, inputs: tuple[int, ...], channels: int, size: int, **how: Any) -> None:
        output = len(self.found) + 1
        self.found.append(Op(kind=kind, inputs=inputs, output=output, channels=channels, size=size, **how))
        self.numbers[node], self.shapes[output] = output, (channels, size)

    def _pointwise(self, node: fx.Node, function: Callable[[Tensor], Tensor], *, inplace: bool) -> None:
        x = self._only_input(node)
        if inplace:
            self.changed.add(x)
        is_relu = type(function) is nn.ReLU or function in (F.relu, torch.relu)
        if isinstance(function, nn.Module) and inplace:
            function = copy(function)  # without changing its input, which the backward pass may need
            function.inplace = False  # type: ignore[assignment]
        self._add(node, "relu" if is_relu else "pointwise", (x,), *self.shapes[x], apply=function)

    def _max_pool(
        self, node: fx.Node, name: str, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        x = self._only_input(node)
        channels, size = self.shapes[x]
        sides = kernel_size, kernel_size if stride is None else stride, padding, dilation
        pairs = [side if isinstance(side, (tuple, list)) else (side, side) for side in sides]
        if any(a != b for a, b in pairs) or pairs[3][0] != 1 or return_indices or ceil_mode or not size:
            raise UnreadableError(f"{name} pools {sides}: only square windows without dilation or ceil_mode are read")
        window = pairs[0][0], pairs[1][0], pairs[2][0]
        self._add(node, "max_pool", (x,), channels, _size(name, size, *window), window=window)

    def _images(self, node: fx.Node, name: str, apply: Callable[[Tensor], Tensor]) -> None:
        """What acts on each image alone; torch says what size it gives."""
        x = self._only_input(node)
        channels, size = self.shapes[x]
        try:
            given = apply(torch.empty(1, channels, size, size, device="meta"))
            _, _, height, width = given.shape
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise UnreadableError(f"{name} cannot be applied to maps of {size}x{size} ({error})") from error
        if height != width:
            raise UnreadableError(f"{name} gives maps of {height}x{width}: only square ones are read")
        self._add(node, "images", (x,), channels, height, apply=apply)

    def _mean(self, node: fx.Node, dim: Any = None, keepdim: bool = False, **options: Any) -> None:
        x = self._only_input(node)
        channels, size = self.shapes[x]
        axes = {axis % 4 for axis in dim} if isinstance(dim, (tuple, list)) else set()
        if axes != {2, 3} or not size or any(value is not None for value in options.values()):
            raise UnreadableError("it takes a mean over something else than the pixels of a map")
        self._add(node, "mean", (x,), channels, int(keepdim))

    def _flatten(self, node: fx.Node, start_dim: int = 0, end_dim: int = -1) -> None:
        x = self._only_input(node)
        channels, size = self.shapes[x]
        if start_dim != 1 or end_dim not in (-1, 3 if size else 1):
            raise UnreadableError("it flattens other axes than those of one image")
        if size == 0:
            self.numbers[node] = x
        else:
            self._add(node, "flatten", (x,), channels * size**2, 0)


def _size(name: str, size: int, kernel: int, stride: int, padding: int) -> int:
    """Pixels along an axis behind a window; UnreadableError where the map is too small."""
    behind = (size + 2 * padding - kernel) // stride + 1
    if behind < 1:
        raise UnreadableError(f"{name} has a window of {kernel}x{kernel}, larger than its map of {size}x{size}")
    return behind


def _named(target: object) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))
