"""Everything known of every claim, as the text of `claims.json` and `claims.csv`."""

import csv
import io
import json
from typing import Any

from bnlab.report.records import ONE_TEST_SET, ClaimRecord, Summary

FORMAT = 1
"""Version of claims.json."""

_FIGURES = ("kind", "unit", "estimate", "low", "high", "level", "n", "p_hold", "p_refute", "seeds_needed", "rho")
_COLUMNS = (
    *("nodeid", "claim", "place", "reading", "published", "status", "look", *_FIGURES, "q"),
    *("margins", "unstable", "stops", "mixed", "reason"),
)


def as_json(summary: Summary) -> str:
    """The session and its claims; every number can be recomputed from the Runs it names."""
    content = {
        "format": FORMAT,
        "protocol": summary.protocol,
        "looks": list(summary.looks),
        "source": summary.source,
        "data": summary.data,
        "device": summary.device,
        "environments": list(summary.environments),
        "versions": dict(summary.versions),
        "registry": summary.registry,
        "counts": summary.counts(sentences=True),
        "counts_of_twins_and_controls": summary.counts(sentences=False),
        "not_trained": summary.advice,
        "note": ONE_TEST_SET,
        "claims": [_row(claim, summary) for claim in summary.claims],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(summary: Summary) -> str:
    """One line a claim; what is not a number or a text is JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for claim in summary.claims:
        row = _row(claim, summary)
        writer.writerow([_cell(row[name]) for name in _COLUMNS])
    return out.getvalue()


def _row(claim: ClaimRecord, summary: Summary) -> dict[str, Any]:
    """Plain JSON values: the claim, what was decided, from which Runs, trained where."""
    figures = {} if claim.verdict is None else claim.verdict.to_json()
    outcome = {} if claim.outcome is None else claim.outcome.to_json()
    return {
        "nodeid": claim.nodeid,
        "claim": claim.sentence,
        "place": claim.place,
        "published": claim.published,
        "reading": claim.reading,
        "status": claim.status,
        "look": outcome.get("look"),
        **{name: figures.get(name) for name in _FIGURES},
        "q": summary.q.get(claim.nodeid),
        "reason": claim.reason,
        "label": figures.get("label", ""),
        "contrast": figures.get("contrast", ""),
        "stops": figures.get("stops"),
        "margins": figures.get("margins", {}),
        "cells": figures.get("cells", []),
        "unstable": figures.get("unstable", []),
        "arm_summaries": figures.get("arms", []),
        "arms": outcome.get("arms", []),
        "mixed": {} if claim.outcome is None else claim.outcome.mixed,
        "environments": outcome.get("environments", []),
        "missing": outcome.get("missing", []),
    }


def _cell(value: Any) -> Any:
    if value is None or value == {}:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else value
