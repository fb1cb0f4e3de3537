"""From RunSpecs and seeds to curves, readings and weights: the epochs of one cohort."""

import math
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy
import torch
import torchvision

from bnlab.data.images import Images
from bnlab.engine import snapshot
from bnlab.engine.eager import EagerProgram
from bnlab.engine.program import Program
from bnlab.engine.reader import unreadable
from bnlab.engine.training import CHUNK, Training
from bnlab.errors import DataError, SpecError
from bnlab.nets import build
from bnlab.parts import NONE, Norm
from bnlab.specs import Replicate, RunSpec

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training gave one replica: the numbers of a Run, and the effort of its cohort since it was resumed."""

    curves: dict[str, tuple[float, ...]]
    readings: dict[str, float]
    probes: dict[str, dict[str, float]]
    weights: str
    diverged_at: int | None
    wall_s: float
    images_per_s: float


def train(
    cohort: Sequence[Replicate],
    images: Images,
    device: str,
    *,
    resume: Sequence[bytes | None] | None = None,
    after_epoch: Callable[[Replicate, int, bytes], None] | None = None,
    snapshot_every: float = 0.0,
    say: Callable[[str], None] = lambda line: None,
) -> list[Trained]:
    """Train these replicas as one cohort; gives one Trained a member, in their order.

    They have one `cohort_key`: they differ in the norm at most. `resume` holds a snapshot a member, all of one
    epoch, or None to begin. `after_epoch(member, epoch, snapshot)` is called for every member after every epoch but the
    last, or, where `snapshot_every` is above 0, after those that end so many seconds after the one before, and 20 times
    as long as keeping that took: on a GPU keeping an epoch can take longer than the epoch. The same spec, seed and
    device give the same bits; on a CPU also whatever trains beside it and on however many threads. A batch larger than
    the training set is a DataError.
    """
    spec = cohort[0].spec
    if spec.batch_size > len(images.x_train):
        raise DataError(
            f"batch size {spec.batch_size} is larger than the {len(images.x_train)} training images: take a smaller one"
        )
    if len(images.x_test) < 2:
        raise DataError("the test set has a single image, which has no batch statistics: take 2 test images or more")
    _set_precision(spec)
    snapshots = list(resume or [None] * len(cohort))
    with programs(cohort, images, torch.device(device), say) as (parts, places, run):
        records: list[dict[str, Any]] = []
        for (part, k), held in zip(places, snapshots, strict=True):
            records.append(snapshot.note(held) if held else _nothing_yet())
            if held:
                snapshot.restore(part, k, held, step=records[-1]["epoch"] * part.steps)
                for probe, state in zip(part.probes[k], records[-1]["probes"], strict=True):
                    probe.restore(state)
        (first,) = {record["epoch"] for record in records}
        begun = kept = time.perf_counter()
        due = snapshot_every
        for epoch in range(first, spec.epochs):
            run(partial(Training.epoch, number=epoch))
            accuracies = dict(zip(parts, run(lambda part: part.test_accuracy("eval")), strict=True))
            for (part, k), record in zip(places, records, strict=True):
                _record(record, part, k, accuracies[part][k])
            if after_epoch is None or epoch + 1 == spec.epochs or time.perf_counter() - kept < due:
                continue
            taking = time.perf_counter()
            for member, (part, k), record in zip(cohort, places, records, strict=True):
                after_epoch(member, epoch + 1, snapshot.take(part, k, record))
            kept = time.perf_counter()
            due = max(snapshot_every, 20 * (kept - taking)) if snapshot_every else 0.0
        wall = time.perf_counter() - begun
        shown = (spec.epochs - first) * parts[0].steps * spec.batch_size
        digests = [snapshot.weights_digest(part.program.state_dict(k)) for part, k in places]
        readings = dict(zip(parts, run(_readings), strict=True))
    return [
        Trained(
            curves={name: tuple(values) for name, values in record["curves"].items()},
            readings={name: value for name, value in readings[part][k].items() if "/" not in name},
            probes={probe: _of_probe(probe, readings[part][k]) for probe in member.probes},
            weights=digest,
            diverged_at=record["diverged_at"],
            wall_s=wall,
            images_per_s=len(cohort) * shown / wall,
        )
        for member, (part, k), record, digest in zip(cohort, places, records, digests, strict=True)
    ]


@contextmanager
def programs(
    cohort: Sequence[Replicate], images: Images, device: torch.device, say: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[list[Training], list[tuple[Training, int]], Callable[[Callable[[Training], _T]], list[_T]]]]:
    """The programs of a cohort, where in them each member is, and how to run a function on each program.

    A GPU is kept busy by one program of all replicas (the eager reference takes them one after another). A CPU is
    fastest with a program a replica, each on one thread of its own: no core waits for another, and a Run's bits do not
    depend on how many threads there are. A network that the engine cannot read trains replica by replica as well, in
    torch's own modules, and `say` is told why.
    """

    spec = cohort[0].spec
    if any(member.cohort_key != spec.cohort_key for member in cohort):
        raise ValueError(f"one program cannot hold {named(cohort)}: their RunSpecs differ in more than the norm")

    ready = {cohort[0]: _network(cohort[0])}
    fused = spec.engine == "fused"
    if fused and (reason := unreadable(ready[cohort[0]])):
        if spec.precision == "bf16":
            raise SpecError(f"{spec.net} has no bf16, since the engine cannot read it ({reason}): take fp32 or tf32")
        say(f"{spec.net} trains replica by replica, since the engine cannot read it: {reason}")
        fused = False

    def program(part: Sequence[Replicate]) -> Training:
        built = {own: ready.pop(own) if own in ready else _network(own) for own in dict.fromkeys(part)}
        # a member that comes twice is one whose speed is measured
        models = [
            built[member] if part.index(member) == k else deepcopy(built[member]) for k, member in enumerate(part)
        ]
        if not fused:
            return Training(part, EagerProgram(models[0], device), images)
        compute = torch.bfloat16 if spec.precision == "bf16" else None
        return Training(part, Program(models, device, elide=spec.weight_decay == 0, compute=compute), images)

    if device.type == "cuda":
        torch.cuda.set_device(device)  # a captured graph belongs to the current device
    if fused and _batched(spec, device):
        order = sorted(range(len(cohort)), key=lambda place: _rank(cohort[place].spec.norm))
        whole = program([cohort[place] for place in order])
        yield [whole], [(whole, order.index(place)) for place in range(len(cohort))], lambda work: [work(whole)]
        return
    parts = [program([member]) for member in cohort]
    places = [(part, 0) for part in parts]
    if device.type != "cpu":
        yield parts, places, lambda work: [work(part) for part in parts]
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield parts, places, lambda work: list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)


def _network(replicate: Replicate) -> torch.nn.Module:
    spec = replicate.spec
    return build(spec.net, spec.norm, replicate.seed, init=spec.init, parametrization=spec.parametrization)


def _batched(spec: RunSpec, device: torch.device) -> bool:
    """Whether a cohort is one program with a leading k."""
    return device.type != "cpu" and spec.engine == "fused"


def _rank(norm: Norm) -> tuple[bool, bool, str]:
    """An order in which the norms that train a scale are neighbours, and those that train a shift are as well."""
    trained = [norm.layer != NONE.layer and norm.keywords.get(name, True) for name in ("scale", "shift")]
    scale, shift = map(bool, trained)
    # Gray code: neighbours differ in one of scale and shift, so the replicas that train either stand together
    return scale, scale != shift, norm.layer


def named(cohort: Sequence[Replicate]) -> str:
    """A cohort in words: what its RunSpecs have in common, and their norms."""
    spec = cohort[0].spec
    norms = " + ".join(dict.fromkeys(str(own.spec.norm) for own in cohort))
    return str(spec).replace(str(spec.norm), norms, 1)


def _record(record: dict[str, Any], part: Training, k: int, accuracy: float) -> None:
    """Add the epoch just trained to a replica's record."""
    losses, correct = part.losses[:, k].cpu(), part.correct[:, k].cpu()
    broken = (~torch.isfinite(losses)).nonzero()
    if record["diverged_at"] is None and len(broken):
        record["diverged_at"] = record["epoch"] * part.steps + int(broken[0])
    record["epoch"] += 1
    record["curves"]["train_loss"].append(math.fsum(losses.tolist()) / part.steps)
    record["curves"]["train_accuracy"].append(100 * int(correct.sum()) / (part.steps * part.spec.batch_size))
    record["curves"]["test_accuracy"].append(accuracy)
    record["probes"] = [probe.state() for probe in part.probes[k]]


