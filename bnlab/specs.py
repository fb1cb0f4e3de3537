"""RunSpec and its parts: what defines a training, as frozen plain values.

Nothing here trains, and nothing here imports torch: a claim, the plan, the store and the report all speak of
trainings by these values, and `run_key` gives the address under which the store keeps the Run.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from bnlab.errors import SpecError

RECORD = 1
"""Version of the record: raised whenever a RunSpec and Seed would give numbers that differ by more than rounding."""

CIFAR10 = "cac8a7f09e8811334cea009f770bf0040c5a12f65bc27a54603a17d6adba36b7"
"""Content digest of CIFAR-10 in canonical order (see `bnlab.data`), from whichever source it came."""

Optimizer = Literal["adam", "sgd"]
Schedule = Literal["constant", "cosine"]
Augmentation = Literal["none", "flip", "flip+crop"]
Precision = Literal["fp32", "tf32", "bf16"]
Engine = Literal["fused", "eager"]

_KNOWN = ("batchnorm", "affine", "none")

_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclass(frozen=True)
class ResNet:
    """torchvision's ResNet of this depth: ImageNet stem, ten classes, fed with 32x32 images (paper section 3.1)."""

    depth: int

    def __post_init__(self) -> None:
        if self.depth not in _STAGES:
            raise SpecError(f"unknown network ResNet({self.depth!r}): expected a depth of 18, 34, 50 or 101")

    @property
    def block(self) -> Literal["basic", "bottleneck"]:
        """The residual block (paper figure 2)."""
        return "basic" if self.depth < 50 else "bottleneck"

    @property
    def stages(self) -> tuple[int, ...]:
        """Residual blocks in each of the four stages."""
        return _STAGES[self.depth]

    def __str__(self) -> str:
        return f"ResNet{self.depth}"


@dataclass(frozen=True, kw_only=True)
class Norm:
    """What stands in the norm slot after every convolution, and which parameters of it are trained.

    `layer` is `batchnorm` (normalises with batch statistics), `affine` (does not normalise), `none`, or
    `package.module:Class`, a torch module of one's own that is called with the number of channels.
    """

    layer: str
    scale: bool = False
    shift: bool = False
    per: Literal["channel", "layer"] = "channel"
    conv_bias: bool = False

    def __post_init__(self) -> None:
        if self.layer not in _KNOWN and ":" not in self.layer:
            raise SpecError(
                f"unknown norm {self.layer!r}: expected {', '.join(_KNOWN)}, or 'package.module:Class' for your own"
            )
        if self.per not in ("channel", "layer"):
            raise SpecError(f"a Norm has parameters per 'channel' or per 'layer', not per {self.per!r}")
        if self.layer == "affine" and not (self.scale or self.shift):
            raise SpecError("an affine Norm without scale and without shift is Norm(layer='none'): use NONE")
        if self.per == "layer" and self.layer != "affine":
            raise SpecError(f"parameters per layer exist for the affine Norm only, not for {self.layer!r}")
        if self.layer not in ("batchnorm", "affine") and (self.scale or self.shift):
            raise SpecError(f"scale and shift are parts of batchnorm and affine, not of {self.layer!r}")

    @property
    def normalizes(self) -> bool:
        """Whether the layer subtracts a mean and divides by a standard deviation of the batch."""
        return self.layer == "batchnorm"

    def __str__(self) -> str:
        named = _NAMES.get(self)
        return named if named else self.layer.partition(":")[2] or self.layer


BATCHNORM = Norm(layer="batchnorm", scale=True, shift=True)
BATCHNORM_MINUS = Norm(layer="batchnorm")
GAMMA_ONLY = Norm(layer="batchnorm", scale=True)
BETA_ONLY = Norm(layer="batchnorm", shift=True)
AFFINE_LAYER = Norm(layer="affine", scale=True, shift=True)
AFFINE_PER_LAYER = Norm(layer="affine", scale=True, shift=True, per="layer")
NONE = Norm(layer="none")
NONE_CONV_BIAS = Norm(layer="none", conv_bias=True)

