"""How long it takes to train Runs, and how much disk, before anything trains, and the plan in text."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bnlab.parts import Net
from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec
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


_TOGETHER = 16
"""Runs of a cohort on a GPU, as on an H100; a CPU trains fewer."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Training images and seconds of one process; `assumed` if some speed was not measured."""

    images: int
    seconds: float
    assumed: bool

    @property
    def duration(self) -> str:
        """The seconds in words."""
        return duration(self.seconds)


def duration(seconds: float) -> str:
    """A time in words: "40 s", "25 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


class Speeds:
    """Training images a second on a `cpu` or a `cuda` device: the median over recorded Runs of the same network and
    batch size on that kind of device; where there are none, assumed from the size of the network."""

    def __init__(self, device: str, recorded: Iterable[Run]) -> None:
        self._kind = device.partition(":")[0]
        found: dict[tuple[Net, int], list[float]] = {}
        for run in recorded:
            speed = run.provenance.get("images_per_s")
            if speed and ("cuda" if run.provenance.get("cuda") else "cpu") == self._kind:
                found.setdefault((run.spec.net, run.spec.batch_size), []).append(float(speed))
        self._known = {cell: median(speeds) for cell, speeds in found.items()}

    def cost(self, needed: Iterable[Replicate], train_images: int) -> Cost:
        """Images and time to train these Runs, one at a time."""
        images, seconds, assumed = 0, 0.0, False
        for spec in (run.spec for run in needed):
            known = self._known.get((spec.net, spec.batch_size))
            assumed |= known is None
            images += spec.epochs * train_images
            seconds += spec.epochs * train_images / (known or assumed_speed(spec, self._kind))
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


def disk_text(missing: Sequence[Replicate], store: Path) -> str:
    """What training these Runs takes of the disk of their store, and what is free there.

    Each Run in training has two snapshots: its weights and two moments of Adam, in float32.
    """
    snapshot = 3 * 4 * max(run.spec.net.parameters for run in missing)
    there = next(folder for folder in (store, *store.absolute().parents) if folder.exists())
    together = min(_TOGETHER, len(missing))
    return (
        f"disk: 2 snapshots of up to {_megabytes(snapshot)} for each Run while it trains, "
        f"{_megabytes(2 * together * snapshot)} for {count(together, 'Run')} at a time; "
        f"{_megabytes(shutil.disk_usage(there).free)} are free in {there}"
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"


def next_step(
    lacking: Mapping[str, Sequence[Replicate]],
    train_images: int,
    device: str | None,
    recorded: Sequence[Run],
    options: Sequence[str],
) -> str:
    """The smallest useful next step: the claim whose missing Runs train fastest, and how long all of them take.

    `lacking` has the missing Runs of each claim, `device` is what this machine can train on (None: its CPU only),
    `options` are those of the session.
    """
    here, gpu = Speeds(device or "cpu", recorded), Speeds("cuda", recorded)
    needed = {nodeid: frozenset(runs) for nodeid, runs in lacking.items()}
    first = min(needed, key=lambda nodeid: here.cost(needed[nodeid], train_images).seconds)
    settled = sum(runs <= needed[first] for runs in needed.values())
    step = here.cost(needed[first], train_images)
    every = list({(run.spec, run.seed): run for runs in needed.values() for run in runs}.values())
    full = gpu.cost(every, train_images)
    command = " ".join(["pytest", f"'{first}'", *options, *([] if device else ["--device cpu"])])
    text = f"next: {command} trains {count(len(needed[first]), 'Run')} in {_about(step)} here, "
    text += f"which {count(settled, 'claim lacks', 'claims lack')}; "
    return f"{text}all {count(len(every), 'Run')} would take a GPU {_about(full)}"


def _about(effort: Cost) -> str:
    return f"about {effort.duration}{' (assumed)' if effort.assumed else ''}"
