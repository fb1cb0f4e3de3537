"""What the page shows of each claim: its region, its place on an axis, and its twins."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bnlab.outcomes import Outcome
from bnlab.report.records import ClaimRecord, Summary
from bnlab.stats import Verdict
from bnlab.stats.basis import Basis
from bnlab.statuses import JUDGED, STATUSES, Shown

Ends = tuple[float, float]
"""Both ends of a region or an interval; an open end is infinite."""

_DECIMALS = {"points": 2, "percent of runs": 0}


@dataclass(frozen=True)
class Axis:
    """An axis as wide as its place: values become percent of the width."""

    low: float
    high: float

    @classmethod
    def over(cls, values: Iterable[float | None], zero: bool = True) -> "Axis":
        """An axis over these values, with 0 if asked for, and some room at both ends."""
        finite = [value for value in values if value is not None and math.isfinite(value)]
        finite += [0.0] if zero or not finite else []
        low, high = min(finite), max(finite)
        room = 0.06 * (high - low) or 1.0
        return cls(low - room, high + room)

    def at(self, value: float) -> str:
        """Where a value lies, inside the axis at least: "41.2%"."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(max(share, 0.0), 1.0):.1f}%"

    def thousandths(self, value: float) -> int:
        """The same as a whole number of thousandths."""
        return round(10 * float(self.at(value)[:-1]))

    def width(self, low: float, high: float) -> str:
        """How wide a stretch is, as far as it lies inside."""
        inside = min(high, self.high) - max(low, self.low)
        return f"{100 * max(inside, 0.0) / (self.high - self.low):.1f}%"

    @cached_property
    def ticks(self) -> list[float]:
        """Three to seven round values inside."""
        raw = (self.high - self.low) / 5
        size = 10.0 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        return [round(step * i, 10) for i in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Dots:
    """One sample of a claim: its seeds as dots on the axis of the claim."""

    label: str
    unit: str
    values: tuple[float | None, ...]
    seeds: tuple[int, ...]
    collapsed: tuple[bool, ...]

    @property
    def mean(self) -> float | None:
        """Mean over all seeds, None where one has no finite value."""
        finite = [value for value in self.values if value is not None]
        return sum(finite) / len(finite) if finite and len(finite) == len(self.values) else None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim on the page, and the twins and controls that belong to it."""

    claim: ClaimRecord
    q: float | None
    twins: tuple["Entry", ...] = ()

    @property
    def anchor(self) -> str:
        """Its permanent address on the page."""
        return re.sub(r"[^A-Za-z0-9_.=-]+", "-", self.claim.nodeid.rpartition("/")[2].removeprefix("test_")).strip("-")

    @property
    def shown(self) -> Outcome | None:
        """The outcome whose numbers are shown."""
        return self.claim.shown

    @property
    def verdict(self) -> Verdict | None:
        """The verdict whose numbers are shown."""
        return self.shown.verdict if self.shown else None

    @property
    def word(self) -> Shown:
        """Word and mark of its status."""
        return STATUSES[self.claim.status]

    @property
    def lean(self) -> Shown | None:
        """Word and mark of its preview, where it has one."""
        preview = self.claim.outcome and self.claim.outcome.preview
        return STATUSES[preview.status] if preview else None

    @property
    def told(self) -> str:
        """Its reading and its point of the grid: "control · ResNet34"."""
        return " · ".join(filter(None, [self.claim.reading, *self.claim.parameters.values()]))

    @property
    def mark(self) -> str:
        """The class of its mark: held, refuted or undecided, `hollow` where it is no verdict."""
        status = self.shown.status if self.shown else self.claim.status
        kind = next((word for word in ("held", "refuted") if word in status), "undecided")
        return kind if status in JUDGED else f"{kind} hollow"

    @property
    def basis(self) -> Basis | None:
        """What was compared, or will be."""
        return (self.shown and self.shown.basis) or self.claim.hypothesis

    @cached_property
    def region(self) -> Ends | None:
        """Where the deciding contrast has to lie for the claim to hold."""
        return region(self.basis, self._deciding)

    @cached_property
    def _deciding(self) -> list[int]:
        verdict = self.verdict
        return [] if verdict is None else [i for i, cell in enumerate(verdict.cells) if cell.label == verdict.label]

    @property
    def published(self) -> float | None:
        """What the paper's tables say of the deciding contrast, where they do."""
        told = self.claim.published
        if isinstance(told, (list, tuple)):
            told = told[(self._deciding or [0])[0]] if len(told) > (self._deciding or [0])[0] else None
        return told if isinstance(told, (int, float)) and not self._replicates else None

    @property
    def _replicates(self) -> bool:
        """Whether it compares with a printed number, from which nothing differs in print."""
        rule = (self.basis or {}).get("rule", {})
        return any(part.get("reference") for part in (rule, *(part["rule"] for part in rule.get("parts", ()))))

    @property
    def unit(self) -> str:
        """The unit of its estimate."""
        samples = (self.basis or {}).get("samples") or [{}]
        known = None if self.verdict is None else self.verdict.unit
        return known or samples[0].get("unit") or ""

    @property
    def dots(self) -> list[Dots]:
        """Every sample that was judged."""
        samples = ((self.shown and self.shown.basis) or {}).get("samples", [])
        return [
            Dots(one["label"], one["unit"], tuple(one["values"]), tuple(one["seeds"]), tuple(one["collapsed"]))
            for one in samples
        ]

    @property
    def dots_axis(self) -> Axis:
        """An axis for the seeds of all samples."""
        return Axis.over((value for sample in self.dots for value in sample.values), zero=False)

    @property
    def asks(self) -> str:
        """The region in words: "above 0", "in (-1, +1)"."""
        if self.region is None:
            return ""
        low, high = (number(end, self.unit) for end in self.region)
        if math.isinf(self.region[0]):
            return f"below {high}"
        return f"above {low}" if math.isinf(self.region[1]) else f"in ({low}, {high})"


def region(basis: Basis | None, parts: Sequence[int] = ()) -> Ends | None:
    """Where the deciding contrast has to lie: of these parts, or of the first and those on the same samples."""
    rule: Mapping[str, Any] | None = (basis or {}).get("rule")
    if rule is None:
        return None
    if rule["kind"] == "all of":
        found = rule["parts"]
        chosen = [i for i in parts if i < len(found)] or [
            i for i, part in enumerate(found) if part["samples"] == found[0]["samples"]
        ]
        regions = [region({"rule": found[i]["rule"]}) for i in chosen]
        ends = [ends for ends in regions if ends is not None]
        return (max(low for low, _ in ends), min(high for _, high in ends)) if ends else None
    if rule["kind"] == "contrasts":
        low, high = (sign * math.inf if end is None else end for sign, end in zip((-1, 1), rule["hold"], strict=True))
        return (-math.inf, rule["refute"][0]) if rule["turned"] else (low, high)
    if rule["kind"] == "separation":
        return rule["by"], math.inf
    below, above = rule.get("fails_below"), rule.get("fails_above")
    if below:
        return 0.0, 100 * below
    return (100 * above, 100.0) if above else (-math.inf, 0.0)


def by_the_tables(claim: ClaimRecord) -> list[tuple[float, str]]:
    """What the paper's tables give for each contrast of a claim, and whether it is held, refuted or neither by that.

    The printed numbers are taken as exact; the furthest from 0 come first. Nothing where the tables do not have the
    arms.
    """
    rule = (claim.hypothesis or {}).get("rule")
    told = claim.published
    numbers = [told] if isinstance(told, (int, float)) else told
    if rule is None or not isinstance(numbers, (list, tuple)) or not all(isinstance(n, (int, float)) for n in numbers):
        return []
    rules = [part["rule"] for part in rule["parts"]] if rule["kind"] == "all of" else [rule]
    if len(rules) != len(numbers) or any(one["kind"] != "contrasts" for one in rules):
        return []
    found = {(float(theta), _place(one, theta - one["reference"])) for one, theta in zip(rules, numbers, strict=True)}
    return sorted(found, key=lambda place: -abs(place[0]))


def _place(rule: Mapping[str, Any], theta: float) -> str:
    inside, outside = (
        (low is None or theta > low, high is None or theta < high) for low, high in (rule["hold"], rule["refute"])
    )
    place = "held" if all(inside) else "refuted" if not all(outside) else "neither"
    return {"held": "refuted", "refuted": "held"}.get(place, place) if rule["turned"] else place


def entries(summary: Summary) -> list[Entry]:
    """Every sentence in order with its twins and controls; one whose sentence is not there stands for itself."""
    there = {claim.nodeid for claim in summary.claims}
    belongs = {twin: sentence for twin, sentence in summary.sentence_of.items() if sentence in there}

    def entry(claim: ClaimRecord) -> Entry:
        twins = (other for other in summary.claims if belongs.get(other.nodeid) == claim.nodeid)
        return Entry(claim=claim, q=summary.q.get(claim.nodeid), twins=tuple(map(entry, twins)))

    return [entry(claim) for claim in summary.claims if claim.nodeid not in belongs]


def number(value: float | None, unit: str = "points", *, signed: bool = True) -> str:
    """A number with as many decimals as its unit has: "+0.65", "75.9"; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{_DECIMALS.get(unit, 3)}f}"
    return text if value or not signed else "0"
