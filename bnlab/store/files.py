"""The files of a finished Run's folder: what is written into it, and the checked Run that is read from it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from bnlab.errors import SpecError, StoreError
from bnlab.runs import Readings, Run
from bnlab.specs import RECORD, Replicate, RunSpec, recorded_key
from bnlab.store import arrays
from bnlab.store.checks import LARGEST, check_replicate, check_run, parse, plain_provenance, plain_text
from bnlab.store.durable import as_store_error, exists, read, sync_folder, write

FILES = ("spec.json", "env.json", "curve.jsonl", "readings.json", "result.json")
"""Every file of a finished Run but its probes' and DONE.json, which holds the SHA-256 of each of these."""

NO_RUN = (ValueError, LookupError, TypeError, AttributeError, SpecError)
"""What reading a Run from JSON values raises that are none."""

_PROBE = "probe-{}.safetensors"


class DamagedError(StoreError):
    """A Run, or what a probe read of it, that is not as it was written; `path` is what has to be moved away."""

    def __init__(self, path: Path, what: str, error: Exception) -> None:
        self.path = path
        self.why = "a file is missing" if isinstance(error, FileNotFoundError) else why(error)
        super().__init__(
            f"{what} in {path} is damaged ({self.why}): a session that may train sets it aside and trains it again"
        )


def check(run: Run) -> None:
    """StoreError for a Run that no training of its RunSpec can give."""
    try:
        check_run(run)
    except ValueError as error:
        raise StoreError(f"{run.replicate}, cannot be kept ({error}): train it again") from error


