"""From a RunSpec and its seeds to curves, readings and weights: the epochs of one cohort."""

import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
import torchvision

from bnlab.data.images import Images
from bnlab.engine import snapshot
from bnlab.engine.program import Program
from bnlab.engine.training import Training
from bnlab.errors import DataError
from bnlab.nets import build
from bnlab.specs import RunSpec


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gave one replica: the numbers of a Run, and the effort of its cohort since it was resumed."""

    curves: dict[str, tuple[float, ...]]
    readings: dict[str, float]
    weights: str
    diverged_at: int | None
    wall_s: float
    images_per_s: float


def train(
    spec: RunSpec,
    seeds: Sequence[int],
    images: Images,
    device: str,
    *,
    resume: Sequence[bytes | None] | None = None,
    after_epoch: Callable[[int, int, bytes], None] | None = None,
) -> list[Trained]:
    """Train these seeds of a RunSpec as one program; gives one Trained a seed, in their order.

    `resume` holds a snapshot a seed, all of one epoch, or None to begin. `after_epoch(seed, epoch, snapshot)` is
    called for every seed after every epoch but the last. The same spec, seed and device give the same bits, for any
    number of seeds beside it on the CPU. A batch larger than the training set is a DataError.
    """
    if spec.batch_size > len(images.x_train):
        raise DataError(
            f"batch size {spec.batch_size} is larger than the {len(images.x_train)} training images: take a smaller batch"
        )
    _set_precision(spec)
    notes = [snapshot.note(held) if held else None for held in (resume or [None] * len(seeds))]
    first = notes[0]["epoch"] if notes[0] else 0
    program = Program(
        [build(spec.net, spec.norm, seed) for seed in seeds],
        torch.device(device),
        elide=spec.weight_decay == 0,
        compute=torch.bfloat16 if spec.precision == "bf16" else None,
    )
    training = Training(spec, seeds, program, images)
    records = [note or {"epoch": 0, "curves": _no_curves(), "diverged_at": None} for note in notes]
    for k, held in enumerate(resume or []):
        if held:
            snapshot.restore(training, k, held, step=first * training.steps)
    begun = time.perf_counter()
    for epoch in range(first, spec.epochs):
        losses, correct = training.epoch(epoch)
        accuracies = training.test_accuracy("eval")
        for k, record in enumerate(records):
            record["epoch"] = epoch + 1
            record["curves"]["train_loss"].append(math.fsum(losses[:, k].tolist()) / training.steps)
            shown = training.steps * spec.batch_size
            record["curves"]["train_accuracy"].append(100 * int(correct[:, k].sum()) / shown)
            record["curves"]["test_accuracy"].append(accuracies[k])
            broken = (~torch.isfinite(losses[:, k])).nonzero()
            if record["diverged_at"] is None and len(broken):
                record["diverged_at"] = epoch * training.steps + int(broken[0])
            if after_epoch is not None and epoch + 1 < spec.epochs:
                after_epoch(seeds[k], epoch + 1, snapshot.take(training, k, record))
    wall = time.perf_counter() - begun
    digests = [snapshot.weights_digest(program.state_dict(k)) for k in range(len(seeds))]
    readings = _readings(training)
    return [
        Trained(
            curves={name: tuple(values) for name, values in record["curves"].items()},
            readings=readings[k],
            weights=digests[k],
            diverged_at=record["diverged_at"],
            wall_s=wall,
            images_per_s=len(seeds) * (spec.epochs - first) * training.steps * spec.batch_size / wall,
        )
        for k, record in enumerate(records)
    ]


def snapshot_epoch(held: bytes) -> int:
    """The number of epochs after which a snapshot was taken."""
    return int(snapshot.note(held)["epoch"])


def environment(device: str) -> dict[str, Any]:
    """What may change the last bits of a Run and is recorded with it: versions, device, threads."""
    cuda = torch.device(device).type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": torch.get_num_threads(),
    }


def _readings(training: Training) -> list[dict[str, float]]:
    """The two other test accuracies of norms with running statistics; the last use of the program, whose statistics go."""
    if not training.program.has_running_statistics():
        return [{} for _ in training.seeds]
    batch = training.test_accuracy("batch")
    training.recalibrate()
    recalibrated = training.test_accuracy("eval")
    return [
        {"test_accuracy_batch": b, "test_accuracy_recalibrated": r} for b, r in zip(batch, recalibrated, strict=True)
    ]


def _no_curves() -> dict[str, list[float]]:
    return {"train_loss": [], "train_accuracy": [], "test_accuracy": []}


def _set_precision(spec: RunSpec) -> None:
    """TF32 in matrix products where asked for; process-wide, as torch has it."""
    torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = spec.precision == "tf32"
