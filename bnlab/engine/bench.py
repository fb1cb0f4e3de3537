"""How fast: our engine, the plain eager torchvision loop and solo CUDA graphs on the same work, in one run.

Machines are noisy, so the contestants take turns, round by round, and what is reported beside the medians are their
ratios. The floor is the least time that the step's bytes and multiplications can take on the device, from a copy and a
matrix product measured in the same run.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bnlab.data.images import Images
from bnlab.data.sources import Arrays
from bnlab.engine.program import Program
from bnlab.engine.programs import precision, programs
from bnlab.engine.training import Training
from bnlab.nets import CLASSES, build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Norm
from bnlab.specs import Replicate, RunSpec

BYTES = 44
"""Least bytes per live parameter and step in fp32: weights read twice, gradient written, Adam reads 4 and writes 3."""

Advance = Callable[[int], None]
"""Takes so many steps and returns when they are done."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One network and batch size: milliseconds per step of one replica, medians over the rounds, and what follows.

    `eager_ms` is the plain loop's step, `ours_ms` the cohort's step divided by its replicas, `graph_ms` the plain step
    captured as a CUDA graph (None without a GPU), `floor_ms` the least possible; `*_spread` are the quartiles' distance
    over the median. `images_per_s` is the cohort's total. `peak_mib` is the GPU memory that the cohort took.
    """

    net: str
    batch_size: int
    replicas: int
    eager_ms: float
    ours_ms: float
    graph_ms: float | None
    floor_ms: float
    eager_spread: float
    ours_spread: float
    images_per_s: float
    peak_mib: float | None

    @property
    def over_eager(self) -> float:
        """How many times the eager loop's throughput."""
        return self.eager_ms / self.ours_ms

    @property
    def over_graph(self) -> float | None:
        """How many times the throughput of solo CUDA graphs."""
        return None if self.graph_ms is None else self.graph_ms / self.ours_ms

    @property
    def over_floor(self) -> float:
        """How many times the floor's time."""
        return self.ours_ms / self.floor_ms

    def to_json(self) -> dict[str, Any]:
        """Plain values, ratios included."""
        ratios = {"over_eager": self.over_eager, "over_graph": self.over_graph, "over_floor": self.over_floor}
        return asdict(self) | ratios


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What the device can do, measured: bytes copied per second (read and written) and fp32/TF32 FLOP per second.

    `adam_bytes_per_s` is what torch's fused Adam moves of its 28 bytes a parameter: where it is far below the copy, a
    kernel of our own would be worth its lines.
    """

    bytes_per_s: float
    flop_per_s: float
    adam_bytes_per_s: float


PAPER_NORMS = (BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE)


def cohort(spec: RunSpec, replicas: int, norms: Sequence[Norm] = (BATCHNORM,)) -> list[Replicate]:
    """So many replicas of this RunSpec, a seed of every norm before the next seed."""
    return [Replicate(replace(spec, norm=norms[k % len(norms)]), k // len(norms)) for k in range(replicas)]


def compare(cohort: Sequence[Replicate], device: str, *, steps: int, rounds: int, ceiling: Ceiling) -> Timing:
    """Time `rounds` turns of `steps` optimizer steps of each contestant, the others with torchvision's BatchNorm."""
    spec, replicas = cohort[0].spec, len(cohort)
    images = noise(max(steps * spec.batch_size, 2 * spec.batch_size), device)
    on = torch.device(device)
    threads = torch.get_num_threads()
    with programs(cohort, images, on) as parts:
        parts.map(lambda part: part.prepare(0))

        def ours(count: int) -> None:
            def take(part: Training) -> None:
                part.at.zero_()
                part.taken = 0
                part.advance(count)

            parts.map(take)

        contestants: dict[str, Advance] = {"ours": ours, "eager": _with_threads(threads, eager(spec, images, device))}
        if on.type == "cuda":
            contestants["graph"] = graphed(spec, images, device)
            torch.cuda.reset_peak_memory_stats(on)
        for advance in contestants.values():
            advance(2)
        peak = torch.cuda.max_memory_allocated(on) / 2**20 if on.type == "cuda" else None
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(rounds):
            for name, advance in contestants.items():
                times[name].append(_seconds(advance, steps, on) / steps)
        program = parts.trainings[0].program
        assert isinstance(program, Program), "a bench of the eager engine would compare it with itself"
        live = sum(leaf.numel() for leaf in program.leaves()) * len(parts.trainings) / replicas
        flop = 2 * spec.batch_size * macs(program)
    ours_ms = 1e3 * statistics.median(times["ours"]) / replicas
    return Timing(
        net=str(spec.net),
        batch_size=spec.batch_size,
        replicas=replicas,
        eager_ms=1e3 * statistics.median(times["eager"]),
        ours_ms=ours_ms,
        graph_ms=1e3 * statistics.median(times["graph"]) if "graph" in times else None,
        floor_ms=1e3 * max(BYTES * live / ceiling.bytes_per_s, flop / ceiling.flop_per_s),
        eager_spread=_spread(times["eager"]),
        ours_spread=_spread(times["ours"]),
        images_per_s=1e3 * spec.batch_size / ours_ms,
        peak_mib=peak,
    )


def eager(spec: RunSpec, images: Images, device: str) -> Advance:
    """The loop that anybody would write: torchvision's network, torch's default Adam, one replica."""
    step = _plain_step(spec, images, device, fused=False)

    def advance(count: int) -> None:
        for index in range(count):
            step(torch.tensor(index, device=device))

    return advance


