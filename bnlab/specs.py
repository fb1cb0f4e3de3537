"""RunSpec and Replicate: what defines a training, as frozen plain values.

Nothing here trains, and nothing here imports torch: a claim, the plan, the store and the report all speak of
trainings by these values, and `run_key` gives the address under which the store keeps the Run.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from bnlab import record_1
from bnlab.errors import SpecError
from bnlab.parts import BATCHNORM, NONE, Net, Norm, Part

RECORD = 2
"""Version of the record: raised when a RunSpec and Seed would give numbers that differ by more than rounding.

Record 1 described the same trainings with fewer fields; `bnlab.record_1` gives them today's.
"""

CIFAR10 = "cac8a7f09e8811334cea009f770bf0040c5a12f65bc27a54603a17d6adba36b7"
"""Content digest of CIFAR-10 in canonical order (see `bnlab.data`), from whichever source it came."""

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine", "step", "onecycle"]
Augmentation = Literal["none", "flip", "flip+crop"]
Precision = Literal["fp32", "tf32", "bf16"]
Engine = Literal["fused", "eager"]
LastBatch = Literal["drop", "keep"]

_ALLOWED: dict[str, tuple[str, ...]] = {
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "cosine", "step", "onecycle"),
    "augmentation": ("none", "flip", "flip+crop"),
    "precision": ("fp32", "tf32", "bf16"),
    "engine": ("fused", "eager"),
    "last_batch": ("drop", "keep"),
}

_MIX = frozenset({BATCHNORM.layer, "bnlab.norms.affine:AffineLayer", NONE.layer})
"""Layers that one fused slot holds side by side."""


@dataclass(frozen=True)
class Group:
    """Parameters with a learning rate and a weight decay of their own.

    `parameters` is `norms`, `kernels`, `head` or a pattern of state dict names such as `*.bias`; the first group that
    matches a parameter takes it. `lr` multiplies the RunSpec's, `weight_decay` replaces it where it is given.
    """

    parameters: str
    lr: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if not self.lr >= 0:
            raise SpecError(f"the group {self.parameters!r} multiplies lr by {self.lr!r}: expected 0 or more")
        if self.weight_decay is not None and not self.weight_decay >= 0:
            raise SpecError(f"the group {self.parameters!r} has weight_decay {self.weight_decay!r}: expected 0 or more")

    def __str__(self) -> str:
        decay = "" if self.weight_decay is None else f" weight decay {self.weight_decay}"
        return f"{self.parameters} lr x {self.lr}{decay}"


@dataclass(frozen=True)
class Penalty:
    """`strength` times the sum of |w|^p over the parameters of a group's name, added to the loss (paper 2.4.3)."""

    p: float
    strength: float
    parameters: str = "kernels"

    def __post_init__(self) -> None:
        if not self.p >= 1 or not self.strength > 0:
            raise SpecError(
                f"the penalty has p {self.p!r} and strength {self.strength!r}: expected p >= 1 and strength > 0"
            )

    def __str__(self) -> str:
        return f"L{self.p:g} {self.strength} on {self.parameters}"


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that defines a training but the seed; the defaults are the paper's (docs/protocol.md).

    `lr` is the peak learning rate. `schedule` says what becomes of it: `constant`, `cosine` to 0, `step` (a tenth after
    a half and a hundredth after three quarters of the steps), or `onecycle`; `warmup` epochs rise linearly before it.
    `init` and `parametrization` name code that replaces the network's own initialisation and what a convolution's
    weight is made of. `standardize` subtracts the training set's mean per channel and divides by its standard
    deviation. `groups` give parameters a learning rate and decay of their own, `penalty` adds to the loss.
    `last_batch` says what becomes of an incomplete batch at the end of an epoch.
    `tf32` is what PyTorch does with convolutions by default, here in the head too; where there is none, fp32.
    `eager` trains with torch's default loop instead of this package's engine. `evaluations` are tests of the trained
    network beside those that its norm offers. `data` is the content digest of the images, a data source such as
    `cifar10:45000+5000 of train`, or empty for the data of the session.
    """

    net: Net
    norm: Norm
    batch_size: int
    epochs: int = 15
    optimizer: Optimizer = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    groups: tuple[Group, ...] = ()
    penalty: Penalty | None = None
    schedule: Schedule = "constant"
    warmup: int = 0
    init: Part | None = None
    parametrization: Part | None = None
    standardize: bool = True
    augmentation: Augmentation = "none"
    last_batch: LastBatch = "drop"
    precision: Precision = "tf32"
    engine: Engine = "fused"
    evaluations: tuple[str, ...] = ()
    data: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int) or self.batch_size < 2:
            raise SpecError(f"batch_size is {self.batch_size!r}: expected a whole number of at least 2 images")
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise SpecError(f"epochs is {self.epochs!r}: expected a whole number of at least 1")
        if not isinstance(self.warmup, int) or self.warmup < 0:
            raise SpecError(f"warmup is {self.warmup!r}: expected a whole number of epochs, 0 or more")
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"unknown {name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        if not self.lr > 0:
            raise SpecError(f"lr is {self.lr!r}: expected a number above 0")
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimizer != "sgd"):
            raise SpecError(f"momentum is {self.momentum!r} with {self.optimizer}: expected 0, or for sgd 0 to below 1")
        if self.nesterov and not self.momentum:
            raise SpecError("nesterov is True without momentum: give sgd a momentum above 0")
        if self.engine == "eager" and self.precision == "bf16":
            raise SpecError("the eager engine has no bf16: take precision 'fp32' or 'tf32', or engine 'fused'")
        if not self.weight_decay >= 0:
            raise SpecError(f"weight_decay is {self.weight_decay!r}: expected a number of at least 0")

    @property
    def key(self) -> str:
        """SHA-256 of every field, defaults included, and the record version: 64 hex digits."""
        return _digest({"record": RECORD, "spec": self.to_json()})

    @cached_property
    def cohort_key(self) -> "RunSpec":
        """Runs whose RunSpecs agree on it can train as one program: they differ in a norm of the paper at most.

        Where weights decay, parameters that one norm trains and another freezes cannot share a tensor.
        """
        mixes = self.norm.layer in _MIX and self.norm.keywords.get("per", "channel") == "channel"
        if not mixes or self.weight_decay or self.groups or self.penalty or self.engine == "eager":
            return self
        return dataclasses.replace(self, norm=NONE)

    @cached_property
    def canonical(self) -> str:
        """Every field as the one JSON text that keys are made of; kept, since every look at a store asks for keys."""
        return _canonical(self.to_json())

    @property
    def label(self) -> str:
        """The RunSpec as an arm of a comparison: "BatchNorm (ResNet18, batch 50)"; no two print alike."""
        epochs = [] if self.epochs == _DEFAULTS["epochs"] else [self._length]
        return f"{self.norm} ({', '.join([str(self.net), f'batch {self.batch_size}', *epochs, *self._changes])})"

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; `from_json` gives the RunSpec back."""
        fields: dict[str, Any] = {}
        for entry in dataclasses.fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, (Net, Norm, Part)):
                value = value.to_json()
            elif isinstance(value, Penalty):
                value = dataclasses.asdict(value)
            elif entry.name == "groups":
                value = [dataclasses.asdict(group) for group in value]
            elif isinstance(value, tuple):
                value = list(value)
            fields[entry.name] = value
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "RunSpec":
        """The RunSpec that `to_json` described, by this version or by record 1; other fields are a SpecError."""
        try:
            given = dict(record_1.translate(fields))
            given["net"], given["norm"] = Net.from_json(given["net"]), Norm.from_json(given["norm"])
            for name in ("init", "parametrization"):
                given[name] = Part.from_json(given[name]) if given.get(name) else None
            given["groups"] = tuple(Group(**group) for group in given.get("groups", ()))
            given["penalty"] = Penalty(**given["penalty"]) if given.get("penalty") else None
            given["evaluations"] = tuple(given.get("evaluations", ()))
            return cls(**given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SpecError(f"not a RunSpec of this version ({error}): export it again with this version") from error

    def __str__(self) -> str:
        return ", ".join([str(self.net), str(self.norm), f"batch {self.batch_size}", self._length, *self._changes])

    @property
    def _length(self) -> str:
        return f"{self.epochs} epoch" + ("s" if self.epochs > 1 else "")

    @property
    def _changes(self) -> list[str]:
        """Every field beyond net, norm, batch size and epochs that is not the default."""
        shown = []
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value == default or name == "epochs" or (name == "data" and value == CIFAR10):
                continue
            if name == "data" and len(value) == len(CIFAR10):
                value = value[:12]
            if isinstance(value, tuple):
                value = "[" + "; ".join(map(str, value)) + "]"
            words = name.replace("_", " ")
            if isinstance(value, bool):
                shown.append(words if value else f"no {words}")
            else:
                shown.append(str(value) if name in _ALLOWED and name != "last_batch" else f"{words} {value}")
        return shown


_DEFAULTS = {
    entry.name: entry.default for entry in dataclasses.fields(RunSpec) if entry.default is not dataclasses.MISSING
}


@dataclass(frozen=True)
class Replicate:
    """One RunSpec under one seed: a Run that is there or is to be trained.

    `probes` names the readings that somebody wants of it (`bnlab.probes`). They change no other number, so they are
    not part of the key.
    """

    spec: RunSpec
    seed: int
    probes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The address of the Run in every store."""
        return run_key(self.spec, self.seed)

    @property
    def cohort_key(self) -> RunSpec:
        """See `RunSpec.cohort_key`."""
        return self.spec.cohort_key

    def __str__(self) -> str:
        return f"{self.spec}, seed {self.seed}"


def run_key(spec: RunSpec, seed: int) -> str:
    """The address of one Run: SHA-256 of the spec (data digest included), the seed and the record version."""
    # the text that `recorded_key` digests, put together from its parts in their order
    text = f'{{"record":{RECORD},"seed":{_canonical(seed)},"spec":{spec.canonical}}}'
    return hashlib.sha256(text.encode()).hexdigest()


def recorded_key(fields: Mapping[str, Any], seed: int) -> str:
    """The address of a Run whose spec was written as these fields, by this or an earlier version.

    A field that came later has a default that leaves the numbers as they were, or the record version is raised.
    """
    return _digest({"record": 1 if record_1.describes(fields) else RECORD, "spec": fields, "seed": seed})


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(content: Any) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
