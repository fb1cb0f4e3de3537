"""The files of a finished Run's folder: what is written into it and read from it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from bnlab.runs import Run
from bnlab.specs import RECORD
from bnlab.store.durable import sync_folder, write

FILES = ("spec.json", "env.json", "curve.jsonl", "readings.json", "result.json")
"""Every file of a finished Run but DONE.json, which holds the SHA-256 of each."""


def write_run(folder: Path, run: Run) -> None:
    """Every file of a finished Run, and DONE.json with their digests, flushed to the disk."""
    fields = run.to_json()
    length = max((len(curve) for curve in run.curves.values()), default=0)
    epochs = [
        {"epoch": i + 1, **{name: curve[i] for name, curve in run.curves.items() if i < len(curve)}}
        for i in range(length)
    ]
    contents = {
        "spec.json": json_line({"record": RECORD, "spec": fields["spec"], "seed": run.seed}),
        "env.json": json_line(fields["provenance"]),
        "curve.jsonl": b"".join(map(json_line, epochs)),
        "readings.json": json_line(fields["readings"]),
        "result.json": json_line(
            {"curves": list(run.curves), "weights": run.weights, "diverged_at": run.diverged_at, "digest": run.digest}
        ),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    folder.mkdir()
    for name, content in {**contents, "DONE.json": json_line({"files": digests})}.items():
        write(folder / name, content)
    sync_folder(folder)


def parse_run(contents: dict[str, bytes]) -> Run:
    """The Run that `write_run` wrote."""
    spec, result = json.loads(contents["spec.json"]), json.loads(contents["result.json"])
    epochs = [json.loads(line) for line in contents["curve.jsonl"].splitlines()]
    return Run.from_json(
        {
            "spec": spec["spec"],
            "seed": spec["seed"],
            "curves": {name: [row[name] for row in epochs if name in row] for name in result["curves"]},
            "readings": json.loads(contents["readings.json"]),
            "weights": result["weights"],
            "diverged_at": result["diverged_at"],
            "provenance": json.loads(contents["env.json"]),
        }
    )


def json_line(content: Any) -> bytes:
    """One line of JSON with its keys in order."""
    return json.dumps(content, sort_keys=True).encode() + b"\n"
