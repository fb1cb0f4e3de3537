"""A cohort that does not fit is trained in halves; how many replicas fit is measured, not guessed."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch

from bnlab.data.images import Images
from bnlab.engine import loop
from bnlab.engine.fallbacks import out_of_memory
from bnlab.engine.loop import Trained
from bnlab.engine.programs import named
from bnlab.errors import DeviceError
from bnlab.specs import Replicate, RunSpec

MOST = 32
"""Replicas of the largest cohort on a GPU: twice as many bring hardly more throughput."""

SHARE = 0.8
"""Share of a GPU's free memory that a cohort is planned to fill."""


def train(
    cohort: Sequence[Replicate],
    images: Images,
    device: str,
    *,
    resume: Sequence[bytes | None] | None = None,
    after_epoch: Callable[[Replicate, int, bytes], None] | None = None,
    snapshot_every: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
    passed: Callable[[int, int], None] = lambda epoch, images: None,
) -> list[Trained]:
    """Train these replicas as `loop.train` does; where memory runs out, go on in halves from the last snapshots.

    Every halving is told to `say`. A single replica that does not fit is a DeviceError that names the sizes.
    """
    latest = dict(zip(cohort, resume or [None] * len(cohort), strict=True))

    def remember(member: Replicate, epoch: int, snapshot: bytes) -> None:
        latest[member] = snapshot
        if after_epoch is not None:
            after_epoch(member, epoch, snapshot)

    how: dict[str, Any] = {"snapshot_every": snapshot_every, "say": say, "passed": passed}
    try:
        taken = list(latest.values())
        return loop.train(cohort, images, device, resume=taken, after_epoch=remember, **how)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        shortage = str(error).splitlines()[0]
    if torch.device(device).type == "cuda":
        gc.collect()  # what failed may hold its tensors in a cycle
        torch.cuda.empty_cache()
    if len(cohort) == 1:
        raise DeviceError(
            f"one replica of {named(cohort)} does not fit on {device} ({shortage}): "
            "take a smaller batch or network, or a device with more memory"
        )
    half = (len(cohort) + 1) // 2
    say(f"{named(cohort)}: {len(cohort)} replicas do not fit on {device}; going on with {half} at a time")
    trained = []
    for part in (cohort[:half], cohort[half:]):
        taken = [latest[member] for member in part]
        trained += train(part, images, device, resume=taken, after_epoch=after_epoch, **how)
    return trained


def replicas(spec: RunSpec, images: Images, device: str) -> int:
    """How many replicas of this RunSpec to train as one cohort on this device at most.

    On a CPU one for every thread this process may use. On a GPU as many as fit: the more, the faster each. Nothing is
    timed, since on a GPU the size of a cohort may change a Run's last bits.
    """
    if torch.device(device).type == "cpu":
        return torch.get_num_threads()
    return fitting(spec, images, device)


def fitting(spec: RunSpec, images: Images, device: str) -> int:
    """How many replicas fit on a GPU, up to MOST, from what one's step and evaluation were measured to take."""
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    loop.rehearse(spec, images, device)
    taken = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    return max(1, min(MOST, int(SHARE * free / max(1, taken))))
