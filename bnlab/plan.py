"""What a session would train and how long that takes, before anything trains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bnlab.lab import Needed
from bnlab.parts import Net
from bnlab.runs import Run
from bnlab.specs import RunSpec

_BACKWARD = 3
"""A training step costs a forward pass and twice that again for both gradients."""

_CPU_MACS_PER_S = 25e9
"""Assumed for a process on a CPU: 52 to 225 images/s; one thread of a busy 2-core machine gave 33 to 743."""

_GPU_SECONDS_PER_LAYER = {"eager": 4e-4, "fused": 1e-5}
"""Assumed for one layer's share of a replica's step on batches of 20 or 50 small images: in an eager loop the launches
take the time, in a cohort of 16 the bytes (5 to 8 microseconds by counting them, at 4 TB/s)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training images and seconds of one process; `assumed` where no recorded Run of that kind gave the speed."""

    images: int
    seconds: float
    assumed: bool

    @property
    def duration(self) -> str:
        """The seconds in words: "40 s", "25 min", "3.4 h"."""
        if self.seconds < 90:
            return f"{self.seconds:.0f} s"
        return f"{self.seconds / 60:.0f} min" if self.seconds < 5400 else f"{self.seconds / 3600:,.1f} h"


def cost(needed: Sequence[Needed], train_images: int, device: str, recorded: Iterable[Run]) -> Cost:
    """Images and time to train these Runs, one at a time, on the `cpu` or a `cuda` device.

    Images a second are the median over recorded Runs of the same network and batch size on that kind of device;
    where there are none, they are assumed from the size of the network.
    """
    kind = device.partition(":")[0]
    speeds: dict[tuple[Net, int], list[float]] = {}
    for run in recorded:
        speed = run.provenance.get("images_per_s")
        if speed and ("cuda" if run.provenance.get("cuda") else "cpu") == kind:
            speeds.setdefault((run.spec.net, run.spec.batch_size), []).append(float(speed))
    images, seconds, assumed = 0, 0.0, False
    for spec, _ in needed:
        known = speeds.get((spec.net, spec.batch_size))
        assumed |= known is None
        images += spec.epochs * train_images
        seconds += spec.epochs * train_images / (median(known) if known else assumed_speed(spec, kind))
    return Cost(images=images, seconds=seconds, assumed=assumed)


def assumed_speed(spec: RunSpec, kind: str) -> float:
    """Training images a second to assume for a network that was never timed on this kind of device."""
    if kind == "cpu":
        return _CPU_MACS_PER_S / (_BACKWARD * spec.net.macs)
    return spec.batch_size / (_GPU_SECONDS_PER_LAYER[spec.engine] * spec.net.layers)


def lines(
    needed: Sequence[Needed], missing: Sequence[Needed], looks: Sequence[int], total: Cost, device: str | None
) -> list[str]:
    """The plan as printed: one line a RunSpec, then the sum."""
    lacking: dict[RunSpec, int] = {}
    wanted: dict[RunSpec, int] = {}
    for spec, _ in needed:
        wanted[spec] = wanted.get(spec, 0) + 1
    for spec, _ in missing:
        lacking[spec] = lacking.get(spec, 0) + 1
    text = [f"  {spec}: {count} Runs, {count - lacking.get(spec, 0)} finished" for spec, count in wanted.items()]
    place = device or "a GPU"
    how = "assumed speed" if total.assumed else "speed of recorded Runs"
    text.append(
        f"plan for the first look ({looks[0]} seeds): {len(wanted)} RunSpecs, {len(needed)} Runs, "
        f"{len(needed) - len(missing)} finished, {len(missing)} to train, {total.images:,} training images, "
        + (f"about {total.duration} in one process on {place} ({how})" if missing else "nothing to do")
    )
    if len(looks) > 1:
        more = ", ".join(map(str, looks[1:]))
        text.append(f"claims that are undecided then go on to {more} seeds, their own arms only")
    return text
