"""`python -m bnlab status`: what is finished, what is in progress and what is recorded, for people and for scripts."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bnlab.cli.common import Arguments, settings
from bnlab.errors import StoreError
from bnlab.settings import Settings
from bnlab.store import Progress, Store
from bnlab.words import count

FORMAT = 1
"""Version of what `--json` prints; docs/commands.md describes it."""

STATES = {True: "in training", False: "interrupted", None: "locked by another user"}
"""The state of a Run in progress, by its lock."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `status`."""
    parser.add_argument("--json", action="store_true", help="print the same as one JSON object, for scripts")


def run(arguments: Arguments) -> int:
    """Print how many Runs of each RunSpec are finished, which are in progress, and how many are recorded."""
    found = facts(settings(arguments))
    for line in [json.dumps(found)] if arguments.json else text(found):
        print(line)
    return left_out(found["left_out"])


def facts(asked: Settings) -> dict[str, Any]:
    """Everything that `status` says, as plain JSON values.

    The store that nobody named need not be there where Runs are recorded; any other is a StoreError.
    """
    skipped: list[str] = []
    recorded = 0
    try:
        recorded = len(asked.recorded)
    except StoreError as error:
        skipped.append(str(error))
    unnamed = bool(recorded) and asked.store == asked.root / ".bnlab" / "store" and not asked.store.exists()
    store = Store(asked.store) if unnamed else Store.read(asked.store)
    finished = Counter(
        (run.spec, str(run.provenance.get("protocol"))) for run in store.runs(probes=False, skipped=skipped)
    )
    progress = store.progress()
    states = Counter(STATES[work.locked] for work in progress)
    return {
        "format": FORMAT,
        "store": None if unnamed else str(store.path),
        "finished": [
            {"run_spec": str(spec), "protocol": protocol, "data": spec.data, "runs": number}
            for (spec, protocol), number in sorted(finished.items(), key=lambda entry: str(entry[0][0]))
        ],
        "in_progress": [_work(work) for work in progress],
        "totals": {"finished": finished.total(), **{_key(state): states[state] for state in STATES.values()}},
        "recorded": recorded,
        "left_out": skipped,
    }


def _work(work: Progress) -> dict[str, Any]:
    spec = work.replicate.spec
    return {
        "run": str(work.replicate),
        "run_spec": str(spec),
        "seed": work.replicate.seed,
        "data": spec.data,
        "state": STATES[work.locked],
        "epochs_kept": work.epoch,
        "epochs": spec.epochs,
        "bytes": work.size,
        "by": work.by,
    }


def _key(state: str) -> str:
    return state.replace(" ", "_")


def text(found: dict[str, Any]) -> Iterator[str]:
    """The same facts as lines."""
    for row in found["finished"]:
        yield f"{row['run_spec']}: {row['runs']} finished (protocol {row['protocol']}, data {row['data'][:12]})"
    for work in found["in_progress"]:
        kept = f"{work['epochs_kept']} of {count(work['epochs'], 'epoch')} kept in {work['bytes'] / 1e6:.0f} MB"
        yield f"{work['run']}: {work['state']}, {kept}" + (f" ({work['by']})" if work["by"] else "")
    totals = found["totals"]
    states = [f"{totals[_key(state)]} {state}" for locked, state in STATES.items() if locked is not None]
    if others := totals[_key(STATES[None])]:
        states.append(f"{others} {STATES[None]}")
    yield ", ".join([f"{count(totals['finished'], 'Run')} finished", *states])
    if found["recorded"]:
        yield f"{count(found['recorded'], 'Run')} recorded in reports/runs"


def left_out(skipped: Sequence[str]) -> int:
    """Name what the store could not give; the exit code."""
    for sentence in skipped:
        print(f"bnlab: left out: {sentence}", file=sys.stderr)
    return 2 if skipped else 0
