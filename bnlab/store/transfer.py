"""Runs from one store to another, as one file of JSON lines with a checksum.

The first line is a header, `{"bnlab_runs": 1, "runs": 32}`; then comes a line for each Run, in the order of their
keys, so that the same Runs make the same bytes; the last line holds the SHA-256 of everything before it.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bnlab.errors import SpecError, StoreError
from bnlab.runs import Run
from bnlab.specs import recorded_key
from bnlab.store import Store
from bnlab.store.durable import in_words, write_durably

FORMAT = 1
"""Version of the file."""


def export_runs(runs: Iterable[Run], file: Path) -> int:
    """Write the Runs to a file, the old one whole until the new one is; how many they are."""
    by_key = {run.key: run for run in runs}
    lines = [_line({"bnlab_runs": FORMAT, "runs": len(by_key)})]
    lines += [_line({"key": key, **by_key[key].to_json()}) for key in sorted(by_key)]
    body = b"".join(lines)
    with in_words(f"write the Runs to {file}", "make room there or name another file"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, body, _line({"sha256": hashlib.sha256(body).hexdigest()}))
    return len(by_key)


def read_runs(file: Path) -> list[Run]:
    """The Runs of a file that `export_runs` wrote, in the order of their keys.

    A file that is something else, cut short, changed, or of another version is a StoreError.
    """
    with in_words(f"read {file}", "name a file that `bnlab export` wrote"):
        content = file.read_bytes()
    header, *_ = lines = content.splitlines(keepends=True) or [b""]
    known = _parse(header)
    if "bnlab_runs" not in known:
        raise StoreError(f"{file} is not a file of Runs: name one that `bnlab export` wrote")
    if known["bnlab_runs"] != FORMAT:
        raise StoreError(f"{file} has format {known['bnlab_runs']} and this bnlab reads format {FORMAT}: update bnlab")
    body, last = lines[:-1], lines[-1]
    if _parse(last).get("sha256") != hashlib.sha256(b"".join(body)).hexdigest() or known.get("runs") != len(body) - 1:
        raise StoreError(
            f"{file} is damaged or cut short, since its last line is not the SHA-256 of the rest: copy it again"
        )
    return [_run(line, file) for line in body[1:]]


def import_runs(file: Path, store: Store) -> tuple[int, int]:
    """Put the Runs of a file into the store; how many were new, and how many it had already.

    Nothing is written unless the whole file is sound and none of its Runs disagrees with a Run of the store.
    """
    new = []
    runs = read_runs(file)
    for run in runs:
        mine = store.load(run.spec, run.seed)
        if mine is None:
            new.append(run)
        elif mine.digest != run.digest:
            raise StoreError(
                f"{run.spec}, seed {run.seed} (Run {run.key[:12]}), has other numbers in {file} than in the store "
                f"{store.path}: import it into a store of its own, and compare where the two were trained"
            )
    for run in new:
        _, warning = store.add(run)
        if warning:
            raise StoreError(warning)
    return len(new), len(runs) - len(new)


def _run(line: bytes, file: Path) -> Run:
    """The Run of one line, whose key must be that of the fields it was recorded with."""
    fields = _parse(line)
    try:
        run = Run.from_json(fields)
        key = recorded_key(fields["spec"], run.seed)
    except (LookupError, TypeError, AttributeError, ValueError, SpecError) as error:
        raise StoreError(
            f"{file} holds a line that is no Run ({type(error).__name__}: {error}): export it again"
        ) from error
    if key != fields.get("key"):
        raise StoreError(
            f"{file} holds {run.spec}, seed {run.seed}, under the key {str(fields.get('key'))[:12]}, not {key[:12]}: "
            "it was recorded by another version of bnlab, so train it again with this one"
        )
    return run


def _parse(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, or an empty one if it holds none."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