def pace(spec: RunSpec, replicas: int, images: Images, device: str, *, steps: int = 8) -> float:
    """Training images a second of so many replicas of a RunSpec in all, from some steps that are thrown away."""
    on = torch.device(device)
    with programs([Replicate(spec, 0)] * replicas, images, on) as (parts, _, run):
        steps = min(steps, parts[0].steps)
        seconds = []
        for _ in range(3):  # the first to warm up
            run(partial(Training.prepare, number=0))
            begun = time.perf_counter()
            run(partial(Training.advance, steps=steps))
            if on.type == "cuda":
                torch.cuda.synchronize(on)
            seconds.append(time.perf_counter() - begun)
    return replicas * steps * spec.batch_size / min(seconds[1:])


def rehearse(spec: RunSpec, images: Images, device: str) -> None:
    """One step and one evaluation batch of a single replica, thrown away: what they take can be measured."""
    with programs([Replicate(spec, 0)], images, torch.device(device)) as (parts, _, run):
        run(partial(Training.prepare, number=0))
        run(partial(Training.advance, steps=1))
        with torch.no_grad():
            chunk = parts[0].standardise(images.x_test[:CHUNK])
            parts[0].program(chunk[None], "eval")


def snapshot_epoch(held: bytes) -> int:
    """The number of epochs after which a snapshot was taken."""
    return int(snapshot.note(held)["epoch"])


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
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
        "threads": None if cuda else 1,  # a replica's; how many replicas train beside it changes no bit
    }


