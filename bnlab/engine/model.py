"""How long a step takes on a GPU that nobody has here: its kernels, bytes and FLOP, counted from the program as it is.

A kernel takes the longer of moving its bytes and doing its FLOP at the device's figures, and the time of a graph's node
on top. No credit is given for caches. It is a model and no measurement: `bench` measures.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from bnlab.engine.eager import network
from bnlab.engine.kernels.taps import ConvGeometry
from bnlab.engine.operations import Op
from bnlab.engine.program import Program
from bnlab.specs import Replicate, RunSpec

_FLOAT = 4
_ADAM = 7 * _FLOAT
"""Bytes that Adam moves of a parameter: it reads the weight, its gradient and both moments, and writes all but one."""

_ADAM_LAUNCH = 320 * 65536
"""Elements of one launch of torch's fused Adam, at the most 36 tensors: 320 blocks of 64 Ki."""
_ADAM_TENSORS = 36

_AROUND = 26
"""Small kernels of a step beside the network: gather, standardise, loss, its gradient, counts, records, counters."""

_TILE = 128
"""Rows and columns of the product that one block of a GPU computes at a time."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a GPU reaches: FLOP and bytes a second, the factor of its bytes that Adam moves, seconds a graph node."""

    flop_per_s: float
    bytes_per_s: float
    adam: float
    node_s: float
    processors: int


