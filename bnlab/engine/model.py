"""How long a step takes on a GPU that nobody has here: its kernels, bytes and FLOP, counted from the program as it is.

A kernel takes the longer of moving its bytes and doing its FLOP at the device's figures, and the time of a graph's node
on top. Two kernels at a time, one of the step and one at its side, share bytes and FLOP. No credit is given for caches.
It is a model and no measurement: `bench` measures.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from bnlab.engine.eager import network
from bnlab.engine.kernels.packing import Packed
from bnlab.engine.kernels.taps import ConvGeometry
from bnlab.engine.operations import Op
from bnlab.engine.program import Program
from bnlab.engine.side import pieces
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
    """What a GPU reaches: FLOP and bytes a second, the factor of its bytes that Adam moves, seconds a graph node.

    `together` is the factor of its bytes that two kernels at a time move. 1 gives the second stream no credit but for
    the gaps that it fills.
    """

    flop_per_s: float
    bytes_per_s: float
    adam: float
    node_s: float
    processors: int
    together: float = 1.0


DEVICES = {
    "h200": Device(flop_per_s=0.55 * 495e12, bytes_per_s=0.75 * 4.3e12, adam=0.8 / 0.75, node_s=0.8e-6, processors=132),
    "h100": Device(flop_per_s=0.55 * 495e12, bytes_per_s=0.75 * 3.0e12, adam=0.8 / 0.75, node_s=0.8e-6, processors=132),
}
"""TF32 at 55 % of the data sheet; three quarters of the bytes that a copy moves, Adam four fifths. Assumed figures."""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One launch: what it belongs to, the bytes it moves, its FLOP, and the tiles that it computes a product in.

    One at the `side` may begin when the step's kernels before it have ended, and only the end of the step waits for it.
    """

    of: str
    bytes: float
    flop: float = 0.0
    tiles: int = 0
    side: bool = False

    def moving(self, device: Device) -> float:
        """Seconds that its bytes take."""
        return self.bytes / (device.bytes_per_s * (device.adam if self.of == "Adam" else 1.0))

    def seconds(self, device: Device) -> float:
        """Its time: bytes or FLOP, whichever takes longer; a product's last wave of tiles is as long as a full one."""
        moved = self.moving(device)
        waves = math.ceil(self.tiles / device.processors) * device.processors / max(1, self.tiles)
        return device.node_s + max(moved, self.flop * waves / device.flop_per_s)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of a cohort by the model: launches, bytes, FLOP, seconds, and the seconds of each kind of kernel alone."""

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
        seconds=both_streams(launched, device),
        shares=shares,
    )


def both_streams(launched: Sequence[Kernel], device: Device) -> float:
    """Seconds until all have ended: the step's one after another, those at its side one after another beside them.

    Two at a time are both slowed down until their bytes and their FLOP together are what the device reaches.
    """
    now = 0.0
    main = [kernel for kernel in launched if not kernel.side]
    beside = [(sum(not one.side for one in launched[:at]), one) for at, one in enumerate(launched) if one.side]
    begun, left = [0, 0], [0.0, 0.0]
    while begun[0] < len(main) or begun[1] < len(beside):
        running: dict[int, Kernel] = {}
        if begun[0] < len(main):
            running[0] = main[begun[0]]
        if begun[1] < len(beside) and beside[begun[1]][0] <= begun[0]:
            running[1] = beside[begun[1]][1]
        alone = {queue: max(1e-12, kernel.seconds(device)) for queue, kernel in running.items()}
        left = [left[queue] or alone.get(queue, 0.0) for queue in (0, 1)]
        bytes_ = sum(kernel.moving(device) / alone[queue] for queue, kernel in running.items())
        flop = sum(kernel.flop / device.flop_per_s / alone[queue] for queue, kernel in running.items())
        slower = max(1.0, bytes_ / device.together, flop) if len(running) == 2 else 1.0
        passed = min(left[queue] for queue in running)
        now += passed * slower
        for queue in running:
            left[queue] = 0.0 if left[queue] <= passed else left[queue] - passed
            begun[queue] += left[queue] == 0.0
    return now


def kernels(program: Program, replicas: int, batch: int) -> Iterator[Kernel]:
    """The kernels of a step, forward, backward and Adam, in the order in which the engine launches them on a GPU."""
    maps = replicas * batch
    readers = Counter(number for op in program.ops for number in op.inputs)
    forward: list[Kernel] = []
    backward: list[list[Kernel]] = []
    waiting = [[id(leaf) for leaf in piece] for piece in pieces(program.leaves(), replicas)]
    sizes = {id(leaf): leaf.numel() // len(leaf) * replicas for leaf in program.leaves()}
    for op in program.ops:
        there, back = _operation(program, op, replicas, batch)
        # the gradients of a value that is read twice are added, those of a norm in its own kernel
        add = Kernel(of="norm+add", bytes=3 * _FLOAT * maps * op.size**2 * op.channels)
        forward += there
        backward.append([add] * (readers[op.output] - 1 - (op.kind == "slot")) + back)
    yield from forward
    left = [set(piece) for piece in waiting]
    for op, back in zip(reversed(program.ops), reversed(backward), strict=True):
        yield from back
        own = {id(leaf) for packed in _parameters(program, op) for leaf in packed.leaves}
        for piece, missing in zip(waiting, left, strict=True):
            if missing & own:
                missing -= own
                if not missing:
                    yield from _adam([sizes[leaf] for leaf in piece])
    yield from [Kernel(of="rest", bytes=0.0)] * _AROUND


def _parameters(program: Program, op: Op) -> list[Packed]:
    return [packed for name, packed in program.parameters.items() if op.module and name.startswith(f"{op.module}.")]


def _operation(program: Program, op: Op, replicas: int, batch: int) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels of one operation, forward and backward."""
    maps = replicas * batch
    match op.kind:
        case "conv":
            return _conv(program.weights[op.module].geometry, replicas, batch, first=op.inputs == (0,))
        case "slot":
            return _norm(op, replicas, batch, twice=sum(one.inputs.count(op.output) for one in program.ops) > 1)
        case "max_pool":
            read, written = maps * (2 * op.size) ** 2 * op.channels, maps * op.size**2 * op.channels
            each = [Kernel(of="rest", bytes=_FLOAT * read + 5 * written)]
        case "linear":
            inputs = program.parameters[f"{op.module}.weight"].leaves[0].shape[2]
            forward, of_weight, of_map = _products(replicas, batch, op.channels, inputs)
            return [forward], [of_map, of_weight]
        case _:
            each = [Kernel(of="rest", bytes=3 * _FLOAT * maps * max(1, op.size) ** 2 * op.channels)]
    return each, each


