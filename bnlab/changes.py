"""Changes: another norm in an arm's place, or another recipe, in every RunSpec of a session.

The paper's sentences are then asked of other trainings, so nothing that comes out is a verdict on the paper.
"""

import ast
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bnlab.errors import SpecError
from bnlab.parts import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Norm,
    ResNet,
)
from bnlab.specs import RunSpec

NORMS = {
    str(norm): norm
    for norm in (BATCHNORM, BATCHNORM_MINUS, AFFINE_LAYER, NONE, GAMMA_ONLY, BETA_ONLY, AFFINE_PER_LAYER)
}
"""The arms that can be swapped, as reports name them."""

_DEFAULTS: dict[str, Any] = {entry.name: entry.default for entry in dataclasses.fields(RunSpec)}

SETTABLE = tuple(
    name for name, default in _DEFAULTS.items() if isinstance(default, (str, int, float)) and name != "data"
)
"""The fields of a recipe; all have a default, which is the paper's."""


@dataclass(frozen=True)
class Changes:
    """`swaps` are pairs of norms, the arm's and the one in its place; `settings` new values of fields.

    A field is set where a claim leaves it at the paper's value. What a claim names itself is what it is about.
    """

    swaps: tuple[tuple[Norm, Norm], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    said: tuple[str, ...] = ()

    @classmethod
    def of(cls, swaps: Iterable[str], settings: Iterable[str]) -> "Changes":
        """What ARM=LAYER and FIELD=VALUE mean, as on the command line; SpecError for what means nothing."""
        swaps, settings = tuple(swaps), tuple(settings)
        pairs = tuple(map(_swap, swaps))
        fields = tuple(map(_setting, settings))
        found = cls(pairs, fields, (*swaps, *settings))
        found.apply(RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50))  # refuses values that do not go together
        return found

    def apply(self, spec: RunSpec) -> RunSpec:
        """The RunSpec that is trained in the place of this one."""
        changed = {name: value for name, value in self.settings if getattr(spec, name) == _DEFAULTS[name]}
        return dataclasses.replace(spec, norm=dict(self.swaps).get(spec.norm, spec.norm), **changed)


def _swap(text: str) -> tuple[Norm, Norm]:
    arm, _, layer = text.partition("=")
    if arm not in NORMS or not layer:
        raise SpecError(
            f"--swap {text!r}: expected ARM=LAYER, such as BatchNorm-minus=my_norms:RMSNorm2d, "
            f"with one of {', '.join(NORMS)} as ARM"
        )
    return NORMS[arm], norm(layer)


def norm(text: str) -> Norm:
    """An arm's name, `my_norms:RMSNorm2d`, or with options `bnlab.norms.groupnorm:GroupNorm(groups=8)`."""
    if text in NORMS:
        return NORMS[text]
    layer, _, options = text.removesuffix(")").partition("(")
    try:
        call: Any = ast.parse(f"layer({options})", mode="eval").body
        given = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError):
        given = None
    if given is None or call.args:
        raise SpecError(f"the layer {text!r}: expected options as in my_norms:Mine(groups=8, eps=1e-5)")
    return Norm(layer=layer, options=given)


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    if name not in SETTABLE or not value:
        raise SpecError(
            f"--set {text!r}: expected FIELD=VALUE with one of {', '.join(SETTABLE)}, and paths before --set"
        )
    kind = type(_DEFAULTS[name])
    words = {"true": True, "false": False}
    try:
        return name, words[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else {int: "a whole number", float: "a number"}[kind]
        raise SpecError(f"--set {text!r}: expected {expected} for {name}") from None
