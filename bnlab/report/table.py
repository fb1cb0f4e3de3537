"""Everything known about every claim of a session, as `claims.json` and `claims.csv`."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bnlab.durable import write_durably
from bnlab.errors import StoreError
from bnlab.lab import commit
from bnlab.plan import cost
from bnlab.protocol import QUICK
from bnlab.settings import Settings
from bnlab.specs import CIFAR10, RunSpec
from bnlab.stats import family
from bnlab.stats.looks import over_looks

FORMAT = 1
"""Version of claims.json."""

ONE_TEST_SET = "Seeds share one test set, so an interval speaks of training randomness on these test images."

STATUSES = ("held", "refuted", "inconclusive", "exercised", "untrained", "error", "none")
"""Every state of a claim, in the order in which they are counted."""

_FIGURES = ("kind", "unit", "estimate", "low", "high", "level", "n", "p_hold", "p_refute", "seeds_needed", "rho")
_COLUMNS = ("nodeid", "claim", "place", "reading", "published", "status", "look", *_FIGURES, "q", "mixed", "reason")
_CIFAR10_TRAIN = 50_000


@dataclass
class Row:
    """What is known of one claim: `claim` from its setup, `outcome` from its judging, both plain JSON values."""

    nodeid: str
    claim: dict[str, Any] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)
    status: str = "none"
    reason: str = "no outcome"
    q: float | None = None

    @property
    def verdict(self) -> dict[str, Any]:
        """The verdict's fields, empty if it was not judged."""
        return self.outcome.get("verdict") or {}

    def figure(self, name: str) -> Any:
        """One field of the verdict; None where it has none."""
        return self.verdict.get(name)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the claim, what was decided, from which Runs, trained where."""
        return {
            "nodeid": self.nodeid,
            "claim": self.claim.get("sentence", ""),
            "place": self.claim.get("place", ""),
            "published": self.claim.get("published"),
            "reading": self.claim.get("reading"),
            "status": self.status,
            "look": self.outcome.get("look"),
            **{name: self.figure(name) for name in _FIGURES},
            "q": self.q,
            "reason": self.reason,
            "margins": self.figure("margins") or {},
            "unstable": self.figure("unstable") or [],
            "arm_summaries": self.figure("arms") or [],
            "arms": self.outcome.get("arms", []),
            "mixed": self.outcome.get("mixed", {}),
            "environments": self.outcome.get("environments", []),
            "missing": self.outcome.get("missing", []),
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A session's claims and what applies to all of them."""

    rows: tuple[Row, ...]
    protocol: str
    looks: tuple[int, ...]
    source: str
    data: str
    device: str | None
    environments: tuple[dict[str, Any], ...]
    versions: dict[str, str]
    registry: int
    not_trained: str | None

    @classmethod
    def of(cls, rows: Iterable[Row], settings: Settings, data: str, registry: int) -> "Summary":
        """The summary of a session; gives every row its q-value over the registry of claims."""
        ordered = tuple(rows)
        judged = {row.nodeid: p for row in ordered if row.status in STATUSES[:3] and (p := _p(row)) is not None}
        q = family(judged, max(registry, len(ordered))) if judged else {}
        for row in ordered:
            row.q = q.get(row.nodeid)
        environments = {
            json.dumps(found, sort_keys=True) for row in ordered for found in row.outcome.get("environments", [])
        }
        return cls(
            rows=ordered,
            protocol=settings.protocol.name,
            looks=settings.protocol.looks,
            source=settings.source,
            data=data,
            device=settings.device,
            environments=tuple(json.loads(text) for text in sorted(environments)),
            versions=versions(),
            registry=max(registry, len(ordered)),
            not_trained=not_trained(ordered, settings),
        )

    def counts(self) -> dict[str, int]:
        """How many claims are in each state, states without any left out."""
        found = {status: sum(row.status == status for row in self.rows) for status in STATUSES}
        return {status: count for status, count in found.items() if count}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "format": FORMAT,
            "protocol": self.protocol,
            "looks": list(self.looks),
            "source": self.source,
            "data": self.data,
            "device": self.device,
            "environments": list(self.environments),
            "versions": self.versions,
            "registry": self.registry,
            "counts": self.counts(),
            "not_trained": self.not_trained,
            "note": ONE_TEST_SET,
            "claims": [row.to_json() for row in self.rows],
        }


def not_trained(rows: Iterable[Row], settings: Settings) -> str | None:
    """One sentence on what was not trained and how to train it; None if nothing was missing."""
    lacking = [row for row in rows if row.outcome.get("missing")]
    if not lacking:
        return None
    missing = {json.dumps(run, sort_keys=True) for row in lacking for run in row.outcome["missing"]}
    specs = {QUICK.apply(RunSpec.from_json(run["spec"]), CIFAR10) for row in lacking for run in row.outcome["missing"]}
    effort = cost(
        [(spec, seed) for spec in specs for seed in range(QUICK.looks[0])],
        _CIFAR10_TRAIN,
        "cpu",
        settings.recorded().values(),
    )
    return (
        f"{len(missing)} Runs that {len(lacking)} claims need were not trained here: "
        "exercise the claims on synthetic images with --smoke, train them with "
        f"--protocol quick --device cpu (about {effort.duration} for {QUICK.looks[0]} seeds"
        f"{', at an assumed speed' if effort.assumed else ''}), or run this again on a machine with a GPU."
    )


def versions() -> dict[str, str]:
    """Versions of what judges, bnlab's as its git commit where it has one; the Runs have their own environments."""
    found = {name: version(name) for name in ("numpy", "scipy", "pytest")}
    try:
        installed = version("bnlab")
    except PackageNotFoundError:
        installed = "not installed"
    return {"bnlab": commit() or installed, **found}


def write(summary: Summary, folder: Path) -> None:
    """`claims.json` and `claims.csv` in this folder, each whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_durably(folder / "claims.json", (text + "\n").encode())
        write_durably(folder / "claims.csv", as_csv(summary).encode())
    except OSError as error:
        raise StoreError(
            f"cannot write the tables of claims to {folder} ({error.strerror}): make it writable and run again"
        ) from error


def as_csv(summary: Summary) -> str:
    """One line a claim; what is not a number or a text is JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in summary.rows:
        fields = row.to_json()
        writer.writerow([_cell(fields[name]) for name in _COLUMNS])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None or value == {}:
        return ""
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def _p(row: Row) -> float | None:
    both = (row.figure("p_hold"), row.figure("p_refute"))
    return None if None in both else over_looks(min(both), min(row.figure("n")))
