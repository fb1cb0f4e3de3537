"""Run, what one RunSpec gave under one Seed, and Arm, all Runs of one RunSpec."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy
from numpy.typing import NDArray

from bnlab.errors import StatisticsError
from bnlab.specs import Replicate, RunSpec, run_key
from bnlab.stats.sample import Sample

Readings = Mapping[str, "float | NDArray[Any]"]
"""What one probe read, by name: numbers, and arrays of float32, float64 or int64."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one RunSpec gave under one Seed.

    `curves` hold one number per epoch: `train_loss` (nats, mean over the epoch), `train_accuracy` and
    `test_accuracy` (percent). `readings` hold one number each, the further tests of the trained network: for norms with
    running statistics `test_accuracy_recalibrated` and `test_accuracy_batch` (percent). `weights` is the SHA-256 of the
    final state dict, `diverged_at` the optimizer step after which the loss was not finite, if any.
    `probes` hold what each probe read. They may be added later, so neither key nor digest covers them; each has a
    digest of its own. `provenance` says where the numbers come from (versions, device, commit, wall time, resumes) and
    is not digested.
    """

    spec: RunSpec
    seed: int
    curves: Mapping[str, tuple[float, ...]]
    readings: Mapping[str, float]
    weights: str
    diverged_at: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Readings] = field(default_factory=dict, compare=False)

    @property
    def replicate(self) -> Replicate:
        """What was trained, with the probes that were read."""
        return Replicate(self.spec, self.seed, tuple(sorted(self.probes)))

    @property
    def key(self) -> str:
        """The address of this Run in every store."""
        return run_key(self.spec, self.seed)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the numbers: equal for two Runs only if curves, readings and weights are equal to the bit."""
        numbers = {
            "curves": {name: list(values) for name, values in sorted(self.curves.items())},
            "readings": dict(sorted(self.readings.items())),
            "weights": self.weights,
            "diverged_at": self.diverged_at,
        }
        return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """All but the probes as plain JSON values, which `from_json` reads (a NaN loss is written as JSON's NaN)."""
        return {
            "spec": self.spec.to_json(),
            "seed": self.seed,
            "curves": {name: list(values) for name, values in self.curves.items()},
            "readings": dict(self.readings),
            "weights": self.weights,
            "diverged_at": self.diverged_at,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Run":
        """The Run that `to_json` described."""
        return cls(
            spec=RunSpec.from_json(fields["spec"]),
            seed=fields["seed"],
            curves={name: tuple(values) for name, values in fields["curves"].items()},
            readings=fields["readings"],
            weights=fields["weights"],
            diverged_at=fields["diverged_at"],
            provenance=fields["provenance"],
        )


def readings_digest(readings: Readings) -> str:
    """SHA-256 of what a probe read: names, types, shapes and bytes in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(readings.items()):
        array = numpy.ascontiguousarray(value)
        digest.update(json.dumps([name, array.dtype.str, numpy.shape(value)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A function Run -> float with a name and a unit.

    `is_accuracy` says that its values are accuracies in percent, which tell by themselves whether a
    Run has collapsed. Of any other metric, a difference of accuracies too, `accuracy` tells that. `at_start` says that
    it is read in the first update, where no Run can have collapsed.
    """

    name: str
    unit: str
    read: Callable[[Run], float]
    is_accuracy: bool = False
    at_start: bool = False

    def __str__(self) -> str:
        return self.name


def _last_fifth(run: Run) -> float:
    curve = run.curves["test_accuracy"]
    last = curve[-max(1, len(curve) // 5) :]
    return sum(last) / len(last)


accuracy = Metric(name="test accuracy", unit="points", read=_last_fifth, is_accuracy=True)
"""Mean test accuracy over the last fifth of the epochs (3 of 15, the last of 5), in percent, with
running statistics where the norm keeps them. Over the seeds of the recorded Runs, which have five
epochs, the mean of the last three scatters with an sd of 0.53 points, the last one with 0.91."""

last_accuracy = Metric(
    name="test accuracy of the last epoch",
    unit="points",
    read=lambda run: run.curves["test_accuracy"][-1],
    is_accuracy=True,
)
"""Test accuracy after the last epoch, which is what the paper prints; percent."""

recalibrated_accuracy = Metric(
    name="test accuracy, statistics recalibrated",
    unit="points",
    read=lambda run: _read(run, "test_accuracy_recalibrated"),
    is_accuracy=True,
)
"""Test accuracy after the running statistics were taken anew over the training set; percent."""

batch_accuracy = Metric(
    name="test accuracy, batch statistics",
    unit="points",
    read=lambda run: _read(run, "test_accuracy_batch"),
    is_accuracy=True,
)
"""Test accuracy with the statistics of each test batch; percent."""

first_accuracy = Metric(
    name="test accuracy of the first epoch",
    unit="points",
    read=lambda run: run.curves["test_accuracy"][0],
    is_accuracy=True,
)
"""Test accuracy after the first epoch; percent."""

mean_accuracy = Metric(
    name="test accuracy over all epochs",
    unit="points",
    read=lambda run: sum(run.curves["test_accuracy"]) / len(run.curves["test_accuracy"]),
    is_accuracy=True,
)
"""Mean test accuracy over all epochs, the area under the curve: the higher, the sooner a network got there; percent."""

best_epoch_gain = Metric(
    name="best epoch - last epoch",
    unit="points",
    read=lambda run: max(run.curves["test_accuracy"]) - run.curves["test_accuracy"][-1],
)
"""What choosing the epoch with the best test accuracy adds to the last epoch's; points, 0 or above."""

train_accuracy = Metric(
    name="training accuracy", unit="points", read=lambda run: run.curves["train_accuracy"][-1], is_accuracy=True
)
"""Accuracy on the batches of the last epoch, while their network still trained; percent."""

generalization_gap = Metric(
    name="training - test accuracy",
    unit="points",
    read=lambda run: run.curves["train_accuracy"][-1] - run.curves["test_accuracy"][-1],
)
"""Training accuracy minus test accuracy, both of the last epoch; points."""

recalibration_gain = Metric(
    name="gain of recalibration",
    unit="points",
    read=lambda run: _read(run, "test_accuracy_recalibrated") - run.curves["test_accuracy"][-1],
)
"""Test accuracy with recalibrated minus that with running statistics, both after the last epoch; points."""

train_loss = Metric(name="training loss", unit="nats", read=lambda run: run.curves["train_loss"][-1])
"""Mean cross-entropy over the last epoch's batches; nats."""


def reading(name: str, *, unit: str) -> Metric:
    """The Metric of one reading.

    `name` is that of a reading of the Run such as `test_accuracy_batch`, or `probe/reading`: the reading
    `input/early` of the probe `gradient_spread` is `gradient_spread/input/early`. A number at its end picks from an
    array, NaN behind its end: `first_epoch/input/gradient/blocks/2`. A Run without that reading, or whose reading is an
    array, is a StatisticsError.
    """
    return Metric(
        name=name,
        unit=unit,
        read=lambda run: _read(run, name),
        is_accuracy=name.startswith("test_accuracy"),
        at_start=_is_at_start(name),
    )


def log_reading(name: str, *, above: str, below: str | None = None) -> Metric:
    """The Metric of the natural logarithm of one reading, or of one above another; log ratio. Names as in `reading`."""

    def read(run: Run) -> float:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            top, bottom = numpy.log(_read(run, above)), 0.0 if below is None else numpy.log(_read(run, below))
            return float(top - bottom)

    return Metric(name=name, unit="log ratio", read=read, at_start=_is_at_start(above) and _is_at_start(below or above))


def _is_at_start(name: str) -> bool:
    return name.startswith("at_initialization/")


def _read(run: Run, name: str) -> float:
    probe, _, inner = name.partition("/")
    read = next((found for name, found in run.probes.items() if name.partition("@")[0] == probe), {})
    value = run.readings[name] if name in run.readings else read.get(inner)
    array, _, index = inner.rpartition("/")
    if value is None and index.isdecimal() and array in read:
        entries = numpy.ravel(read[array])
        value = float(entries[int(index)]) if int(index) < len(entries) else math.nan
    if not isinstance(value, float):
        found = "an array" if value is not None else "missing"
        names = sorted({*run.readings, *(f"{probe}/{own}" for probe in run.probes for own in run.probes[probe])})
        raise StatisticsError(
            f"the reading {name!r} of {run.replicate} is {found}: measure a number, one of {', '.join(names)}, and "
            f'ask for its probe with lab.train(spec, probes=("{probe}",))'
        )
    return value


def measured(spec: RunSpec, metric: Metric) -> str:
    """What a sample of this metric is called: the RunSpec, and the metric where it is not `accuracy`."""
    return spec.label if metric is accuracy else f"{spec.label[:-1]}, {metric.name})"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """All Runs of one RunSpec in seed order: the thing compared."""

    spec: RunSpec
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        foreign = [run.seed for run in self.runs if run.spec != self.spec]
        if foreign:
            raise StatisticsError(
                f"the arm {self.spec} was given Runs of another RunSpec (seeds {foreign}): check the store"
            )

    def measure(self, metric: Metric) -> Sample:
        """The metric of every Run, in seed order.

        An accuracy tells itself which Runs have collapsed; for any other metric `accuracy` tells it. What is read at
        the start counts as if every Run ended well.
        """
        values = tuple(float(metric.read(run)) for run in self.runs)
        told = values if metric.is_accuracy else tuple(float(accuracy.read(run)) for run in self.runs)
        return Sample(
            label=measured(self.spec, metric),
            unit=metric.unit,
            values=values,
            seeds=tuple(run.seed for run in self.runs),
            digests=tuple(run.digest for run in self.runs),
            diverged=tuple(run.diverged_at is not None and not metric.at_start for run in self.runs),
            accuracies=(100.0,) * len(values) if metric.at_start else told,
            metric=metric.name,
        )

    @property
    def accuracy(self) -> Sample:
        """Mean test accuracy over the last fifth of the epochs; percent."""
        return self.measure(accuracy)
