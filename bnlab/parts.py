"""Norm, Net and Part: the code that a RunSpec names, as frozen plain values.

A part is `package.module:name` and the options it is called with. Parts of this package and parts of a user go the
same way. A part of a user carries a digest of its source, so that an edited layer is another layer.
"""

import hashlib
import importlib.metadata
import importlib.util
import re
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

from bnlab.errors import SpecError

Plain = bool | int | float | str | None
"""What the value of an option may be."""

Options = Mapping[str, Plain] | tuple[tuple[str, Plain], ...]

_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_OURS = ("bnlab.norms.", "bnlab.nets.", "bnlab.")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """`options` are the keywords of the call; `source` is filled where a Run is planned, see `sourced`.

    `name` is a short name for labels; it is not part of the identity.
    """

    _field: ClassVar[str]
    _example: ClassVar[str] = "bnlab.norms.batchnorm:BatchNorm"
    options: Options = ()
    source: str = ""
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if not _CODE.fullmatch(self._code):
            raise SpecError(f"unknown {kind} {self._code!r}: expected 'package.module:name', such as {self._example}")
        pairs = self.options.items() if isinstance(self.options, Mapping) else self.options
        options = tuple(sorted((name, value) for name, value in pairs))
        for option, value in options:
            if not isinstance(value, (bool, int, float, str, type(None))):
                raise SpecError(
                    f"option {option!r} of {self._code} is a {type(value).__name__}: expected a number, a text, True, "
                    "False or None, since it is part of the Run's key"
                )
        object.__setattr__(self, "options", options)

    @property
    def _code(self) -> str:
        code: str = getattr(self, self._field)
        return code

    @property
    def keywords(self) -> dict[str, Plain]:
        """The options by name."""
        return dict(self._pairs)

    @property
    def _pairs(self) -> tuple[tuple[str, Plain], ...]:
        assert isinstance(self.options, tuple), "set by __post_init__"
        return self.options

    @property
    def label(self) -> str:
        """A short name: that of a constant, the one it was given, or the class with its options."""
        return _LABELS.get((self._code, self._pairs)) or self.name or self._called

    @property
    def _called(self) -> str:
        module, _, attribute = self._code.partition(":")
        short = module.rpartition(".")[2] if attribute == "build" else attribute
        shown = short if self._code.startswith(_OURS) else self._code
        options = ", ".join(f"{name}={value}" for name, value in self._pairs)
        return f"{shown}({options})" if options else shown

    def sourced(self) -> Self:
        """The same part with the digest of its source filled in; SpecError where its module cannot be found."""
        return self if self.source else replace(self, source=source_digest(self._code))

    def to_json(self) -> dict[str, Any]:
        """The identity as plain JSON values: `name` is left out."""
        return {self._field: self._code, "options": self.keywords, "source": self.source}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The part that `to_json` described; SpecError for fields that are not part of the identity."""
        if unknown := set(fields) - {cls._field, "options", "source"}:
            raise SpecError(f"not a {cls.__name__} of this version: it has the fields {sorted(unknown)}")
        return cls(**fields)

    def __str__(self) -> str:
        if (self._code, self._pairs) in _LABELS and not self.source:
            return self.label
        version = f"@{self.source[:8]}" if self.source else ""
        return f"{self.name} [{self._called}{version}]" if self.name else f"{self._called}{version}"


@dataclass(frozen=True, kw_only=True)
class Part(_Part):
    """Any other code that a RunSpec names, such as an initialisation or a parametrization."""

    _field: ClassVar[str] = "code"
    code: str


@dataclass(frozen=True, kw_only=True)
class Norm(_Part):
    """What stands in the norm slot: a layer that is called with the number of channels and its options.

    `bnlab.norms` says what a layer has to be. A layer of your own is named in the same way as ours:
    `Norm(layer="my_norms:RMSNorm2d", options={"eps": 1e-6}, name="RMSNorm")`.
    """

    _field: ClassVar[str] = "layer"
    layer: str


@dataclass(frozen=True, kw_only=True)
class Net(_Part):
    """A network: a function that is called with `norm`, `classes` and its options and gives a torch module.

    `macs` are the multiply-accumulates of one forward pass on one 32x32 image and `layers` the convolutions and linear
    layers in a row; the plan prices Runs by them, and their snapshots by the number of `parameters`. None of these is
    part of the identity.
    """

    _field: ClassVar[str] = "build"
    _example: ClassVar[str] = "bnlab.nets.resnet:build"
    build: str
    macs: float = field(default=50e6, compare=False)
    layers: int = field(default=20, compare=False)
    parameters: float = field(default=11e6, compare=False)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The network that `to_json` described; a known one with its name and its cost."""
        net = super().from_json(fields)
        if known := _NETS.get((net._code, net._pairs)):
            cost = {name: getattr(known, name) for name in ("macs", "layers", "parameters")}
            return replace(net, name=known.name, **cost)
        return net


