"""Ways to test a trained program: a table of functions, all of which are looped over in `readings`.

An evaluation takes a Training and gives the test accuracy of every replica in percent. It may move the buffers of the
program: they are restored after it. A new one is a function, here with a line in EVALUATIONS, or anywhere as
`module:function`.
"""

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from bnlab.engine.slots import Mode
from bnlab.engine.training import Training
from bnlab.errors import SpecError

CHUNK = 500
"""Images per evaluation batch, and per batch when statistics are recalibrated."""

CALIBRATION = 10_000
"""Training images over which running statistics are recalibrated, the first ones in canonical order."""

Evaluation = Callable[[Training], list[float]]


def running(training: Training) -> list[float]:
    """With the running statistics that training left."""
    return accuracy(training, "eval")


def recalibrated(training: Training) -> list[float]:
    """With running statistics taken anew over the first CALIBRATION training images, weights unchanged."""
    calibrate(training, training.images.x_train[:CALIBRATION])
    return accuracy(training, "eval")


def batch(training: Training) -> list[float]:
    """With the statistics of each test batch of some CHUNK images."""
    return accuracy(training, "batch")


EVALUATIONS: dict[str, Evaluation] = {"running": running, "recalibrated": recalibrated, "batch": batch}
"""Evaluations by name; the reading is called `test_accuracy_NAME`."""


def readings(training: Training) -> list[dict[str, float]]:
    """Of every replica what its norm offers and its RunSpec asks for beside, each under `test_accuracy_NAME`."""
    wanted = [[*training.program.evaluations(k), *training.spec.evaluations] for k in range(len(training.seeds))]
    found: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for names in wanted for name in names):
        evaluate = evaluation(name)
        with buffers_restored(training):
            found[name] = evaluate(training)
    return [{f"test_accuracy_{_code(name)}": found[name][k] for name in names} for k, names in enumerate(wanted)]


def evaluation(name: str) -> Evaluation:
    """The evaluation of this name or at `module:function`, whatever its version; a SpecError if there is none."""
    if name in EVALUATIONS:
        return EVALUATIONS[name]
    where, colon, function = _code(name).partition(":")
    if not colon:
        raise SpecError(f"unknown evaluation {name!r}: expected {', '.join(EVALUATIONS)}, or module:function for yours")
    try:
        found: Evaluation = getattr(importlib.import_module(where), function)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"the evaluation {name!r} cannot be imported ({error}): put its module on the Python path"
        ) from error
    return found


def _code(name: str) -> str:
    """The name without the version that a protocol has put behind it."""
    return name.partition("@")[0]


@torch.no_grad()
def accuracy(training: Training, mode: Mode) -> list[float]:
    """Test accuracy of every replica in percent, in batches of about CHUNK images."""
    images, replicas = training.images, len(training.seeds)
    correct = torch.zeros(replicas, dtype=torch.int64, device=training.program.device)
    for i, (x, y) in enumerate(zip(_chunks(images.x_test), _chunks(images.y_test), strict=True)):
        training.seed(f"{mode} {i}")
        shared = training.standardise(x)[None].expand(replicas, *x.shape)
        correct += (training.program(shared, mode).argmax(2) == y).sum(1)
    return [100 * int(count) / len(images.y_test) for count in correct.cpu()]


@torch.no_grad()
def calibrate(training: Training, images: Tensor, chunk: int | None = None) -> None:
    """Take the running statistics anew: the average over batches of these uint8 images [n, h, w, 3].

    A batch has at most `chunk` images (None: CHUNK).
    """
    for slot in training.program.slots.values():
        slot.start_calibration()
    for i, x in enumerate(_chunks(images, chunk)):
        training.seed(f"calibrate {i}")
        training.program(training.standardise(x)[None].expand(len(training.seeds), *x.shape), "calibrate")


@contextmanager
def buffers_restored(training: Training) -> Iterator[None]:
    """Put back every buffer of the norms at the end."""
    before = [tensor.clone() for tensor in _buffers(training)]
    yield
    with torch.no_grad():
        for tensor, value in zip(_buffers(training), before, strict=True):
            tensor.copy_(value)


def _buffers(training: Training) -> list[Tensor]:
    return [tensor for slot in training.program.slots.values() for tensor in slot.statistics()]


def _chunks(images: Tensor, chunk: int | None = None) -> tuple[Tensor, ...]:
    """Equal parts of at most `chunk` images (None: CHUNK), give or take one."""
    return torch.tensor_split(images, math.ceil(len(images) / (chunk or CHUNK)))