DEVICES = {
    "h200": Device(flop_per_s=0.55 * 495e12, bytes_per_s=0.75 * 4.3e12, adam=0.8 / 0.75, node_s=0.8e-6, processors=132),
    "h100": Device(flop_per_s=0.55 * 495e12, bytes_per_s=0.75 * 3.0e12, adam=0.8 / 0.75, node_s=0.8e-6, processors=132),
}
"""TF32 at 55 % of the data sheet; three quarters of the bytes that a copy moves, Adam four fifths. Assumed figures."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch: what it belongs to, the bytes it moves, its FLOP, and the tiles that it computes a product in."""

    of: str
    bytes: float
    flop: float = 0.0
    tiles: int = 0

    def seconds(self, device: Device) -> float:
        """Its time: bytes or FLOP, whichever takes longer; a product's last wave of tiles is as long as a full one."""
        moved = self.bytes / (device.bytes_per_s * (device.adam if self.of == "Adam" else 1.0))
        waves = math.ceil(self.tiles / device.processors) * device.processors / max(1, self.tiles)
        return device.node_s + max(moved, self.flop * waves / device.flop_per_s)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a cohort by the model: launches, bytes, FLOP, seconds, and the seconds of each kind of kernel."""

    launches: int
    bytes: float
    flop: float
    seconds: float
    shares: dict[str, float]


def program(spec: RunSpec) -> Program:
    """The program of one replica on the CPU: what any number of them would launch on a GPU is read from it."""
    return Program([network(Replicate(spec, 0))], torch.device("cpu"))


def step(program: Program, replicas: int, batch: int, device: Device) -> Step:
    """One step of so many replicas on batches of this size; the program may hold fewer of them."""
    launched = list(kernels(program, replicas, batch))
    shares: dict[str, float] = {}
    for kernel in launched:
        shares[kernel.of] = shares.get(kernel.of, 0.0) + kernel.seconds(device)
    return Step(
        launches=len(launched),
        bytes=sum(kernel.bytes for kernel in launched),
        flop=sum(kernel.flop for kernel in launched),
        seconds=sum(shares.values()),
        shares=shares,
    )


def kernels(program: Program, replicas: int, batch: int) -> Iterator[Kernel]:
    """The kernels of a step, forward, backward and Adam, as the engine launches them on a GPU."""
    maps = replicas * batch
    for op in program.ops:
        match op.kind:
            case "conv":
                yield from _conv(program.weights[op.module].geometry, replicas, batch, first=op.inputs == (0,))
            case "slot":
                yield from _norm(op, replicas, batch)
            case "max_pool":
                read, written = maps * (2 * op.size) ** 2 * op.channels, maps * op.size**2 * op.channels
                yield from [Kernel(of="rest", bytes=_FLOAT * read + 5 * written)] * 2
            case "linear":
                inputs = program.parameters[f"{op.module}.weight"].leaves[0].shape[2]
                yield from _products(replicas, batch, op.channels, inputs, both=True)
            case _:
                moved = _FLOAT * maps * max(1, op.size) ** 2 * op.channels
                yield from [Kernel(of="rest", bytes=3 * moved)] * 2
    readers = Counter(number for op in program.ops for number in op.inputs)
    for op in program.ops:
        # the gradients of a value that is read twice are added
        for _ in range(readers[op.output] - 1):
            yield Kernel(of="norm+add", bytes=3 * _FLOAT * maps * op.size**2 * op.channels)
    yield from [Kernel(of="rest", bytes=0.0)] * _AROUND
    yield from _adam([leaf.numel() // len(leaf) * replicas for leaf in program.leaves()])


def _conv(geometry: ConvGeometry, replicas: int, batch: int, *, first: bool) -> Iterator[Kernel]:
    """Patches, three products and the fold; the first layer's images need no gradient."""
    rows, width = batch * geometry.size_out**2, geometry.taps**2 * geometry.c_in // geometry.groups
    image = replicas * batch * geometry.size_in**2 * geometry.c_in
    columns = replicas * rows * width * geometry.groups
    view = (geometry.taps == 1 and geometry.stride == 1) or (
        geometry.size_out == 1 and geometry.taps == geometry.size_in and geometry.margin[0] == 0
    )
    if not view:
        yield Kernel(of="patches+fold", bytes=_FLOAT * (image + columns))
        if not first:
            yield Kernel(of="patches+fold", bytes=_FLOAT * (image + columns))
    yield from _products(replicas * geometry.groups, rows, geometry.c_out // geometry.groups, width, both=not first)


def _products(count: int, rows: int, outputs: int, inputs: int, *, both: bool) -> Iterator[Kernel]:
    """[rows, inputs] times [inputs, outputs]: forward, the weights' gradient, and if `both` the inputs' gradient."""
    moved = _FLOAT * count * (rows * inputs + inputs * outputs + rows * outputs)
    flop = 2.0 * count * rows * inputs * outputs
    for high, wide in [(rows, outputs), (outputs, inputs)] + ([(rows, inputs)] if both else []):
        tiles = count * math.ceil(high / _TILE) * math.ceil(wide / _TILE)
        yield Kernel(of="GEMM", bytes=moved, flop=flop, tiles=tiles)


def _norm(op: Op, replicas: int, batch: int) -> Iterator[Kernel]:
    """A norm with its residual and ReLU: one kernel each way where a tile holds all positions (1,024), else two."""
    positions = batch * op.size**2
    once = _FLOAT * replicas * positions * op.channels
    residual, several = len(op.inputs) > 1, positions > 1024
    if several:
        yield Kernel(of="norm+add", bytes=once)  # moments
    yield Kernel(of="norm+add", bytes=once * (2 + residual))
    masked = residual and op.relu  # the masked gradient is the residual's
    if several:
        yield Kernel(of="norm+add", bytes=once * (2 + 2 * masked))
        yield Kernel(of="norm+add", bytes=once * 3)
    else:
        yield Kernel(of="norm+add", bytes=once * (3 + 2 * masked))


def _adam(sizes: list[int]) -> Iterator[Kernel]:
    """torch's fused Adam over leaves of these sizes, and the count of its steps."""
    yield Kernel(of="Adam", bytes=0.0)
    launches = max(math.ceil(sum(sizes) / _ADAM_LAUNCH), math.ceil(len(sizes) / _ADAM_TENSORS))
    yield from [Kernel(of="Adam", bytes=_ADAM * sum(sizes) / launches)] * launches
