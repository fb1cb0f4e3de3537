"""The data products: everything known of every claim and Run, as the text of JSON and CSV files.

docs/report.md describes them, `claims.schema.json` beside this module is the schema of `claims.json`.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bnlab.report.numbers import Figure
from bnlab.report.records import ONE_TEST_SET, ClaimRecord, Summary
from bnlab.runs import Run, accuracy

FORMAT = 2
"""Version of claims.json and its schema."""

PAPER = {
    "title": "An Empirical Analysis of the Shift and Scale Parameters in BatchNorm",
    "authors": ["Yashna Peerthum", "Mark Stamp"],
    "year": 2023,
    "journal": "Information Sciences 637",
    "arxiv": "2303.12818",
}
"""What is judged."""

_EXECUTED = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters of a text that a spreadsheet takes for a formula."""


def as_json(summary: Summary, figures: Iterable[Figure]) -> str:
    """The session, its claims and the numbers of every figure of the page."""
    content = {
        "format": FORMAT,
        "paper": PAPER,
        "protocol": summary.protocol,
        "looks": list(summary.looks),
        "source": summary.source,
        "data": summary.data,
        "device": summary.device,
        "environments": list(summary.environments),
        "versions": dict(summary.versions),
        "registry": summary.registry,
        "complete": summary.complete,
        "counts": summary.counts(sentences=True),
        "counts_of_twins_and_controls": summary.counts(sentences=False),
        "not_trained": summary.advice,
        "note": ONE_TEST_SET,
        "figures": {figure.name: figure.to_json() for figure in figures},
    }
    # a line a claim: readable side by side, and ten times as fast as indenting
    rows = ",\n".join(_dumps(_row(claim, summary)) for claim in summary.claims)
    return f'{_dumps(content)[:-1]}, "claims": [\n{rows}\n]}}\n'


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _row(claim: ClaimRecord, summary: Summary) -> dict[str, Any]:
    more = {"twin_of": summary.sentence_of.get(claim.nodeid), "q": summary.q.get(claim.nodeid)}
    return {**claim.to_json(), **more, "mixed": {} if claim.outcome is None else claim.outcome.mixed}


def claims_csv(summary: Summary) -> str:
    """One line a claim: where it stands, what became of it, its numbers in the unit of the line."""
    return _csv([_flat(claim, summary) for claim in summary.claims])


def _flat(claim: ClaimRecord, summary: Summary) -> dict[str, Any]:
    outcome = claim.outcome
    preview = outcome and outcome.preview
    shown: dict[str, Any] = {}
    if claim.verdict is not None and claim.status != "exercised":
        shown = claim.verdict.to_json()
    leans: dict[str, Any] = preview.verdict.to_json() if preview and preview.verdict is not None else {}
    needed = shown.get("seeds_needed") or (None, None)
    return {
        "nodeid": claim.nodeid,
        "file": claim.file,
        "function": claim.function,
        "parameters": "; ".join(f"{name}={value}" for name, value in claim.parameters.items()),
        "section": claim.section,
        "place": claim.place,
        "sentence": claim.sentence,
        "reading": claim.reading,
        "twin_of": summary.sentence_of.get(claim.nodeid),
        "status": claim.status,
        "kind": shown.get("kind") or (claim.hypothesis or {}).get("kind"),
        "contrast": shown.get("label"),
        "unit": shown.get("unit"),
        "estimate_in_unit": shown.get("estimate"),
        "low_in_unit": shown.get("low"),
        "high_in_unit": shown.get("high"),
        "interval_level_percent": None if shown.get("level") is None else 100 * shown["level"],
        "seeds_per_arm": outcome and outcome.look,
        "arms": len(shown.get("n") or ()) or None,
        "p_hold": shown.get("p_hold"),
        "p_refute": shown.get("p_refute"),
        "q": summary.q.get(claim.nodeid),
        "needed_seeds_low": needed[0],
        "needed_seeds_high": needed[1],
        "collapsed_runs": len(shown.get("unstable") or ()),
        "stops": shown.get("stops"),
        "preview_status": preview and preview.status,
        "preview_protocol": preview and preview.protocol,
        "preview_unit": leans.get("unit"),
        "preview_estimate_in_unit": leans.get("estimate"),
        "preview_low_in_unit": leans.get("low"),
        "preview_high_in_unit": leans.get("high"),
        "reason": claim.reason,
    }


def runs_csv(runs: Iterable[Run]) -> str:
    """One line a Run: what was trained, where and what it gave."""
    return _csv([_run(run) for run in sorted(runs, key=lambda run: (str(run.spec), run.seed))])


def _run(run: Run) -> dict[str, Any]:
    curve, told = run.curves["test_accuracy"], run.provenance
    return {
        "key": run.key,
        "net": str(run.spec.net),
        "norm": str(run.spec.norm),
        "batch_size_images": run.spec.batch_size,
        "epochs": run.spec.epochs,
        "seed": run.seed,
        "run_spec": str(run.spec),
        "protocol": told.get("protocol"),
        "test_accuracy_last_fifth_percent": accuracy.read(run),
        "test_accuracy_last_epoch_percent": curve[-1],
        "test_accuracy_best_epoch_percent": max(curve),
        "test_accuracy_recalibrated_percent": run.readings.get("test_accuracy_recalibrated"),
        "test_accuracy_batch_statistics_percent": run.readings.get("test_accuracy_batch"),
        "train_accuracy_percent": run.curves.get("train_accuracy", (None,))[-1],
        "train_loss_nats": run.curves.get("train_loss", (None,))[-1],
        "diverged_at_step": run.diverged_at,
        "wall_s": told.get("wall_s"),
        "images_per_s": told.get("images_per_s"),
        "device": told.get("device"),
        "torch": told.get("torch"),
        "commit": told.get("commit"),
        "data_sha256": run.spec.data,
        "digest_sha256": run.digest,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows[:1]:
        writer.writerow(row)
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """What a spreadsheet shows and does not execute; nothing for what is no number."""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return f"'{value}" if isinstance(value, str) and value.startswith(_EXECUTED) else value
