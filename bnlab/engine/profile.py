"""Where the time of a step goes, by torch's profiler."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bnlab.engine.bench import noise
from bnlab.engine.programs import programs
from bnlab.specs import Replicate


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
