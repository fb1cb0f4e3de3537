"""What an xdist worker tells the controller, as JSON text in the user properties of reports.

The claim travels when it is set up and its outcome when it was judged, so that the controller knows
what a worker was doing when it died. Other values would not do: a NumPy number among them ends the
whole session.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest

from bnlab.claims import Claim
from bnlab.outcomes import Outcome
from bnlab.report.records import ClaimRecord
from bnlab.statuses import Status

CLAIM, OUTCOME = "bnlab.claim", "bnlab.outcome"
"""Names of the user properties."""

COLLECTED, SELECTED = "bnlab.collected", "bnlab.selected"
"""Names of a worker's output: the node ids of the claims that it collected, and of those that were selected."""

CRASHED = "???"
"""`when` of the report that pytest-xdist makes up for a test whose worker died."""

Property = tuple[str, str]


def crashed(report: pytest.TestReport) -> bool:
    """Whether this report stands for a test whose worker died."""
    return str(report.when) == CRASHED


def claim_property(claim: Claim, registered: int) -> Property:
    """A claim before it is judged; `registered` counts all claims, selected or not."""
    return CLAIM, json.dumps({**_told(claim), "registered": registered})


def record(claim: Claim, outcome: Outcome | None, error: str | None = None) -> ClaimRecord:
    """The row of a claim that was settled in this process, the same as if it had travelled."""
    settled = None if outcome is None else Outcome.from_json(plain(outcome.to_json()))
    return ClaimRecord(nodeid=claim.nodeid, **_told(claim), outcome=settled, error=error)


def _told(claim: Claim) -> dict[str, Any]:
    return {
        "sentence": claim.sentence,
        "place": claim.place,
        "quote": claim.quote,
        "parameters": dict(claim.parameters),
        "published": plain(claim.published),
        "hypothesis": plain(claim.hypothesis),
        "reading": claim.reading,
    }


def outcome_property(outcome: Outcome) -> Property:
    """What became of a claim."""
    return OUTCOME, json.dumps(plain(outcome.to_json()), allow_nan=False)


def read_claim(report: pytest.TestReport) -> tuple[ClaimRecord, int] | None:
    """The claim that a report is about and how many claims there are; None if it tells of none."""
    content = _property(report, CLAIM)
    if content is None:
        return None
    registered = content.pop("registered")
    return ClaimRecord(nodeid=report.nodeid, **content), registered


def read_outcome(report: pytest.TestReport) -> Outcome | None:
    """The outcome that a report tells, as it was given to `outcome_property`, if it tells one."""
    content = _property(report, OUTCOME) if report.when == "call" else None
    return None if content is None else Outcome.from_json(content)


def read_status(report: pytest.TestReport) -> Status | None:
    """The status to show for a report; None if it tells nothing of a claim."""
    content = _property(report, OUTCOME) if report.when == "call" else None
    if content is not None:
        status: Status = content["status"]
        return status
    about_claim = report.when == "call" and _property(report, CLAIM) is not None
    return "error" if report.failed and (about_claim or crashed(report)) else None


def for_junit(row: ClaimRecord, report: pytest.TestReport) -> list[tuple[str, object]]:
    """What `--junitxml` says of a claim instead of the messages: place, verdict, estimate and interval."""
    others = [(name, text) for name, text in report.user_properties if name not in (CLAIM, OUTCOME)]
    told: list[tuple[str, object]] = [("place", row.place), ("verdict", row.status)]
    verdict = row.shown.verdict if row.shown else None
    if verdict is not None and verdict.estimate is not None:
        told.append(("estimate", f"{verdict.estimate:+.4g} {verdict.unit}"))
    if verdict is not None and verdict.low is not None and verdict.high is not None:
        told.append(("interval", f"[{verdict.low:+.4g}, {verdict.high:+.4g}]"))
    return [*others, *told]


def _property(report: pytest.TestReport, name: str) -> Any:
    text = dict(getattr(report, "user_properties", ())).get(name)
    return None if text is None else json.loads(str(text))


def plain(value: Any) -> Any:
    """A value as strict JSON keeps it; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