def _readings(training: Training) -> list[dict[str, float]]:
    """What the probes read, and the two other test accuracies of norms with running statistics.

    The last use of the program, since recalibrating takes its own statistics away.
    """
    probed = [{name: value for probe in own for name, value in probe.readings().items()} for own in training.probes]
    asked = [training.program.evaluations(k) for k in range(len(probed))]
    for name in ("batch", "recalibrated"):  # in this order: recalibrating replaces the running statistics
        if not any(name in names for names in asked):
            continue
        if name == "recalibrated":
            training.recalibrate()
        accuracies = training.test_accuracy("batch" if name == "batch" else "eval")
        for k, names in enumerate(asked):
            if name in names:
                probed[k][f"test_accuracy_{name}"] = accuracies[k]
    return probed


def _of_probe(probe: str, readings: dict[str, float]) -> dict[str, float]:
    """What one probe read; its readings are named after it."""
    return {name.removeprefix(f"{probe}/"): value for name, value in readings.items() if name.startswith(f"{probe}/")}


def _nothing_yet() -> dict[str, Any]:
    curves: dict[str, list[float]] = {"train_loss": [], "train_accuracy": [], "test_accuracy": []}
    return {"epoch": 0, "curves": curves, "diverged_at": None, "probes": []}


def _set_precision(spec: RunSpec) -> None:
    """TF32 in matrix products where asked for; process-wide, as torch has it."""
    torch.backends.cuda.matmul.allow_tf32 = spec.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = spec.precision == "tf32"
