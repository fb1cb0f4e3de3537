"""The reports of a session as files: the page, and the tables of claims and Runs."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnlab.paper import NETS, SECTIONS
from bnlab.report import drawing, tables
from bnlab.report.entries import Axis, Entry, by_the_tables, entries, number
from bnlab.report.head import cost, facts, tally
from bnlab.report.numbers import Numbers
from bnlab.report.records import ONE_TEST_SET, Summary
from bnlab.runs import Run
from bnlab.stats import words as phrases
from bnlab.statuses import JUDGED, STATUSES
from bnlab.store.durable import as_store_error, write_durably
from bnlab.words import count

PAGE = "report.html"
"""Name of the page."""

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(summary: Summary, runs: Mapping[str, Run], folder: Path, root: Path) -> Path:
    """Write the page and the tables into this folder, each whole or not at all; the page's path.

    `runs` are recorded Runs by key, `root` is the folder under which the claims' files lie. StoreError if a file cannot
    be written.
    """
    numbers = Numbers(summary=summary, runs={} if summary.protocol == "smoke" else runs)
    own = [run for run in numbers.runs.values() if run.spec.data == summary.data]
    texts = {
        "claims.json": tables.as_json(summary, numbers.figures),
        "claims.csv": tables.claims_csv(summary),
        "runs.csv": tables.runs_csv(own),
        PAGE: page(numbers, partial(_link, root=root, folder=folder)),
    }
    with as_store_error(f"write the reports to {folder}", "make it writable and run python -m bnlab report"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_durably(folder / name, text.encode(errors="backslashreplace"))
    return folder / PAGE


def page(numbers: Numbers, link: Callable[[str], str]) -> str:
    """The page as one text; `link` gives the address of a file under the root."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    summary = numbers.summary
    smoke = summary.protocol == "smoke"
    found = entries(summary)
    definitions = [entry for entry in found if entry.claim.is_definition]
    trained = [entry for entry in found if not entry.claim.is_definition]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"num": number, "plain": _plain, "seeds": phrases.needed, "link": link}
    answer, tiles = tally(found)
    panels, rules = _panels(numbers)
    outcomes = [outcome for claim in summary.claims if (outcome := claim.shown)]
    verdicts = [outcome.verdict for outcome in outcomes if outcome.verdict is not None]
    changes = sorted({change for claim in summary.claims if claim.outcome for change in claim.outcome.changes})
    bands = [f"Not the paper's claims: {'; '.join(changes)}. Published numbers do not apply."] if changes else []
    if not smoke and not any(claim.status in JUDGED for claim in summary.claims):
        bands.append(
            "No verdict yet: no claim has the Runs of the paper's protocol. Hollow marks are leans, by shorter Runs."
        )
    return environment.get_template("page.html").render(
        smoke=smoke,
        paper=tables.PAPER,
        bands=bands,
        answer=f"{count(len(summary.claims), 'claim')} exercised." if smoke else answer,
        tiles=tiles,
        facts=facts(summary, trained),
        statuses=STATUSES,
        looks=summary.looks,
        numbers=numbers,
        tables=[(str(net), [arm for spec, arm in numbers.arms.items() if spec.net == net]) for net in NETS],
        panels=panels,
        rules=rules,
        forest=[(section, *_forest(rows)) for section, rows in _by_section(trained)],
        contradicted=list(_contradicted(found)),
        sentences=_by_section(trained),
        headings=SECTIONS,
        definitions=definitions,
        unstable=sorted({phrase for verdict in verdicts for phrase in verdict.unstable}),
        versions=summary.versions,
        environments=summary.environments,
        cost=cost(summary, numbers.runs),
        note=ONE_TEST_SET,
    )


def _panels(numbers: Numbers) -> tuple[dict[str, list[Any]], Any]:
    """Every figure as SVG elements, and the style sheet of all of them; no figure of a session without Runs."""
    from markupsafe import Markup

    functions = (drawing.factorial, drawing.figure_3, drawing.figure_4, drawing.best, drawing.curves)
    drawn = {draw.__name__: draw(numbers) if numbers.runs else [] for draw in functions}
    rules: dict[str, str] = {}
    shared = {name: [Markup(drawing.with_classes(svg, rules)) for svg in svgs] for name, svgs in drawn.items()}
    return shared, Markup("\n".join(f".{name} {{ {style} }}" for style, name in rules.items()))


def _by_section(found: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    return [(section, list(own)) for section, own in groupby(found, key=lambda entry: entry.claim.section)]


def _forest(found: Sequence[Entry]) -> tuple[str, Axis, list[tuple[Entry, bool, Axis]]]:
    """The commonest unit of a section and its axis, and its rows: entry, whether it is a twin, its own axis."""
    rows = [(entry, twin) for first in found for entry, twin in [(first, False), *((t, True) for t in first.twins)]]
    units = Counter(entry.unit for entry, _ in rows)
    axes = {
        unit: Axis.over(value for entry, _ in rows if entry.unit == unit for value in _extent(entry)) for unit in units
    }
    ((common, _),) = units.most_common(1)
    return common, axes[common], [(entry, twin, axes[entry.unit]) for entry, twin in rows]


def _extent(entry: Entry) -> list[float | None]:
    """Everything that the row of an entry shows."""
    verdict = entry.verdict
    told = [*(entry.region or ()), entry.published]
    if verdict is None:
        return told
    return [*told, verdict.estimate, verdict.low, verdict.high, *(cell.estimate for cell in verdict.cells)]


def _contradicted(found: Iterable[Entry]) -> Iterable[tuple[Entry, str]]:
    """Sentences that the paper's tables contradict, and what the tables give."""
    for entry in found:
        claim = entry.claim
        if claim.is_definition and claim.status == "refuted" and "Table" in claim.place:
            yield entry, _unlike(entry.basis or {}) or claim.reason
        elif "refuted" in (place for _, place in by_the_tables(claim)):
            wrong = [number(value, entry.unit) for value, place in by_the_tables(claim) if place == "refuted"]
            several = f" (the worst of {len(wrong)})" if len(wrong) > 3 else ""
            yield entry, f"{', '.join(wrong[:3])} {entry.unit}{several}"


def _unlike(definition: Mapping[str, Any]) -> str:
    """The numbers of a definition that are not what is stated: "77.17 for 76.65"."""
    pairs = zip(_flat(definition.get("got")), _flat(definition.get("expected")), strict=False)
    return ", ".join(f"{got} for {stated}" for got, stated in pairs if got != stated)


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, (list, tuple)) else [value]


def _link(file: str, *, root: Path, folder: Path) -> str:
    """The address of a file under the root, seen from the page's folder."""
    return quote(os.path.relpath(root / file, folder))


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"({', '.join(f'{name} {found}' for name, found in value.items())})"
    return " ".join(f"{one:.4g}" for one in value) if isinstance(value, list) else "" if value is None else str(value)
