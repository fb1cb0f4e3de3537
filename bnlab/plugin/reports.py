"""The rows of the reports: those of this session, and those that an earlier one left in the same folder."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bnlab import cost, devices
from bnlab.plugin.items import by_number
from bnlab.report.records import ClaimRecord, Summary
from bnlab.report.tables import FORMAT
from bnlab.settings import Settings
from bnlab.store.durable import as_store_error


def check_reports(folder: Path) -> None:
    """Make the folder of the reports; StoreError if nothing can be written there."""
    with as_store_error(f"write the reports to {folder}", "make it a folder that can be written, or move it away"):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


def advice(records: Iterable[ClaimRecord], settings: Settings) -> str | None:
    """The smallest useful next step, where claims lack Runs."""
    lacking = {row.nodeid: row.outcome.missing for row in records if row.outcome and row.status == "untrained"}
    if not lacking:
        return None
    device = settings.device or devices.choose(None, fall_back_to_cpu=False)
    recorded = list(settings.recorded.values())
    return cost.next_step(lacking, settings.train_images, device, recorded, settings.options)


def with_earlier(summary: Summary, folder: Path, collected: Iterable[str], root: Path, whole: bool) -> Summary:
    """The summary with the rows of claims that this session did not settle, in the order of the paper.

    They come from the `claims.json` in this folder, if that is of the same protocol, data and format. `collected` are
    the node ids that this session found, selected or not, in files that it read as a `whole` or not. A row whose claim
    is no longer in its file goes.
    """
    earlier, registered = _earlier(folder, summary)
    found = list(collected)
    files = {_file(nodeid) for nodeid in found} if whole else set()
    rows = {row.nodeid: row for row in earlier if _still_there(row.nodeid, files, set(found), root)}
    rows |= {row.nodeid: row for row in summary.claims if row.status != "none" or row.nodeid not in rows}
    claims = tuple(rows[nodeid] for nodeid in in_order(rows, [found, list(rows)]))
    saw_all = summary.registered >= len(claims)
    return replace(summary, claims=claims, registered=summary.registered if saw_all else registered)


def _earlier(folder: Path, summary: Summary) -> tuple[tuple[ClaimRecord, ...], int]:
    """The rows of the `claims.json` in this folder, and how many claims there were; none of another session."""
    try:
        content = json.loads((folder / "claims.json").read_bytes())
        same = (FORMAT, summary.protocol, list(summary.looks), summary.data)
        if tuple(content[name] for name in ("format", "protocol", "looks", "data")) != same:
            return (), 0
        return tuple(map(ClaimRecord.from_json, content["claims"])), int(content["registry"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return (), 0  # nothing that this version wrote


def in_order(nodeids: Iterable[str], lists: Sequence[Sequence[str]]) -> list[str]:
    """These node ids by the numbers of their file, and in a file as the list has them that knows most of it."""
    places: dict[str, int] = {}
    of_file = {file: [[n for n in known if _file(n) == file] for known in lists] for file in {*map(_file, nodeids)}}
    for several in of_file.values():
        for known in sorted(several, key=len, reverse=True):
            for nodeid in known:
                places.setdefault(nodeid, len(places))
    return sorted(nodeids, key=lambda nodeid: (by_number(_file(nodeid)), places.get(nodeid, len(places))))


def _still_there(nodeid: str, files: set[str], found: set[str], root: Path) -> bool:
    return nodeid in found if _file(nodeid) in files else (root / _file(nodeid)).is_file()


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]