def _conv(geometry: ConvGeometry, replicas: int, batch: int, *, first: bool) -> tuple[list[Kernel], list[Kernel]]:
    """Patches and product; the weights' gradient at the side, the inputs' and its fold, but not of the images."""
    rows, width = batch * geometry.size_out**2, geometry.taps**2 * geometry.c_in // geometry.groups
    image = replicas * batch * geometry.size_in**2 * geometry.c_in
    columns = replicas * rows * width * geometry.groups
    view = (geometry.taps == 1 and geometry.stride == 1) or (
        geometry.size_out == 1 and geometry.taps == geometry.size_in and geometry.margin[0] == 0
    )
    copy = [] if view else [Kernel(of="patches+fold", bytes=_FLOAT * (image + columns))]
    forward, of_weight, of_map = _products(replicas * geometry.groups, rows, geometry.c_out // geometry.groups, width)
    return [*copy, forward], [replace(of_weight, side=True), *([] if first else [of_map, *copy])]


def _products(count: int, rows: int, outputs: int, inputs: int) -> list[Kernel]:
    """[rows, inputs] times [inputs, outputs]: forward, the weights' gradient, and the inputs' gradient."""
    moved = _FLOAT * count * (rows * inputs + inputs * outputs + rows * outputs)
    flop = 2.0 * count * rows * inputs * outputs
    return [
        Kernel(of="GEMM", bytes=moved, flop=flop, tiles=count * math.ceil(high / _TILE) * math.ceil(wide / _TILE))
        for high, wide in ((rows, outputs), (outputs, inputs), (rows, inputs))
    ]


def _norm(op: Op, replicas: int, batch: int, *, twice: bool = False) -> tuple[list[Kernel], list[Kernel]]:
    """A norm with its residual and ReLU: one kernel each way where a tile holds all positions (1,024), else two."""
    positions = batch * op.size**2
    residual, several = len(op.inputs) > 1, positions > 1024
    masked = residual and op.relu  # the masked gradient is the residual's
    more = twice * (2 - masked)  # another reader's gradient, and their sum where no masked one is written
    forward, backward = [2 + residual], [3 + 2 * masked + more]
    if several:
        forward, backward = [1, 2 + residual], [2 + 2 * masked + more, 3]  # moments first, sums first
    once = _FLOAT * replicas * positions * op.channels
    forward_, backward_ = ([Kernel(of="norm+add", bytes=times * once) for times in way] for way in (forward, backward))
    return forward_, backward_


def _adam(sizes: list[int]) -> Iterator[Kernel]:
    """torch's fused Adam over a piece of leaves of these sizes, and the count of its steps, at the side."""
    yield Kernel(of="Adam", bytes=0.0, side=True)
    launches = max(math.ceil(sum(sizes) / _ADAM_LAUNCH), math.ceil(len(sizes) / _ADAM_TENSORS))
    yield from [Kernel(of="Adam", bytes=_ADAM * sum(sizes) / launches, side=True)] * launches