def write_run(folder: Path, run: Run) -> None:
    """Every file of a finished Run into a new folder, flushed to the disk, DONE.json last."""
    fields = run.to_json()
    epochs = [
        {"epoch": i + 1, **{name: curve[i] for name, curve in run.curves.items()}} for i in range(run.spec.epochs)
    ]
    contents = {
        "spec.json": json_line({"record": RECORD, "spec": fields["spec"], "seed": run.seed}),
        "env.json": json_line(plain_provenance(fields["provenance"])),
        "curve.jsonl": b"".join(map(json_line, epochs)),
        "readings.json": json_line(fields["readings"]),
        "result.json": json_line(
            {"curves": list(run.curves), "weights": run.weights, "diverged_at": run.diverged_at, "digest": run.digest}
        ),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    folder.mkdir()
    for probe, readings in run.probes.items():
        write(probe_file(folder, probe), arrays.pack(probe, readings))
    for name, content in {**contents, "DONE.json": json_line({"files": digests})}.items():
        write(folder / name, content)
    sync_folder(folder)


@contextmanager
def staged_run(tmp: Path, run: Run) -> Iterator[Path]:
    """The Run written to a folder in `tmp`, which may be renamed into its place and is removed otherwise."""
    staged = tmp / f"{run.key}-{os.getpid()}-{os.urandom(4).hex()}"
    with as_store_error(f"write the Run {run.key[:12]} to the store {tmp.parent}", "run again"):
        try:
            write_run(staged, run)
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def write_probe(tmp: Path, folder: Path, probe: str, readings: Readings) -> None:
    """Put what a probe read into the folder of a finished Run, by one rename."""
    staged = tmp / f"{folder.name}-{os.getpid()}-{os.urandom(4).hex()}"
    content = arrays.pack(probe, readings)
    with as_store_error(f"write the probe {probe} to {folder}", "run again"):
        try:
            write(staged, content)
            os.replace(staged, probe_file(folder, probe))
            sync_folder(folder)
        finally:
            staged.unlink(missing_ok=True)


def read_run(folder: Path) -> Run | None:
    """The checked Run of one folder without its probes, or None if a newer bnlab recorded it.

    A Run of record 1 gets today's spec. What is not as it was written is a DamagedError, what cannot be read a
    StoreError.
    """
    with as_store_error(f"read the Run in {folder}", "run again"):
        try:
            digests = parse(read(folder / "DONE.json", LARGEST))["files"]
            contents = {name: read(folder / name, LARGEST) for name in FILES}
            for name in FILES:
                if hashlib.sha256(contents[name]).hexdigest() != digests[name]:
                    raise ValueError(f"{name} does not have the SHA-256 that DONE.json names")
            recorded, result = parse(contents["spec.json"]), parse(contents["result.json"])
            if recorded["record"] > RECORD:
                return None
            epochs = parse(b"[" + b",".join(contents["curve.jsonl"].splitlines()) + b"]")
            fields = {
                "spec": recorded["spec"],
                "seed": recorded["seed"],
                "curves": {name: [row[name] for row in epochs if name in row] for name in result["curves"]},
                "readings": parse(contents["readings.json"]),
                "weights": result["weights"],
                "diverged_at": result["diverged_at"],
                "provenance": parse(contents["env.json"]),
            }
            run = run_of(fields, key=folder.name, digest=result["digest"])
        except (FileNotFoundError, *NO_RUN) as error:
            raise DamagedError(folder, "the Run", error) from error
    return run


def read_probe(folder: Path, probe: str) -> Readings:
    """What one probe read; a DamagedError if its file does not have the SHA-256 that it carries."""
    path = probe_file(folder, probe)
    with as_store_error(f"read the probe {probe} in {folder}", "run again"):
        try:
            return arrays.unpack(probe, read(path, LARGEST))
        except ValueError as error:
            raise DamagedError(path, f"the probe {probe}", error) from error


def sound_probe(folder: Path, probe: str) -> Readings | None:
    """What a probe read before, or None if that is missing or damaged."""
    try:
        return read_probe(folder, probe) if exists(probe_file(folder, probe)) else None
    except DamagedError:
        return None


def probe_file(folder: Path, probe: str) -> Path:
    """The file of what this probe read, whose name a probe cannot lead out of the folder."""
    return folder / _PROBE.format(quote(probe, safe=""))


def probes_in(folder: Path) -> list[str]:
    """The probes of the Run in this folder, in order."""
    before, after = _PROBE.split("{}")
    with as_store_error(f"list the probes in {folder}", "run again"):
        names = os.listdir(folder)
    probes = (unquote(name.removeprefix(before).removesuffix(after)) for name in names if name.endswith(after))
    return sorted(probe for probe in probes if probe_file(folder, probe).name in names)


def run_of(fields: dict[str, Any], *, key: object, digest: object = None) -> Run:
    """The Run of the plain JSON values that `Run.to_json` gave, by this version or at record 1.

    `key` is the address and `digest` the digest under which they were recorded. Raises one of NO_RUN where the values
    are no Run or a different one.
    """
    run = Run.from_json({**fields, "provenance": plain_provenance(fields["provenance"])})
    check_run(run)
    if recorded_key(fields["spec"], run.seed) != key:
        raise ValueError(f"it holds {run.replicate}, whose key is not {plain_text(str(key))[:12]}")
    if digest not in (None, run.digest):
        raise ValueError("its numbers do not have the digest that result.json names")
    # record 1 kept what probes read among the other readings
    starts = {probe: f"{probe}/" for probe in fields["spec"].get("probes", ())}
    probes = {
        probe: {name.removeprefix(start): value for name, value in run.readings.items() if name.startswith(start)}
        for probe, start in starts.items()
    }
    readings = {name: value for name, value in run.readings.items() if not name.startswith(tuple(starts.values()))}
    return replace(run, readings=readings, probes=probes)


def begun(folder: Path) -> tuple[Replicate, dict[str, Any]]:
    """The Run in progress in this folder and all that its spec.json says; one of NO_RUN or OSError if it says none."""
    fields = parse(read(folder / "spec.json", LARGEST))
    replicate = Replicate(RunSpec.from_json(fields["spec"]), fields["seed"], tuple(fields.get("probes", ())))
    check_replicate(replicate)
    if replicate.key != folder.name:
        raise ValueError(f"it holds {replicate}")
    return replicate, fields


def json_line(content: Any) -> bytes:
    """One line of JSON with its keys in order."""
    return json.dumps(content, sort_keys=True).encode() + b"\n"


def why(error: Exception) -> str:
    """What a NO_RUN says, as one printable text."""
    named = isinstance(error, (ValueError, SpecError)) and not isinstance(error, json.JSONDecodeError)
    return plain_text(" ".join(str(error if named else f"{type(error).__name__}: {error}").split()), 300)
