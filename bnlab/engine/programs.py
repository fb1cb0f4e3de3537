"""The programs that a cohort trains as, and what has to be set while they run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnlab.data.images import Images
from bnlab.engine.eager import EagerProgram, network
from bnlab.engine.optim import moves_dead_taps
from bnlab.engine.program import Program
from bnlab.engine.reader import unreadable
from bnlab.engine.training import Training
from bnlab.errors import SpecError
from bnlab.nets import norm_slots
from bnlab.parts import NONE, Norm
from bnlab.specs import Precision, Replicate

_T = TypeVar("_T")
Say = Callable[[str], None]
Make = Callable[[Sequence[Replicate]], Training]
"""Builds the program of these replicas."""


@dataclass(frozen=True)
class Programs:
    """The trainings of a cohort; with a `pool`, each on a thread."""

    trainings: Sequence[Training]
    pool: ThreadPoolExecutor | None = None

    def place(self, member: Replicate) -> tuple[Training, int]:
        """The training that a member is part of, and which replica it is there."""
        return next((part, part.cohort.index(member)) for part in self.trainings if member in part.cohort)

    def map(self, work: Callable[[Training], _T]) -> list[_T]:
        """What `work` gives for each training, in their order."""
        return list((map if self.pool is None else self.pool.map)(work, self.trainings))

    @classmethod
    def one_program(cls, cohort: Sequence[Replicate], make: Make) -> "Programs":
        """All replicas in one program, those that train a scale or a shift side by side."""
        return cls([make(sorted(cohort, key=lambda member: _rank(member.spec.norm)))])

    @classmethod
    def one_after_another(cls, cohort: Sequence[Replicate], make: Make) -> "Programs":
        """A program a replica."""
        return cls([make([member]) for member in cohort])

    @classmethod
    def one_per_thread(cls, cohort: Sequence[Replicate], make: Make, pool: ThreadPoolExecutor) -> "Programs":
        """A program a replica, side by side."""
        return cls([make([member]) for member in cohort], pool)


@contextmanager
def programs(
    cohort: Sequence[Replicate], images: Images, device: torch.device, say: Say = lambda line: None
) -> Iterator[Programs]:
    """The programs of a cohort, with threads, precision and current device set as they need while the context lasts.

    A GPU is kept busy by one program of all replicas. A CPU is fastest with a program a replica, each on one thread of
    its own: no core waits for another, and a Run's bits do not depend on how many threads there are. The eager engine,
    and a network that the engine cannot read, take a program a replica of torch's own modules. `say` is told of slower
    ways, and why they are taken.
    """
    spec = cohort[0].spec
    if any(member.cohort_key != spec.cohort_key for member in cohort):
        raise ValueError(f"one program cannot hold {named(cohort)}: their RunSpecs differ in more than the norm")
    fused = spec.engine == "fused"
    built = networks(cohort, images) if fused else []
    if fused and (reason := unreadable(built[0])):
        if spec.precision == "bf16":
            raise SpecError(f"{spec.net} has no bf16, since the engine cannot read it ({reason}): take fp32 or tf32")
        say(f"{spec.net} trains replica by replica, since the engine cannot read it: {reason}")
        fused = False
    make = partial(
        partial(_fused, built=_Built(cohort, built)) if fused else _eager, images=images, device=device, say=say
    )
    del built
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # a captured graph belongs to the current device
    with precision(spec.precision):
        if device.type == "cpu":
            with _threads() as pool:
                yield Programs.one_per_thread(cohort, make, pool)
        elif fused:
            yield Programs.one_program(cohort, make)
        else:
            yield Programs.one_after_another(cohort, make)


@contextmanager
def precision(wanted: Precision) -> Iterator[None]:
    """TF32 in matrix products and convolutions for `tf32`, else not; as it was before when the context ends."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = wanted == "tf32"
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """As many threads as torch would use inside an operation, where it now uses one."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)


def named(cohort: Sequence[Replicate]) -> str:
    """A cohort in words: what its RunSpecs have in common, and their norms."""
    spec = cohort[0].spec
    norms = " + ".join(dict.fromkeys(str(own.spec.norm) for own in cohort))
    return str(spec).replace(str(spec.norm), norms, 1)


class _Built:
    """Networks by the replica that they are for, each given away once: nothing keeps them while their copies train."""

    def __init__(self, members: Sequence[Replicate], models: Sequence[nn.Module]) -> None:
        self.left = list(zip(members, models, strict=True))

    def take(self, member: Replicate) -> nn.Module:
        """A network of this replica."""
        return self.left.pop([own for own, _ in self.left].index(member))[1]


def _fused(members: Sequence[Replicate], *, built: _Built, images: Images, device: torch.device, say: Say) -> Training:
    spec = members[0].spec
    models = [built.take(member) for member in members]
    compute = torch.bfloat16 if spec.precision == "bf16" else None
    elide = not moves_dead_taps(spec, models[0])
    return Training(members, Program(models, device, elide=elide, compute=compute), images, say)


def networks(members: Sequence[Replicate], images: Images | None = None) -> list[nn.Module]:
    """The networks of a cohort as they begin, for these images; an initialisation may look at them.

    Those of one seed share the tensors outside their norms: drawing numbers takes most of the time that a network
    takes, and the norms of a mixed cohort draw none. What was built must not be trained, but copied from.
    """
    drawn: dict[int, nn.Module] = {}
    built: dict[Replicate, nn.Module] = {}
    for member in dict.fromkeys(members):
        first = drawn.get(member.seed)
        if first is None or member.spec.init is not None or member.spec.parametrization is not None:
            drawn[member.seed] = built[member] = network(member, images)
        else:
            with _Undrawn():
                built[member] = network(member, images)
            _share(built[member], first)
    # a member that comes twice is one whose speed is measured
    return [built[one] if members.index(one) == k else deepcopy(built[one]) for k, one in enumerate(members)]


class _Undrawn(TorchFunctionMode):
    """Tensors that would be filled with random numbers stay as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function, unless it draws."""
        return args[0] if func in (Tensor.normal_, Tensor.uniform_) else func(*args, **(kwargs or {}))


def _share(network: nn.Module, first: nn.Module) -> None:
    """Give a network the tensors of another, but for those of its norms."""
    of_norms = tuple(f"{name}." for name in norm_slots(network))
    tensors = {**dict(first.named_parameters()), **dict(first.named_buffers())}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if not name.startswith(of_norms):
            tensor.data = tensors[name].data


def _eager(members: Sequence[Replicate], *, images: Images, device: torch.device, say: Say) -> Training:
    (member,) = members
    return Training(members, EagerProgram(network(member, images), device), images, say)


def _rank(norm: Norm) -> tuple[bool, bool, str]:
    """An order in which the norms that train a scale are neighbours, and those that train a shift are as well."""
    trained = [norm.layer != NONE.layer and norm.keywords.get(name, True) for name in ("scale", "shift")]
    scale, shift = map(bool, trained)
    # Gray code: neighbours differ in one of scale and shift, so those that train either form one block
    return scale, scale != shift, norm.layer
