"""Columns, details and preface of the page that pytest-html writes; all escaped here, since it escapes nothing."""

from html import escape
from typing import Any

import pytest

from bnlab.report.tables import ONE_TEST_SET, Row, Summary

_OURS = {
    "claim": "Claim",
    "place": "Place",
    "published": "Published",
    "verdict": "Verdict",
    "estimate": "Estimate",
    "interval": "Interval",
    "n": "n",
}
_COLOURS = {
    "held": "#1a7f37",
    "refuted": "#b3261e",
    "inconclusive": "#8a5a00",
    "exercised": "#0550ae",
    "untrained": "#57606a",
    "error": "#b3261e",
    "none": "#b3261e",
}
_RESULT, _TEST, _DURATION = 0, 1, 2
"""Where pytest-html puts its own cells; links, its fourth, are always empty here."""


def header(cells: list[str]) -> None:
    """Put our column heads between the test and its duration."""
    ours = [f'<th class="sortable" data-column-type="{name}">{head}</th>' for name, head in _OURS.items()]
    cells[:] = [cells[_RESULT], *ours, cells[_TEST], cells[_DURATION]]


def row(cells: list[str], nodeid: str, claim: Row | None) -> None:
    """The same cells for every test; empty ones for a test that is no claim."""
    texts, order = (texts_of(claim), _order(claim)) if claim else ({}, {})
    colour = f"; color: {_COLOURS[claim.status]}" if claim else ""
    ours = [
        f'<td class="col-{name}" style="{"min-width: 24em" if name == "claim" else "white-space: nowrap"}'
        f'{colour if name == "verdict" else ""}">{order.get(name, "")}{escape(texts.get(name, ""))}</td>'
        for name in _OURS
    ]
    cells[:] = [cells[_RESULT], *ours, f'<td class="col-testId">{escape(nodeid)}</td>', cells[_DURATION]]


def texts_of(claim: Row) -> dict[str, str]:
    """The text of each of our columns."""
    unit = {"points": " points", "nats": " nats"}.get(claim.figure("unit") or "", "")
    low, high, level, n = (claim.figure(name) for name in ("low", "high", "level", "n"))
    # what was exercised was not judged: its numbers come from a few steps and mean nothing
    estimate = None if claim.status == "exercised" else claim.figure("estimate")
    reading = claim.claim.get("reading")
    return {
        "claim": claim.claim.get("sentence", "") + (f" ({reading})" if reading else ""),
        "place": claim.claim.get("place", ""),
        "published": _published(claim.claim.get("published")),
        "verdict": claim.status.upper() if claim.status != "none" else "NO OUTCOME",
        "estimate": "" if estimate is None else f"{estimate:+.2f}{unit}",
        "interval": "" if low is None or high is None else f"[{low:+.2f}, {high:+.2f}] {100 * level:.4g} %",
        "n": " + ".join(map(str, n)) if n else "",
    }


def _order(claim: Row) -> dict[str, str]:
    """Hidden text before a number by which it sorts: the page compares cells as texts."""
    numbers = {
        "estimate": claim.figure("estimate"),
        "interval": claim.figure("low"),
        "n": min(claim.figure("n") or [0]),
    }
    return {
        name: f"<span hidden>{number + 1e6:014.4f}</span>" for name, number in numbers.items() if number is not None
    }


def _published(value: Any) -> str:
    return "" if value is None or isinstance(value, dict) else f"{value:g}" if isinstance(value, float) else str(value)


def details(data: list[str], claim: Row | None) -> None:
    """What a row unfolds to: the reason, and where the Runs came from if that was not one place."""
    if claim is None:
        return
    text = [claim.reason]
    if claim.figure("margins"):
        text.append("at other margins: " + ", ".join(f"{m} {s}" for m, s in claim.figure("margins").items()))
    if claim.q is not None:
        text.append(f"q over all claims: {claim.q:.3g}")
    text += [f"{arm['label']}: seeds {', '.join(map(str, arm['seeds']))}" for arm in claim.outcome.get("arms", [])]
    text += [f"trained on several {name}: {', '.join(found)}" for name, found in claim.outcome.get("mixed", {}).items()]
    kept = data if claim.status == "error" else []
    data[:] = ["\n".join(map(escape, text)) + "\n", *kept]


def preface(summary: Summary) -> list[str]:
    """Paragraphs above the table."""
    device = summary.device or "nothing was trained in this session"
    trained = [", ".join(f"{name} {value}" for name, value in found.items()) for found in summary.environments]
    judged = ", ".join(f"{name} {found}" for name, found in summary.versions.items())
    counts = ", ".join(f"{count} {status}" for status, count in summary.counts().items())
    lines = [
        f"Claims: {counts}.",
        f"Protocol {summary.protocol} (seeds {', '.join(map(str, summary.looks))}); "
        f"data {summary.source} ({summary.data[:12]}); device: {device}.",
        f"Judged with {judged}.",
        *(f"Runs trained with {text}." for text in trained),
        summary.not_trained,
        ONE_TEST_SET,
    ]
    return [f"<p>{escape(text)}</p>" for text in lines if text]


def report_plugins(config: pytest.Config) -> list[Any]:
    """The objects with which pytest-html makes its page in this session."""
    from pytest_html.basereport import BaseReport

    return [plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, BaseReport)]


def withdraw(config: pytest.Config) -> None:
    """No page for a session without claims, unless it was asked for."""
    if config.stash.get(UNASKED, False):
        for plugin in report_plugins(config):
            config.pluginmanager.unregister(plugin)


UNASKED = pytest.StashKey[bool]()
"""Set where the page was our idea and not the user's."""
