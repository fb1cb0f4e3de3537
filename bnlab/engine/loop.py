"""From RunSpecs and seeds to curves, readings and weights: the epochs of one cohort."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
import torch
import torchvision

from bnlab.data.images import Images
from bnlab.engine import evaluations, snapshot
from bnlab.engine.fallbacks import slower_ways
from bnlab.engine.programs import Programs, programs
from bnlab.engine.record import Record
from bnlab.engine.training import Training, batches
from bnlab.errors import DataError, SnapshotError
from bnlab.probes import Reading
from bnlab.specs import Replicate, RunSpec


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gave one replica: the numbers of a Run, and the effort of its cohort since it was resumed.

    `readings` are the evaluations, `probes` what each probe read.
    """

    curves: dict[str, tuple[float, ...]]
    readings: dict[str, float]
    probes: dict[str, Mapping[str, Reading]]
    weights: str
    diverged_at: int | None
    wall_s: float
    images_per_s: float


WORTH = 20
"""Keeping an epoch may take this part of the time that has passed since the last, or that is left."""

KEPT_BYTES_PER_S = 0.3e9
"""Assumed speed of taking a snapshot from a GPU and writing it: copies, a checksum and a flush, in one thread."""

AfterEpoch = Callable[[Replicate, int, bytes], None]


def train(
    cohort: Sequence[Replicate],
    images: Images,
    device: str,
    *,
    resume: Sequence[bytes | None] | None = None,
    after_epoch: AfterEpoch | None = None,
    snapshot_every: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
    passed: Callable[[int, int], None] = lambda epoch, images: None,
) -> list[Trained]:
    """Train these replicas as one cohort; gives one Trained a member, in their order.

    They have one `cohort_key`: they differ in the norm at most. `resume` holds a snapshot a member, all of one epoch,
    or None to begin; all begin where a snapshot lacks a probe. `after_epoch(member, epoch, snapshot)` is called for
    every member after every epoch but the last. With `snapshot_every` above 0 it waits so many seconds after the time
    before, and 20 times as long as keeping took, and keeps nothing that takes more than a twentieth of the time that is
    left: on a GPU keeping an epoch can take longer than the epoch. `say` is told what takes a while, and where the
    engine takes a slower way; `passed` after every epoch its number and the images that it showed. The same spec, seed
    and device give the same bits: on a CPU whatever trains beside it and on however many threads, on a GPU in a cohort
    of the same size. Too few images for a batch are a DataError.
    """
    spec = cohort[0].spec
    _check(spec, images)
    say("building the program")
    with programs(cohort, images, torch.device(device), say) as parts:
        records = _begin(parts, cohort, resume or [None] * len(cohort))
        first = records[cohort[0]].epoch
        keeper = _Keeper(parts, records, after_epoch, snapshot_every)
        say("training")
        begun = time.perf_counter()
        for epoch in range(first, spec.epochs):
            _train_epoch(parts, records, epoch)
            passed(epoch + 1, len(cohort) * parts.trainings[0].shown)
            if epoch + 1 < spec.epochs:
                keeper.after_epoch()
        wall = time.perf_counter() - begun
        speed = len(cohort) * (spec.epochs - first) * parts.trainings[0].shown / wall
        readings = dict(zip(parts.trainings, parts.map(evaluations.readings), strict=True))
        return [
            Trained(
                curves={name: tuple(values) for name, values in records[member].curves.items()},
                readings=readings[training][k],
                probes={name: probe.readings() for name, probe in training.probes[k].items()},
                weights=snapshot.weights_digest(training.program.state_dict(k)),
                diverged_at=records[member].diverged_at,
                wall_s=wall,
                images_per_s=speed,
            )
            for member in cohort
            for training, k in [parts.place(member)]
        ]


def _train_epoch(parts: Programs, records: Mapping[Replicate, Record], epoch: int) -> None:
    """Train an epoch, test, and add both to the records."""
    parts.map(partial(Training.epoch, number=epoch))
    accuracies = dict(zip(parts.trainings, parts.map(evaluations.running), strict=True))
    for member, record in records.items():
        training, k = parts.place(member)
        record.add(training, k, accuracies[training][k])


