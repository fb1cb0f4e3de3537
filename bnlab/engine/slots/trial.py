"""The first batch of a custom norm, tried on copies: what the layer does that the engine has to know of, or refuse."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnlab.errors import SpecError

Call = Callable[[list[nn.Module], Tensor, bool], Tensor]
"""Calls layer k on x[k] [n, c, h, w] for x [k, n, c, h, w], in training or evaluation; the outputs stacked."""

Numbers = dict[str, Tensor | None]
"""Numbers by name; None stands for a gradient that there is not."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the first batch shows: the buffers that training moves, and why a step cannot be captured, or ""."""

    moved: frozenset[str]
    uncapturable: str


def examine(layer: nn.Module, x: Tensor, call: Call, who: str) -> Findings:
    """Train and evaluate copies of the layer on x [n, c, h, w]; a SpecError for what breaks the contract of a layer.

    `call` takes one layer and gives it the same random numbers each time; `who` names the layer in messages. Three
    training batches are taken: a layer whose third differs from that of a copy which was loaded from the state dict
    after the second remembers something that a resumed Run would not.
    """
    trained, watch, other = deepcopy(layer), _Watch(), 0.5 * x.flip(0) + 0.1
    start, buffers = plain_values(trained), dict(trained.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    with watch.on(x.device):
        step([trained], x[None], call)
    first = plain_values(trained)
    _nothing_counted(start, first, who)
    step([trained], other[None], call)
    _nothing_counted(start | first, plain_values(trained), who)
    made = sorted(set(trained.state_dict()) ^ set(layer.state_dict()))
    if made:
        raise SpecError(f"{who} changes its state dict in its first call ({', '.join(made)}): make all in __init__")
    after = dict(trained.named_buffers())

    evaluated, looking = deepcopy(trained), _Watch()
    with torch.no_grad(), looking.on(x.device):
        call([evaluated], x[None].clone(), False)
    _nothing_counted(plain_values(trained), plain_values(evaluated), who)
    for name, buffer in evaluated.named_buffers():
        if not _same(buffer, after[name]):
            raise SpecError(f"{who} moves its buffer {name!r} in evaluation: test images would change the training")
    if draws := watch.draws + looking.draws:
        raise SpecError(
            f"{who} draws from torch's global generator ({draws[0]}), so the same Run would not give the same numbers "
            "again: draw from the generator of `forward(self, x, generator)`"
        )

    moved = frozenset(name for name in before if not _same(before[name], after[name]))
    replaced = [name for name, buffer in buffers.items() if after[name] is not buffer]
    resumed = deepcopy(layer)
    resumed.load_state_dict(trained.state_dict())
    if not agree(step([trained], x[None], call), step([resumed], x[None], call)):
        raise SpecError(
            f"{who} remembers something that is not in its state dict, so a resumed Run would be another: register it "
            "as a persistent buffer"
        )
    reasons = [f"{who} replaces its buffer {name!r}" for name in replaced]
    reasons += [f"{who} looks at numbers ({operation})" for operation in watch.waits]
    return Findings(moved=moved, uncapturable=next(iter(reasons), ""))


@torch.enable_grad()
def step(layers: list[nn.Module], x: Tensor, call: Call) -> Numbers:
    """What a training batch x [k, n, c, h, w] gives: outputs, gradients of x and the trained parameters, buffers."""
    x = x.detach().requires_grad_()
    y = call(layers, x.clone(), True)  # a copy that is no leaf: a layer may change it in place
    named = [(f"{k}.{name}", p) for k, layer in enumerate(layers) for name, p in layer.named_parameters()]
    wanted = {"x": x} | {name: p for name, p in named if p.requires_grad}
    upstream = torch.linspace(0, 7, y.numel(), device=y.device, dtype=y.dtype).cos().view_as(y)
    gradients: tuple[Tensor | None, ...] = (None,) * len(wanted)
    if y.requires_grad:
        gradients = torch.autograd.grad(y, list(wanted.values()), upstream, allow_unused=True)
    moved = {f"{k}.{name}": b.clone() for k, layer in enumerate(layers) for name, b in layer.named_buffers()}
    return {"y": y.detach(), **moved} | {f"gradient of {name}": g for name, g in zip(wanted, gradients, strict=True)}


def agree(one: Numbers, other: Numbers) -> bool:
    """Whether two sets of numbers are the same but for rounding."""
    for name, value in one.items():
        beside = other[name]
        if value is None or beside is None:
            if value is not beside:
                return False
        elif not torch.allclose(value.double(), beside.double(), rtol=1e-4, atol=1e-5, equal_nan=True):
            return False
    return True


def can_be_recalibrated(layer: nn.Module, buffer: str) -> bool:
    """Whether the module that holds this buffer, or one around it, has `reset_running_stats`."""
    parts = buffer.split(".")[:-1]
    owners = (layer.get_submodule(".".join(parts[:depth])) for depth in range(len(parts) + 1))
    return any(callable(getattr(owner, "reset_running_stats", None)) for owner in owners)


def plain_values(layer: nn.Module) -> dict[str, object]:
    """What the layer's modules hold beside tensors and modules, but for whether they train."""
    internal = vars(nn.Module()).keys()
    return {
        f"{path}.{name}".lstrip("."): deepcopy(value)
        for path, module in layer.named_modules()
        for name, value in vars(module).items()
        if name not in internal and _is_plain(value)
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _nothing_counted(before: Mapping[str, object], after: Mapping[str, object], who: str) -> None:
    for name, value in before.items():
        # a value that was None before the first call is a cache, such as of a shape
        if value is not None and after.get(name, value) != value:
            raise SpecError(
                f"{who} changes its attribute {name!r} from call to call, which a resumed Run would not remember: "
                "register it as a buffer"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations that draw from torch's global generator, and those whose result the host waits for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.draws: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (*args, *(kwargs or {}).values())
        if torch.Tag.nondeterministic_seeded in func.tags and not any(isinstance(a, torch.Generator) for a in given):
            self.draws.append(str(func))
        looks = torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
        if looks and not (func is torch.ops.aten.index.Tensor and _by_number(args[1])):
            self.waits.append(str(func))
        return func(*args, **(kwargs or {}))

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """Watch a call; on a GPU also what torch itself reports as a wait, such as a tensor made on the host."""
        if device.type != "cuda":
            with self:
                yield
            return
        mode = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                torch.cuda.set_sync_debug_mode("warn")  # which warns too, the first time
                with self:
                    yield
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        self.waits += [str(one.message) for one in said if "called a synchroniz" in str(one.message)]


def _by_number(indices: list[Tensor | None]) -> bool:
    """Whether an index is made of positions, whose count the host knows, and not of a mask."""
    return all(index is None or index.dtype not in (torch.bool, torch.uint8) for index in indices)
