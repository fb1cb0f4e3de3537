"""How long it takes to train Runs, before anything trains, and the plan in text."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bnlab.parts import Net
from bnlab.protocol import QUICK, Protocol
from bnlab.runs import Run
from bnlab.specs import CIFAR10, Replicate, RunSpec
from bnlab.words import count

CIFAR10_TRAIN_IMAGES = 50_000
"""Training images of CIFAR-10, known without reading them."""

_BACKWARD = 3
"""A training step costs a forward pass and twice that again for both gradients."""

_CPU_MACS_PER_S = 25e9
"""Assumed for a CPU process: 52 to 225 images/s; one thread of a busy machine gave 33 to 743."""

_GPU_SECONDS_PER_LAYER = {"eager": 4e-4, "fused": 1e-5}
"""Assumed for one layer's share of a replica's step on batches of 20 or 50 small images: in an
eager loop the launches take the time, in a cohort of 16 the bytes (5 to 8 microseconds by counting
them, at 4 TB/s)."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training images and seconds of one process; `assumed` if some speed was not measured."""

    images: int
    seconds: float
    assumed: bool

    @property
    def duration(self) -> str:
        """The seconds in words: "40 s", "25 min", "3.4 h"."""
        if self.seconds < 90:
            return f"{self.seconds:.0f} s"
        return f"{self.seconds / 60:.0f} min" if self.seconds < 5400 else f"{self.seconds / 3600:,.1f} h"


def cost(needed: Sequence[Replicate], train_images: int, device: str, recorded: Iterable[Run]) -> Cost:
    """Images and time to train these Runs, one at a time, on the `cpu` or a `cuda` device.

    Images a second are the median over recorded Runs of the same network and batch size on that
    kind of device; where there are none, they are assumed from the size of the network.
    """
    kind = device.partition(":")[0]
    speeds: dict[tuple[Net, int], list[float]] = {}
    for run in recorded:
        speed = run.provenance.get("images_per_s")
        if speed and ("cuda" if run.provenance.get("cuda") else "cpu") == kind:
            speeds.setdefault((run.spec.net, run.spec.batch_size), []).append(float(speed))
    medians = {cell: median(found) for cell, found in speeds.items()}
    images, seconds, assumed = 0, 0.0, False
    for spec in (run.spec for run in needed):
        known = medians.get((spec.net, spec.batch_size))
        assumed |= known is None
        images += spec.epochs * train_images
        seconds += spec.epochs * train_images / (known or assumed_speed(spec, kind))
    return Cost(images=images, seconds=seconds, assumed=assumed)


def assumed_speed(spec: RunSpec, kind: str) -> float:
    """Training images a second where no recorded Run says how fast this device is."""
    if kind == "cpu":
        return _CPU_MACS_PER_S / (_BACKWARD * spec.net.macs)
    return spec.batch_size / (_GPU_SECONDS_PER_LAYER[spec.engine] * spec.net.layers)


def plan_text(
    needed: Sequence[Replicate], missing: Sequence[Replicate], looks: Sequence[int], total: Cost, device: str | None
) -> list[str]:
    """The plan as printed: one line a RunSpec, then the sum."""
    lacking = Counter(run.spec for run in missing)
    wanted = Counter(run.spec for run in needed)
    text = [f"  {spec}: {count(n, 'Run')}, {n - lacking[spec]} finished" for spec, n in wanted.items()]
    how = "assumed speed" if total.assumed else "speed of recorded Runs"
    text.append(
        f"plan for the first look ({looks[0]} seeds): {count(len(wanted), 'RunSpec')}, {count(len(needed), 'Run')}, "
        f"{len(needed) - len(missing)} finished, {len(missing)} to train, {count(total.images, 'training image')}, "
        + (f"about {total.duration} in one process on {device or 'a GPU'} ({how})" if missing else "nothing to do")
    )
    if len(looks) > 1:
        more = ", ".join(map(str, looks[1:]))
        text.append(f"claims that are undecided then go on to {more} seeds, their own arms only")
    return text


def how_to_train(missing: Iterable[Replicate], claims: int, protocol: Protocol, recorded: Iterable[Run]) -> str:
    """One sentence on the Runs that so many claims lack, and on how to train them."""
    runs = {(run.spec, run.seed) for run in missing}
    full = {replace(spec, epochs=_full_epochs(spec, protocol), data="") for spec, _ in runs}
    shorter = {QUICK.apply(spec, CIFAR10) for spec in full}
    quick = [Replicate(spec, seed) for spec in shorter for seed in range(QUICK.looks[0])]
    effort = cost(quick, CIFAR10_TRAIN_IMAGES, "cpu", recorded)
    return (
        f"{count(len(runs), 'Run')} that {count(claims, 'claim needs', 'claims need')} were not trained here: "
        "exercise the claims on synthetic images with --smoke, train them with "
        f"--protocol quick --device cpu (about {effort.duration} for {QUICK.looks[0]} seeds"
        f"{', at an assumed speed' if effort.assumed else ''}), or run this again on a machine with a GPU."
    )


def _full_epochs(spec: RunSpec, protocol: Protocol) -> int:
    """The epochs that a claim asked for, of which the protocol trains a share."""
    return round(spec.epochs / protocol.effort) if protocol.effort else RunSpec.epochs
