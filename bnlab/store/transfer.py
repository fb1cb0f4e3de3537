"""Runs from one store to another, as one file of JSON lines with a checksum.

The first line is a header, `{"bnlab_runs": 2, "runs": 32}`; then comes a line for each Run, in the order of their
keys, so that the same Runs make the same bytes; the last line holds the SHA-256 of everything before it. What a probe
read is the base64 text of its safetensors bytes. Format 1 held Runs of record 1.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bnlab.errors import StoreError
from bnlab.runs import Run
from bnlab.specs import Replicate
from bnlab.store import DamagedError, Store, arrays
from bnlab.store.checks import LARGEST, check_replicate, parse, plain_text
from bnlab.store.durable import as_store_error, exists, read, write_durably
from bnlab.store.files import NO_RUN, run_of, why
from bnlab.store.work import now

FORMAT = 2
"""Version of the file."""

_LARGEST_LINE = 8 * LARGEST
_LARGEST_FILE = 64 * LARGEST


def export_runs(runs: Iterable[Run], file: Path) -> int:
    """Write the Runs to a file, the old one whole until the new one is; how many they are.

    A link is followed, and what is no regular file (a pipe, a device) is written to and not replaced. A file that is
    no export, or that holds Runs which would be lost, is a StoreError and stays as it is.
    """
    by_key = {run.key: run for run in runs}
    lines = [_line({"bnlab_runs": FORMAT, "runs": len(by_key)})]
    for key, run in sorted(by_key.items()):
        probes = {probe: base64.b64encode(arrays.pack(probe, given)).decode() for probe, given in run.probes.items()}
        lines.append(_line({"key": key, **run.to_json(), "probes": probes}))
    body = b"".join(lines)
    last = _line({"sha256": hashlib.sha256(body).hexdigest()})
    with as_store_error(f"write the Runs to {file}", "name another file"):
        target = Path(os.path.realpath(file))
        if target.is_dir():
            raise StoreError(f"{str(file)!r} is a folder: name a file to write the Runs to")
        if target.exists() and not target.is_file():
            target.write_bytes(body + last)
            return len(by_key)
        if target.exists() and target.stat().st_size:
            lost = {run.key for run in read_runs(target)} - set(by_key)
            if lost:
                raise StoreError(
                    f"{file} holds {len(lost)} Runs that are not among these {len(by_key)} and would be lost: name "
                    "another file, or import it into the store first"
                )
        target.parent.mkdir(parents=True, exist_ok=True)
        write_durably(target, body, last)
    return len(by_key)


def read_runs(file: Path) -> tuple[Run, ...]:
    """The Runs of a file that `export_runs` wrote, in the order of their keys; a file is read once while it stays.

    A file that is something else, cut short, changed, or of another version is a StoreError.
    """
    with as_store_error(f"read {file}", "name a file that `bnlab export` wrote"):
        found = os.stat(file)
    return _read_runs(file, found.st_ino, found.st_size, found.st_mtime_ns)


def recorded_runs(folder: Path) -> dict[str, Run]:
    """Every Run in the `*.jsonl` of a folder by its key; files that contradict each other are a StoreError."""
    runs: dict[str, Run] = {}
    with as_store_error(f"list {folder}", "run again"):
        names = sorted(os.listdir(folder)) if exists(folder) else []
    for file in (folder / name for name in names if name.endswith(".jsonl")):
        for run in read_runs(file):
            known = runs.setdefault(run.key, run)
            if known.digest != run.digest:
                raise StoreError(
                    f"{file} records other numbers for {run.replicate} than another file beside it: the same Run has "
                    "one result, so remove the file that is wrong"
                )
    return runs


def import_runs(file: Path, store: Store) -> tuple[int, int]:
    """Put the Runs of a file into the store; how many were new, and how many it had already.

    Nothing is written unless the whole file is sound and none of its Runs disagrees with another one of the file or
    of the store. Their provenance says which file they came from.
    """
    new = []
    runs = read_runs(file)
    for run in runs:
        try:
            mine = store.load(replace(run.replicate, probes=()))
        except DamagedError:
            store.set_aside(run.replicate)
            mine = None
        if mine is not None and mine.digest != run.digest:
            raise StoreError(
                f"{run.replicate} (Run {run.key[:12]}), has other numbers in {file} than in the store {store.path}: "
                "import it into a store of its own, and compare where the two were trained"
            )
        if mine is None or not store.has(run.replicate):
            origin = {"file": plain_text(file.name), "at": now()}
            new.append(replace(run, provenance={**run.provenance, "imported": origin}))
    for run in new:
        _, warning = store.add(run)
        if warning:
            raise StoreError(warning)
    return len(new), len(runs) - len(new)


@lru_cache(maxsize=64)
def _read_runs(file: Path, *_identity: int) -> tuple[Run, ...]:
    """See `read_runs`; with another inode, size or time of change it is another file."""
    with as_store_error(f"read {file}", "name a file that `bnlab export` wrote"):
        try:
            content = read(Path(os.path.realpath(file)), _LARGEST_FILE)
        except ValueError as error:
            raise StoreError(f"cannot read {file} ({error}): name a file that `bnlab export` wrote") from error
    header, *_ = lines = content.splitlines(keepends=True) or [b""]
    known = _object(header)
    if "bnlab_runs" not in known:
        raise StoreError(f"{file} is not a file of Runs: name one that `bnlab export` wrote")
    if known["bnlab_runs"] not in (1, FORMAT):
        raise StoreError(
            f"{file} has format {str(known['bnlab_runs'])[:20]!r} and this bnlab reads 1 to {FORMAT}: update bnlab"
        )
    body, last = lines[:-1], lines[-1]
    if _object(last).get("sha256") != hashlib.sha256(b"".join(body)).hexdigest() or known.get("runs") != len(body) - 1:
        raise StoreError(
            f"{file} is damaged or cut short, since its last line is not the SHA-256 of the rest: copy it again"
        )
    runs: dict[str, Run] = {}
    for line in body[1:]:
        run = _run(line, file)
        first = runs.setdefault(run.key, run)
        if first.digest != run.digest:
            raise StoreError(f"{file} holds {run.replicate}, twice with different numbers: export it again")
        runs[run.key] = replace(first, probes={**run.probes, **first.probes})
    return tuple(runs.values())


def _run(line: bytes, file: Path) -> Run:
    """The checked Run of one line, at today's record."""
    fields = _object(line)
    try:
        run = run_of(fields, key=fields["key"])
        probes = {
            probe: arrays.unpack(probe, base64.b64decode(text, validate=True))
            for probe, text in fields.get("probes", {}).items()
        }
        check_replicate(Replicate(run.spec, run.seed, tuple(probes)))
    except NO_RUN as error:
        raise StoreError(f"{file} holds a line that is no Run of this bnlab ({why(error)}): export it again") from error
    return replace(run, probes={**run.probes, **probes})


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line, or an empty one if it holds none."""
    try:
        content = parse(line, _LARGEST_LINE)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"
