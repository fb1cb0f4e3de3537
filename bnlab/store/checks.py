"""What a Run from a file has to be: bounded JSON, plain text, and numbers that a training can give.

Files come from other machines and other people. Nothing that they hold is run or imported; what does not look like a
Run is refused with a ValueError that says why.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bnlab.runs import Run
from bnlab.specs import Replicate

LARGEST = 64 * 2**20
"""Most bytes of one probe's readings, and of any file of a Run."""

_DEEPEST = 12
_LONGEST = 10_000  # characters of a text
_MOST_SEEDS = 2**31
_MOST_STEPS = 2**53
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse(content: bytes | str, limit: int = LARGEST) -> Any:
    """The value of a JSON text that is not too long, nested or deep; any other is a ValueError."""
    if len(content) > limit:
        raise ValueError(f"{len(content)} bytes of JSON, more than {limit}")
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    level, depth = [value], 0
    while level := [inner for outer in level if isinstance(outer, (dict, list)) for inner in _inside(outer)]:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"JSON that is nested more than {_DEEPEST} deep")
    return value


def plain_text(text: str, longest: int = _LONGEST) -> str:
    """The text with a `?` for every character that cannot be printed, cut to a bounded length."""
    return "".join(character if character.isprintable() else "?" for character in text[:longest])


def plain_provenance(value: Any) -> Any:
    """Provenance with its texts made printable: it is shown, and no number depends on it."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return {plain_text(str(name)): plain_provenance(inner) for name, inner in value.items()}
    return [plain_provenance(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def check_run(run: Run) -> None:
    """ValueError unless the Run holds what a training of its RunSpec can give.

    That is a curve of `epochs` numbers for each of `train_loss`, `test_accuracy` and what else was drawn, accuracies
    in percent, and numbers that are finite unless it diverged.
    """
    check_replicate(run.replicate)
    diverged = run.diverged_at
    _check(diverged is None or _is_count(diverged, _MOST_STEPS), f"diverged_at {diverged!r}", "a step or nothing")
    weights = run.weights
    _check(isinstance(weights, str) and _DIGEST.fullmatch(weights) is not None, f"weights {weights!r}", "a SHA-256")
    _check(isinstance(run.provenance, Mapping), "provenance that is no object", "names and values")
    _check(isinstance(run.readings, Mapping), "readings that are no object", "names and numbers")
    missing = {"train_loss", "test_accuracy"} - set(run.curves)
    _check(not missing, f"no curve {', '.join(sorted(missing))}", "one number an epoch")
    for name, curve in run.curves.items():
        _check(len(curve) == run.spec.epochs, f"{len(curve)} numbers in {name!r}", f"{run.spec.epochs}, one an epoch")
    for name, values in {**run.curves, **{name: (value,) for name, value in run.readings.items()}}.items():
        _check_numbers(name, values, diverged=diverged is not None)


def _check_numbers(name: object, values: Iterable[object], *, diverged: bool) -> None:
    _check(is_name(name), f"the name {name!r}", "a short printable text")
    for value in values:
        _check(type(value) is float, f"{value!r} in {name!r}", "a number")
        assert isinstance(value, float)
        _check(diverged or math.isfinite(value), f"{value!r} in {name!r}", "a finite number, since it did not diverge")
        if "accuracy" in str(name):
            _check(0 <= value <= 100, f"{value!r} in {name!r}", "0 to 100 %")


def check_replicate(replicate: Replicate) -> None:
    """ValueError for values of types that RunSpec itself takes on trust, and for texts that cannot be printed."""
    _check(_is_count(replicate.seed, _MOST_SEEDS), f"the seed {replicate.seed!r}", "a whole number from 0")
    for probe in replicate.probes:
        _check(is_name(probe), f"the probe {probe!r}", "a short printable text")
    spec = replicate.spec
    for name, kind in {"batch_size": int, "epochs": int, "nesterov": bool, "standardize": bool, "data": str}.items():
        value = getattr(spec, name)
        _check(type(value) is kind, f"{name} {value!r}", f"a value of type {kind.__name__}")
    patterns = (group.parameters for group in spec.groups)
    for text in (*spec.evaluations, *patterns, *_texts(spec.to_json())):
        _check(is_name(text) or text == "", f"the text {text!r}", "a short printable text")


def is_name(name: object) -> bool:
    """Whether this is a printable text of 1 to 200 characters."""
    return isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in _inside(value):
            yield from _texts(inner)


def _inside(value: "dict[str, Any] | list[Any]") -> Iterable[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value < most


def _check(fine: bool, received: str, expected: str) -> None:
    if not fine:
        raise ValueError(f"it has {plain_text(received, 200)}, expected {expected}")