def _check(spec: RunSpec, images: Images) -> None:
    if spec.batch_size > len(images.x_train):
        raise DataError(
            f"batch size {spec.batch_size} is larger than the {len(images.x_train)} training images: take a smaller one"
        )
    if len(images.x_test) < 2:
        raise DataError("the test set has a single image, which has no batch statistics: take 2 test images or more")
    if batches(spec, len(images.x_train))[1] < 2:
        raise DataError(
            f"the last batch of {len(images.x_train)} training images has a single one, which has no batch statistics: "
            "take another batch size, or last_batch 'drop'"
        )


def _begin(parts: Programs, cohort: Sequence[Replicate], resume: Sequence[bytes | None]) -> dict[Replicate, Record]:
    """The record of every member, which is put where its snapshot left it; all begin anew if one cannot go on."""
    snapshots = dict(zip(cohort, resume, strict=True))
    if not all(taken and snapshot.serves(taken, member.probes) for member, taken in snapshots.items()):
        return {member: Record() for member in cohort}
    records = {}
    for member, taken in snapshots.items():
        assert taken is not None
        try:
            snapshot.restore(*parts.place(member), taken)
            records[member] = Record.from_json(snapshot.note(taken))
        except Exception as error:  # whatever a snapshot of another version or of edited code runs into
            raise SnapshotError(member, f"{type(error).__name__}: {error}") from error
    if len(epochs := {record.epoch for record in records.values()}) > 1:
        raise ValueError(f"the snapshots of a cohort are of the epochs {sorted(epochs)}: expected one epoch")
    return records


class _Keeper:
    """Calls `after_epoch` with snapshots, as seldom as `train` says."""

    def __init__(
        self, parts: Programs, records: Mapping[Replicate, Record], call: AfterEpoch | None, every: float
    ) -> None:
        self.parts, self.records, self.call, self.every = parts, records, call, every
        self.begun = time.perf_counter()
        self.due = self.begun + every
        self.epochs = 0

    def after_epoch(self) -> None:
        """Take a snapshot of every member if one is due and worth its time."""
        now = time.perf_counter()
        self.epochs += 1
        members = list(self.records)
        spec, done = members[0].spec, self.records[members[0]].epoch
        left = (now - self.begun) / self.epochs * (spec.epochs - done)
        if self.call is None or now < self.due or (self.every and self._estimate() > left / WORTH):
            return
        for member, record in self.records.items():
            self.call(member, record.epoch, snapshot.take(*self.parts.place(member), record.to_json()))
        ended = time.perf_counter()
        self.due = ended + max(self.every, WORTH * (ended - now)) if self.every else 0.0

    def _estimate(self) -> float:
        """Seconds that snapshots of all members take, by their bytes."""
        return sum(map(snapshot.size, self.parts.trainings)) / KEPT_BYTES_PER_S


def rehearse(spec: RunSpec, images: Images, device: str) -> None:
    """One step and one evaluation batch of a single replica, thrown away: what they take can be measured."""
    with programs([Replicate(spec, 0)], images, torch.device(device)) as parts:
        (training,) = parts.trainings
        training.prepare(0)
        training.advance(1)
        with torch.no_grad():
            training.program(training.standardise(images.x_test[: evaluations.CHUNK])[None], "eval")


def snapshot_epoch(taken: bytes, probes: Sequence[str] = ()) -> int:
    """The number of epochs after which a snapshot was taken; 0 if it was taken without one of these probes."""
    return int(snapshot.note(taken)["epoch"]) if snapshot.serves(taken, probes) else 0


def environment(device: str) -> dict[str, Any]:
    """What may change the last bits of a Run and is recorded with it: versions, device, threads of a replica."""
    cuda = torch.device(device).type == "cuda"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,  # type: ignore[no-untyped-call]
        **({"without": slower} if cuda and (slower := slower_ways()) else {}),
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": None if cuda else 1,  # a replica's; how many replicas train beside it changes no bit
    }
