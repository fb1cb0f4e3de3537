"""What norms cost: a training step with each beside one with BatchNorm."""

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

import torch

from bnlab.engine.bench import cohort, noise
from bnlab.engine.programs import Programs, programs
from bnlab.specs import RunSpec


def relative_costs(base: RunSpec, specs: Sequence[RunSpec], device: str, replicas: int, rounds: int) -> list[float]:
    """The step of so many replicas of each RunSpec over that of the base; medians over the rounds.

    They take turns, a few steps each; SpecError where a layer does not train there. On a CPU processor time is taken,
    which other work on the machine changes least, and on a GPU the wall clock.
    """
    on, steps = torch.device(device), 2
    clock = time.perf_counter if on.type == "cuda" else time.process_time
    images = noise(steps * base.batch_size, device)
    with ExitStack() as kept:
        parts = [
            kept.enter_context(programs(cohort(spec, replicas, (spec.norm,)), images, on)) for spec in (base, *specs)
        ]
        taken: list[list[float]] = [[] for _ in parts]
        for number in range(rounds + 1):
            for times, one in zip(taken, parts, strict=True):
                _wait(on)
                begun = clock()
                _epoch(one, number)
                _wait(on)
                times.append(clock() - begun)
    medians = [statistics.median(times[1:]) for times in taken]  # the first turn examines and captures
    return [median / medians[0] for median in medians[1:]]


def _epoch(parts: Programs, number: int) -> None:
    parts.map(lambda part: part.epoch(number))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
