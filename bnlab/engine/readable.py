"""What a network must be for the engine to read it, beside the operations in its graph.

The engine applies a layer by its parameters and never calls its module. So a subclass that computes something else, a
hook, a frozen or a shared parameter would be passed over; each is an UnreadableError here.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import cast

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from bnlab.errors import SpecError

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class UnreadableError(SpecError):
    """The engine cannot read a network; the message names the module or function."""


def check_layer(name: str, module: nn.Conv2d | nn.Linear) -> None:
    """UnreadableError for a convolution or linear layer that is more than its trained parameters."""
    if isinstance(module, nn.Conv2d):
        _check_conv(name, module)
    elif type(module) is not nn.Linear:
        raise UnreadableError(f"{name} is a {type(module).__name__}, which may compute something else than nn.Linear")
    frozen = [own for own, parameter in module.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise UnreadableError(f"{name}.{frozen[0]} is not trained")


def _check_conv(name: str, conv: nn.Conv2d) -> None:
    kind = type(conv)
    if (kind.forward, kind._conv_forward) != (nn.Conv2d.forward, nn.Conv2d._conv_forward) or "forward" in vars(conv):
        raise UnreadableError(f"{name} is a {kind.__name__}, which may compute something else than nn.Conv2d")
    pairs = (conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    square = all(isinstance(pair, tuple) and pair[0] == pair[1] for pair in pairs)
    if not square or conv.dilation[0] != 1 or conv.padding_mode != "zeros":
        raise UnreadableError(f"{name} is a convolution that is not square, not undilated or not padded by zeros")
    if is_parametrized(conv):
        parametrizations = cast(nn.ModuleDict, conv.parametrizations)
        if set(parametrizations) != {"weight"} or list(parametrizations.buffers()):
            raise UnreadableError(f"{name} has a parametrization with a state, or of something else than its weight")


def check_whole(model: nn.Module, slots: set[str], applied: Sequence[str]) -> None:
    """UnreadableError where the layers `applied` by the graph are not the whole network, each of them once."""
    for name, times in Counter(applied).items():
        if times > 1:
            raise UnreadableError(f"{name} is applied {times} times")
    for name, module in model.named_modules():
        inside = not slots.isdisjoint(_around(name))
        # the slot of a norm without a fused form calls the layer, and so its hooks
        if not inside and (name not in slots or "slot" in vars(type(module))):
            _check_hooks(name or type(model).__name__, module)
    names: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in names:
            raise UnreadableError(f"{names[id(parameter)]} and {name} are one parameter")
        names[id(parameter)] = name
    layers = set(applied)
    for name in model.state_dict():
        if layers.isdisjoint(_around(name)):
            raise UnreadableError(f"{name} belongs to no layer that is applied to the images")


def _around(name: str) -> Iterator[str]:
    """The modules that hold this one: of "a.b.c" they are "a" and "a.b"."""
    return accumulate(name.split(".")[:-1], "{}.{}".format)


def _check_hooks(name: str, module: nn.Module) -> None:
    parameters = list(module.parameters(recurse=False))
    if any(getattr(module, hooks) for hooks in _HOOKS) or any(
        parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None) for parameter in parameters
    ):
        raise UnreadableError(f"{name} has hooks, which the engine would not call")
