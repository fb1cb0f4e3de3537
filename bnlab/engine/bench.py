"""How fast: our engine and its rivals on the same work, in one run.

Machines are noisy, so the contestants take turns, round by round, and what is reported beside the medians are their
ratios. The floor is the least time that the step's bytes and multiplications can take on the device, from a copy and a
matrix product measured in the same run.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from bnlab.data.images import Images
from bnlab.data.sources import Arrays
from bnlab.engine import rivals
from bnlab.engine.fallbacks import in_a_line
from bnlab.engine.program import Program
from bnlab.engine.programs import precision, programs
from bnlab.engine.rivals import Advance
from bnlab.engine.training import Training
from bnlab.nets import CLASSES
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Norm
from bnlab.specs import Replicate, RunSpec

BYTES = 44
"""Least bytes per live parameter and step in fp32: weights read twice, gradient written, Adam reads 4 and writes 3."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One network and batch size: milliseconds per step of one replica, medians over the rounds, and what follows.

    `ours_ms` is the cohort's step divided by its replicas, `rivals_ms` the same of the others by name, `floor_ms` the
    least possible. `spreads` are the quartiles' distance over the median, by name, `ours` among them. `images_per_s`
    is the cohort's total. `peak_mib` is the GPU memory that the cohort took.
    """

    net: str
    batch_size: int
    replicas: int
    ours_ms: float
    rivals_ms: dict[str, float]
    floor_ms: float
    spreads: dict[str, float]
    images_per_s: float
    peak_mib: float | None

    @property
    def over(self) -> dict[str, float]:
        """How many times the throughput of each rival."""
        return {name: ms / self.ours_ms for name, ms in self.rivals_ms.items()}

    @property
    def over_floor(self) -> float:
        """How many times the floor's time."""
        return self.ours_ms / self.floor_ms

    def to_json(self) -> dict[str, Any]:
        """Plain values, ratios included."""
        return asdict(self) | {"over": self.over, "over_floor": self.over_floor}


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


def compare(
    cohort: Sequence[Replicate],
    device: str,
    *,
    steps: int,
    rounds: int,
    ceiling: Ceiling,
    against: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Timing:
    """Time `rounds` turns of `steps` optimizer steps of each contestant, the rivals with torchvision's BatchNorm.

    A rival that cannot run here, such as one that needs a compiler, is left out, and `say` is told why.
    """
    spec, replicas = cohort[0].spec, len(cohort)
    images = noise(max(steps * spec.batch_size, 2 * spec.batch_size), device)
    on = torch.device(device)
    threads = torch.get_num_threads()
    with ExitStack() as open_, programs(cohort, images, on) as parts:
        parts.map(lambda part: part.prepare(0))

        def ours(count: int) -> None:
            def take(part: Training) -> None:
                part.at.zero_()
                part.taken = 0
                part.advance(count)

            parts.map(take)

        contestants: dict[str, Advance] = {"ours": ours}
        ours(2)
        if on.type == "cuda":
            torch.cuda.reset_peak_memory_stats(on)
        ours(2)
        peak = torch.cuda.max_memory_allocated(on) / 2**20 if on.type == "cuda" else None
        for name in against:
            with ExitStack() as mine:
                try:
                    advance = mine.enter_context(rivals.rival(name, spec, images, device, threads))
                    advance(2)
                except Exception as error:  # whatever a compiler or a process runs into
                    say(f"{name} cannot run here and is left out ({in_a_line(error)})")
                    continue
                contestants[name] = advance
                open_.push(mine.pop_all())
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
        ours_ms=ours_ms,
        rivals_ms={
            name: 1e3 * statistics.median(times[name]) / rivals.replicas(name, threads)
            for name in contestants
            if name != "ours"
        },
        floor_ms=1e3 * max(BYTES * live / ceiling.bytes_per_s, flop / ceiling.flop_per_s),
        spreads={name: _spread(taken) for name, taken in times.items()},
        images_per_s=1e3 * spec.batch_size / ours_ms,
        peak_mib=peak,
    )


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
    return sum(runs * epochs * (images // timing.batch_size) * timing.ours_ms / 1e3 for timing in timings)


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