def _with_threads(threads: int, advance: Advance) -> Advance:
    """The same with this many threads inside every operation; a cohort on a CPU has set one."""

    def inside(count: int) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            advance(count)
        finally:
            torch.set_num_threads(before)

    return inside


def graphed(spec: RunSpec, images: Images, device: str) -> Advance:
    """The same step, with capturable Adam, captured once as a CUDA graph: the best of one replica without rewriting."""
    at = torch.zeros((), dtype=torch.int64, device=device)
    step = _plain_step(spec, images, device, fused=True)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(at)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step(at)
        at += 1

    def advance(count: int) -> None:
        at.zero_()
        for _ in range(count):
            graph.replay()

    return advance


def _plain_step(spec: RunSpec, images: Images, device: str, *, fused: bool) -> Callable[[torch.Tensor], None]:
    model = build(spec.net, BATCHNORM, 0).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, capturable=fused, fused=fused)
    scale, mean = 1 / (255 * images.std), 255 * images.mean
    steps = len(images.x_train) // spec.batch_size
    order = torch.randperm(len(images.x_train), device=device)[: steps * spec.batch_size].view(steps, -1)

    def step(at: torch.Tensor) -> None:
        index = order.index_select(0, (at % steps).view(1))[0]
        x = ((images.x_train[index] - mean) * scale).permute(0, 3, 1, 2).contiguous()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(model(x), images.y_train[index]))
        optimizer.step()

    return step


def ceiling(device: str) -> Ceiling:
    """Copy 256 MiB, multiply two matrices and step Adam a few times: the medians of what the device does per second.

    A GPU multiplies in TF32, as a RunSpec does by default.
    """
    with precision("tf32"):
        return _ceiling(device)


def _ceiling(device: str) -> Ceiling:
    on = torch.device(device)
    block = torch.empty(2**26, dtype=torch.float32, device=on).fill_(1.0)
    target = torch.empty_like(block)
    side = 8192 if on.type == "cuda" else 2048
    a, b = torch.randn(side, side, device=on), torch.randn(side, side, device=on)

    def transfer(_: int) -> None:
        target.copy_(block)

    def product(_: int) -> None:
        if on.type == "cuda":
            torch.mm(a, b)
        else:
            torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")

    parameter = torch.zeros(2**28 if on.type == "cuda" else 2**24, device=on, requires_grad=True)
    parameter.grad = torch.zeros_like(parameter)
    adam = torch.optim.Adam([parameter], fused=True, capturable=on.type == "cuda")

    def update(_: int) -> None:
        adam.step()

    update(0)  # its first step makes its moments
    copy, multiply, step = (
        statistics.median(_seconds(work, 1, on) for _ in range(7)) for work in (transfer, product, update)
    )
    return Ceiling(
        bytes_per_s=2 * 4 * block.numel() / copy,
        flop_per_s=2 * side**3 / multiply,
        adam_bytes_per_s=28 * parameter.numel() / step,
    )


def macs(program: Program) -> int:
    """Multiplications per image of a training step over live taps: forward, and both gradients except the images'."""
    geometries = [packed.geometry for packed in program.packed if packed.geometry is not None]
    each = [
        geometry.c_in // geometry.groups * geometry.c_out * geometry.taps**2 * geometry.size_out**2
        for geometry in geometries
    ]
    heads = sum(packed.shape.numel() for packed in program.packed if packed.classes is not None)
    return int(3 * (sum(each) + heads) - each[0])


def grid(timings: Sequence[Timing], images: int, epochs: int, runs: int) -> float:
    """Seconds that so many Runs of every timed cell take at these steps; evaluation and start-up are left out."""
    steps = {timing: epochs * (images // timing.batch_size) for timing in timings}
    return sum(runs * steps[timing] * timing.ours_ms / 1e3 for timing in timings)


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one kind of kernel (on a GPU) or operator (on a CPU) takes of a step: how often, and milliseconds."""

    name: str
    calls: float
    ms: float


def where(cohort: Sequence[Replicate], device: str, steps: int = 3) -> list[Share]:
    """Where the time of a step of the whole cohort goes, by torch's profiler, the longest first.

    On a CPU one replica's step in one thread: there its cohort is many of them beside each other.
    """
    spec, on = cohort[0].spec, torch.device(device)
    cuda = on.type == "cuda"
    with programs(cohort if cuda else cohort[:1], noise(8 * spec.batch_size, device), on) as parts:
        part = parts.trainings[0]
        part.prepare(0)
        part.advance(2)
        activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity], acc_events=True) as profile:
            part.advance(steps)
            if cuda:
                torch.cuda.synchronize(on)
    shares = [
        Share(
            name=str(event.key),
            calls=event.count / steps,
            ms=(event.self_device_time_total if cuda else event.self_cpu_time_total) / steps / 1e3,
        )
        for event in profile.key_averages()
    ]
    return sorted((share for share in shares if share.ms > 0), key=lambda share: -share.ms)


def noise(count: int, device: str) -> Images:
    """Random images and labels: a step takes as long whatever is on them."""
    draws = np.random.default_rng(0)
    x = draws.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    y = draws.integers(0, CLASSES, count).astype(np.uint8)
    arrays = Arrays(x_train=x, y_train=y, x_test=x[:10], y_test=y[:10], digest="noise", label="random images")
    return Images.of(arrays, device)


def _seconds(advance: Advance, steps: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    advance(steps)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


def _spread(times: Sequence[float]) -> float:
    """Distance of the quartiles over the median."""
    if len(times) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(times, n=4)
    return (high - low) / middle
