"""The head of the page and its last lines: how the sentences stand, under what, and what that took."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bnlab.report.entries import Entry
from bnlab.report.records import Summary
from bnlab.runs import Run
from bnlab.stats import LEVELS, words
from bnlab.statuses import JUDGED, LEANS, STATUSES, Shown
from bnlab.words import count


class Tile(NamedTuple):
    """One count at the top of the page: its mark, the class of the mark, the number and what is counted."""

    shown: Shown
    kind: str
    number: int
    text: str


def tally(found: Sequence[Entry]) -> tuple[str, list[Tile]]:
    """How the sentences stand, in one line and as tiles; twins and controls are not counted."""
    sentences = [entry for entry in found if entry.claim.is_sentence]
    trained = [entry for entry in sentences if not entry.claim.is_definition]
    shown = [entry.shown for entry in trained if entry.shown]
    verdicts = Counter(outcome.status for outcome in shown if outcome.status in JUDGED)
    leans = Counter((outcome.protocol, outcome.status) for outcome in shown if outcome.status not in JUDGED)
    rest = len(trained) - verdicts.total() - leans.total()
    told = [f"under the paper's protocol {', '.join(f'{verdicts[status]} {status}' for status in JUDGED)}"]
    for protocol in sorted({protocol for protocol, _ in leans}):
        counted = ", ".join(f"{leans[protocol, status]} {STATUSES[status].counted}" for status in LEANS.values())
        told.append(f"by protocol {protocol} {counted}")
    definitions = [entry.claim.status for entry in sentences if entry.claim.is_definition]
    hold = definitions.count("defined")
    line = (
        f"Of {count(len(trained), 'sentence')} that training decides: {'; '.join([*told, f'{rest} not judged'])}. "
        f"Of {count(len(definitions), 'definition')}: {hold} hold, {len(definitions) - hold} do not."
    )
    statuses = Counter({status: verdicts[status] for status in JUDGED})
    statuses += Counter({status: sum(n for (_, own), n in leans.items() if own == status) for status in LEANS.values()})
    tiles = [
        Tile(STATUSES[status], status.removeprefix("leans "), statuses[status], STATUSES[status].counted)
        for status in (*JUDGED, *LEANS.values())
    ]
    tiles.append(Tile(STATUSES["untrained"], "", rest, "not judged"))
    return line, [*tiles, Tile(STATUSES["defined"], "", hold, f"of {count(len(definitions), 'definition')} hold")]


def facts(summary: Summary, trained: Sequence[Entry]) -> list[tuple[str, str]]:
    """What applies to all claims: protocol, levels, margins, data, devices, commit."""
    regions = [entry.region for entry in trained if entry.unit == "points" and entry.region]
    ends = sorted({abs(end) for ends in regions for end in ends if 0 < abs(end) < math.inf})
    margins = f"{', '.join(f'{end:g}' for end in ends)} points, each registered with its sentence" if ends else "none"
    found = {f"{one.get('device')}{' (CUDA)' if one.get('cuda') else ''}" for one in summary.environments}
    told = [
        ("Protocol", f"{summary.protocol}, looks at {', '.join(map(str, summary.looks))} seeds an arm"),
        ("Intervals", ", ".join(f"{words.percent(level)} at {seeds} seeds" for seeds, level in LEVELS.items())),
        ("Margins", margins),
        ("Data", f"{summary.source} (SHA-256 {summary.data[:12]})"),
        ("Runs trained on", ", ".join(sorted(found)) or "nothing yet"),
        ("bnlab", summary.versions["bnlab"]),
    ]
    if not summary.complete:
        told.append(("Incomplete", f"{count(len(summary.claims), 'claim')} of {summary.registry} are on this page"))
    return told + ([("Next step", summary.advice.removeprefix("next: "))] if summary.advice else [])


def cost(summary: Summary, runs: Mapping[str, Run]) -> str:
    """What the Runs of these claims took."""
    arms = [arm for claim in summary.claims if claim.shown for arm in claim.shown.arms]
    used = {key: runs[key] for arm in arms for key in arm.run_keys if key in runs}
    hours = sum(float(run.provenance.get("wall_s") or 0) for run in used.values()) / 3600
    epochs = sum(run.spec.epochs for run in used.values())
    resumed = sum(bool(run.provenance.get("resumes")) for run in used.values())
    behind = f"{count(len(used), 'Run')} of {count(epochs, 'epoch')} behind these claims"
    return f"{behind}: {hours:,.1f} h of training added up, {resumed} resumed."
