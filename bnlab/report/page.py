"""The reports of a session as files: the page, and the tables of claims and Runs."""

from collections.abc import Mapping
from pathlib import Path

from bnlab.report import tables
from bnlab.report.records import Summary
from bnlab.runs import Run
from bnlab.store.durable import as_store_error, write_durably

PAGE = "report.html"
"""Name of the page."""


def write_report(summary: Summary, runs: Mapping[str, Run], folder: Path, root: Path) -> Path:
    """Write the page and the tables into this folder, each whole or not at all; the page's path.

    `runs` are recorded Runs by key, `root` is the folder under which the claims' files lie. StoreError if a file cannot
    be written.
    """
    texts = {"claims.json": tables.as_json(summary), "claims.csv": tables.as_csv(summary)}
    with as_store_error(f"write the reports to {folder}", "make it writable and run python -m bnlab report"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_durably(folder / name, text.encode(errors="backslashreplace"))
    return folder / PAGE
