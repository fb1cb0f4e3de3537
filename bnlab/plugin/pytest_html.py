"""Our part of the page that pytest-html writes; escaped here, since pytest-html is not safe."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import pytest

from bnlab.report.records import ONE_TEST_SET, ClaimRecord, Summary
from bnlab.statuses import STATUSES
from bnlab.store.durable import write_durably

UNASKED = pytest.StashKey[bool]()
"""Set where the page was our idea and not the user's."""

_OURS = {
    "claim": "Claim",
    "place": "Place",
    "published": "Published",
    "verdict": "Verdict",
    "estimate": "Estimate",
    "interval": "Interval",
    "n": "n",
}
_RESULT, _TEST, _DURATION = 0, 1, 2
"""Where pytest-html puts its own cells; links, its fourth, are always empty here."""


def header(cells: list[str]) -> None:
    """Put our column heads between the test and its duration."""
    ours = [f'<th class="sortable" data-column-type="{name}">{head}</th>' for name, head in _OURS.items()]
    cells[:] = [cells[_RESULT], *ours, cells[_TEST], cells[_DURATION]]


def row(cells: list[str], nodeid: str, claim: ClaimRecord | None) -> None:
    """The same cells for every test; empty ones for a test that is no claim."""
    texts, order = (texts_of(claim), _order(claim)) if claim else ({}, {})
    colour = f"; color: {STATUSES[claim.status].colour}" if claim else ""
    ours = [
        f'<td class="col-{name}" style="{"min-width: 24em" if name == "claim" else "white-space: nowrap"}'
        f'{colour if name == "verdict" else ""}">{order.get(name, "")}{escape(texts.get(name, ""))}</td>'
        for name in _OURS
    ]
    cells[:] = [cells[_RESULT], *ours, f'<td class="col-testId">{escape(nodeid)}</td>', cells[_DURATION]]


def texts_of(claim: ClaimRecord) -> dict[str, str]:
    """The text of each of our columns; a claim that was only exercised has no estimate."""
    texts = {
        "claim": claim.sentence + (f" ({claim.reading})" if claim.reading else ""),
        "place": claim.place,
        "published": _published(claim.published),
        "verdict": STATUSES[claim.status].word,
    }
    verdict = claim.verdict
    if verdict is None:
        return texts
    unit = f" {verdict.unit}" if verdict.unit in ("points", "nats") else ""
    if verdict.estimate is not None and claim.status != "exercised":
        texts["estimate"] = f"{verdict.estimate:+.2f}{unit}"
    if verdict.low is not None and verdict.high is not None and verdict.level is not None:
        texts["interval"] = f"[{verdict.low:+.2f}, {verdict.high:+.2f}] {100 * verdict.level:.4g} %"
    if verdict.n:
        texts["n"] = " + ".join(map(str, verdict.n))
    return texts


def _order(claim: ClaimRecord) -> dict[str, str]:
    """Hidden text before a number by which it sorts: the page compares cells as texts."""
    if claim.verdict is None:
        return {"n": _sortable(0)}
    numbers = {"estimate": claim.verdict.estimate, "interval": claim.verdict.low, "n": min(claim.verdict.n or [0])}
    return {name: _sortable(number) for name, number in numbers.items() if number is not None}


def _sortable(number: float) -> str:
    return f"<span hidden>{number + 1e6:014.4f}</span>"


def _published(value: object) -> str:
    """One number as it is, the numbers of several cells as their range."""
    numbers = [number for number in value if isinstance(number, float)] if isinstance(value, (list, tuple)) else []
    if numbers:
        return f"{min(numbers):+.2f} to {max(numbers):+.2f}"
    return "" if value is None or isinstance(value, dict) else f"{value:g}" if isinstance(value, float) else str(value)