_RESNETS = {18: (37e6, 11.2e6), 34: (75e6, 21.3e6), 50: (84e6, 23.5e6), 101: (160e6, 42.5e6)}
"""Multiply-accumulates, as torchvision has them at 224x224 over 7 x 7, and parameters with ten classes."""


def ResNet(depth: int, *, conv_bias: bool = False) -> Net:  # noqa: N802  # reads as the class of networks that it names
    """torchvision's ResNet of this depth: ImageNet stem, ten classes, fed with 32x32 images (paper section 3.1).

    With `conv_bias` every convolution has a trained bias that starts at zero.
    """
    if depth not in _RESNETS:
        raise SpecError(f"unknown network ResNet({depth!r}): expected a depth of 18, 34, 50 or 101")
    options: dict[str, Plain] = {"depth": depth, "conv_bias": True} if conv_bias else {"depth": depth}
    return Net(
        build="bnlab.nets.resnet:build",
        options=options,
        name=f"ResNet{depth}" + (" with conv bias" if conv_bias else ""),
        macs=_RESNETS[depth][0],
        layers=depth,
        parameters=_RESNETS[depth][1],
    )


BATCHNORM = Norm(layer="bnlab.norms.batchnorm:BatchNorm")
BATCHNORM_MINUS = replace(BATCHNORM, options={"scale": False, "shift": False})
GAMMA_ONLY = replace(BATCHNORM, options={"shift": False})
BETA_ONLY = replace(BATCHNORM, options={"scale": False})
AFFINE_LAYER = Norm(layer="bnlab.norms.affine:AffineLayer")
AFFINE_PER_LAYER = replace(AFFINE_LAYER, options={"per": "layer"})
NONE = Norm(layer="bnlab.norms.none:Identity")

_NAMES = {
    BATCHNORM: "BatchNorm",
    BATCHNORM_MINUS: "BatchNorm-minus",
    GAMMA_ONLY: "gamma-only",
    BETA_ONLY: "beta-only",
    AFFINE_LAYER: "AffineLayer",
    AFFINE_PER_LAYER: "AffineLayer per layer",
    NONE: "None",
}
_NETS = {
    (net._code, net._pairs): net
    for net in (ResNet(depth, conv_bias=bias) for depth in _RESNETS for bias in (False, True))
}
_LABELS = {(norm._code, norm._pairs): name for norm, name in _NAMES.items()} | {
    key: net.name for key, net in _NETS.items()
}


@cache
def source_digest(code: str) -> str:
    """Which version of `package.module:name` this is: "" for bnlab's own, which RECORD stands for.

    Of an installed package it is name and version, of any other module the SHA-256 of its file. What the file imports
    is not looked at. The module itself is not imported, its parent packages are.
    """
    module = code.partition(":")[0]
    top = module.partition(".")[0]
    if top == "bnlab":
        return ""
    try:
        found = importlib.util.find_spec(module if _is_own(top) else top)
    except (ImportError, ValueError) as error:
        raise SpecError(f"the module of {code!r} cannot be found ({error}): put it on the Python path") from error
    if found is None or not found.origin:
        raise SpecError(f"the module of {code!r} cannot be found: put it on the Python path")
    if not _is_own(top):
        return f"{top} {_installed_version(top)}"
    return hashlib.sha256(Path(found.origin).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def versioned(code: str) -> str:
    """`module:name` of a user as `module:name@VERSION`; a name of ours, or with a version, as it is."""
    version = source_digest(code)[:16] if ":" in code and "@" not in code else ""
    return f"{code}@{version}" if version else code


def _is_own(top: str) -> bool:
    """Whether a top-level package lies outside the folders of installed packages."""
    found = importlib.util.find_spec(top)
    if found is None or not found.origin:
        return True
    return not Path(found.origin).is_relative_to(sysconfig.get_path("purelib"))


def _installed_version(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