_NAMES = {
    BATCHNORM: "BatchNorm",
    BATCHNORM_MINUS: "BatchNorm-minus",
    GAMMA_ONLY: "gamma-only",
    BETA_ONLY: "beta-only",
    AFFINE_LAYER: "AffineLayer",
    AFFINE_PER_LAYER: "AffineLayer per layer",
    NONE: "None",
    NONE_CONV_BIAS: "None with conv bias",
}


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that defines a training but the seed; the defaults are the paper's (sections 3.2 and 3.3).

    `lr` is the peak learning rate, `schedule` what becomes of it over the epochs, `data` the content digest of the
    images. `tf32` is what PyTorch does with convolutions by default, here in the head too; where there is none, fp32.
    `eager` trains with torchvision's network and torch's default loop instead of this package's engine. `probes`
    names the readings that are taken while training (`bnlab.probes`); they change no other number.
    """

    net: ResNet
    norm: Norm
    batch_size: int
    epochs: int = 15
    optimizer: Optimizer = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    augmentation: Augmentation = "none"
    precision: Precision = "tf32"
    engine: Engine = "fused"
    probes: tuple[str, ...] = ()
    data: str = CIFAR10

    def __post_init__(self) -> None:
        if not isinstance(self.batch_size, int) or self.batch_size < 2:
            raise SpecError(f"batch_size is {self.batch_size!r}: expected a whole number of at least 2 images")
        if not isinstance(self.epochs, int) or self.epochs < 1:
            raise SpecError(f"epochs is {self.epochs!r}: expected a whole number of at least 1")
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"unknown {name} {getattr(self, name)!r}: expected one of {', '.join(allowed)}")
        if not self.lr > 0:
            raise SpecError(f"lr is {self.lr!r}: expected a number above 0")
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimizer != "sgd"):
            raise SpecError(f"momentum is {self.momentum!r} with {self.optimizer}: expected 0, or for sgd 0 to below 1")
        if self.engine == "eager" and self.precision == "bf16":
            raise SpecError("the eager engine has no bf16: take precision 'fp32' or 'tf32', or engine 'fused'")
        if not self.weight_decay >= 0:
            raise SpecError(f"weight_decay is {self.weight_decay!r}: expected a number of at least 0")

    @property
    def key(self) -> str:
        """SHA-256 of every field, defaults included, and the record version: 64 hex digits."""
        return _digest({"record": RECORD, "spec": self.to_json()})

    @property
    def program(self) -> "RunSpec":
        """What RunSpecs have in common whose Runs can train as one cohort: everything but one of our own norms.

        Where weights decay, parameters that one norm trains and another freezes cannot share a tensor.
        """
        alone = self.norm.layer not in _KNOWN or self.norm.conv_bias or self.norm.per == "layer"
        if alone or self.weight_decay or self.engine == "eager":
            return self
        return dataclasses.replace(self, norm=NONE)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; `from_json` gives the RunSpec back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RunSpec":
        """The RunSpec that `to_json` described; fields this version does not know are a SpecError."""
        try:
            parts = {"net": ResNet(**fields["net"]), "norm": Norm(**fields["norm"])}
            return cls(**{**fields, **parts, "probes": tuple(fields.get("probes", ()))})
        except (KeyError, TypeError) as error:
            raise SpecError(f"not a RunSpec of this version ({error}): export it again with this version") from error

    def __str__(self) -> str:
        eager = ", eager" if self.engine == "eager" else ""
        return f"{self.net}, {self.norm}, batch {self.batch_size}, {self.epochs} epochs{eager}"


_ALLOWED: dict[str, tuple[str, ...]] = {
    "optimizer": ("adam", "sgd"),
    "schedule": ("constant", "cosine"),
    "augmentation": ("none", "flip", "flip+crop"),
    "precision": ("fp32", "tf32", "bf16"),
    "engine": ("fused", "eager"),
}


def run_key(spec: RunSpec, seed: int) -> str:
    """The address of one Run: SHA-256 of the spec (data digest included), the seed and the record version."""
    return recorded_key(spec.to_json(), seed)


def recorded_key(fields: dict[str, Any], seed: int) -> str:
    """The address of a Run whose spec was written as these fields, by this or an earlier version with fewer of them.

    A field that came later has a default that leaves the numbers as they were, or the record version is raised.
    """
    return _digest({"record": RECORD, "spec": fields, "seed": seed})


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