def details(data: list[str], claim: ClaimRecord | None) -> None:
    """What a row unfolds to: the reason, and where the Runs came from if that was not one place."""
    if claim is None:
        return
    text = [claim.reason]
    if claim.verdict is not None and claim.verdict.margins:
        margins = ", ".join(f"{margin:g} {status}" for margin, status in claim.verdict.margins.items())
        text.append(f"at other margins: {margins}")
    if claim.outcome is not None:
        text += [f"{arm.spec}: seeds {', '.join(map(str, arm.seeds))}" for arm in claim.outcome.arms]
        text += [f"trained on several {name}: {', '.join(found)}" for name, found in claim.outcome.mixed.items()]
    kept = data if claim.status == "error" else []
    data[:] = ["\n".join(map(escape, text)) + "\n", *kept]


def preface(summary: Summary) -> list[str]:
    """Paragraphs above the table."""
    device = summary.device or "nothing was trained in this session"
    trained = [", ".join(f"{name} {value}" for name, value in found.items()) for found in summary.environments]
    judged = ", ".join(f"{name} {found}" for name, found in summary.versions.items())
    lines = [
        f"Claims: {summary.counted}.",
        f"Protocol {summary.protocol} (seeds {', '.join(map(str, summary.looks))}); "
        f"data {summary.source} ({summary.data[:12]}); device: {device}.",
        f"Judged with {judged}.",
        *(f"Runs trained with {text}." for text in trained),
        summary.advice,
        ONE_TEST_SET,
    ]
    return [f"<p>{escape(text)}</p>" for text in lines if text]


def escape_environment(config: pytest.Config) -> None:
    """Escape the table of the environment, which the page's script inserts as HTML.

    It holds variables of CI systems such as the name of a git branch, which whoever opens a pull
    request may choose.
    """
    if not config.pluginmanager.hasplugin("metadata"):
        return
    from pytest_metadata.plugin import metadata_key

    metadata: dict[str, Any] = config.stash.get(metadata_key, {})
    escaped = _escaped(metadata)
    metadata.clear()
    metadata.update(escaped)


def _escaped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {escape(str(key)): _escaped(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_escaped(inner) for inner in value]
    return escape(str(value))


def guard(config: pytest.Config, failed: Callable[[str], None], complete: Callable[[], bool]) -> None:
    """Keep the old page until the new one is whole; tell `failed` if it cannot be written.

    A session that is not `complete` leaves the page of a longer one as it is, and writes one beside it.

    pytest-html overwrites the page in place, and an error there ends the session in a traceback
    without verdicts.
    """
    for plugin in report_plugins(config):
        # not in pytest.ini, where pytest refuses the options of a plugin that is not installed
        if config.stash.get(UNASKED, False):
            plugin._report.set_data("renderCollapsed", ["all"])
            plugin._report.set_data("initialSort", "original")
        plugin._write_report = _writing(plugin, config.stash.get(UNASKED, False), failed, complete)


def _writing(
    plugin: Any, ours: bool, failed: Callable[[str], None], complete: Callable[[], bool]
) -> Callable[[str], None]:
    write_in_place = plugin._write_report

    def write(text: str) -> None:
        path = plugin._report_path
        if ours and path.exists() and not complete():
            path = plugin._report_path = path.with_stem(f"{path.stem}-of-some-claims")
        try:
            if ours:
                write_durably(path, text.encode(errors="backslashreplace"))
            else:  # whatever the user named, which may be no regular file
                write_in_place(text)
        except OSError as error:
            failed(f"cannot write {path} ({error.strerror or error}): make room there and run python -m bnlab report")

    return write


def report_plugins(config: pytest.Config) -> list[Any]:
    """The objects with which pytest-html makes its page in this session; none where it is not installed."""
    if not config.pluginmanager.hasplugin("html"):
        return []
    from pytest_html.basereport import BaseReport

    return [plugin for plugin in config.pluginmanager.get_plugins() if isinstance(plugin, BaseReport)]


def withdraw(config: pytest.Config) -> None:
    """No page for a session without claims, unless it was asked for."""
    if config.stash.get(UNASKED, False):
        for plugin in report_plugins(config):
            config.pluginmanager.unregister(plugin)
