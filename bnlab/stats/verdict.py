"""Verdict: what a hypothesis says about samples."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bnlab.stats.looks import LEVELS, over_looks

Status = Literal["held", "refuted", "inconclusive"]
Stops = Literal["unstable", "futile"]

DEFINITION = "definition"
"""The kind of what holds by construction."""


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One sample in a verdict: mean and sd (n - 1), None where a value is not finite."""

    label: str
    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One contrast of a composed verdict, judged by itself: what a forest plot draws.

    `label` is the contrast in words. `low` and `high` are None where nothing but an estimate can be
    given.
    """

    label: str
    kind: str
    status: Status
    unit: str | None
    estimate: float | None
    low: float | None
    high: float | None
    level: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Held, refuted or inconclusive, with everything a report needs as plain Python values.

    `contrast` is equal for verdicts on the same numbers, weights and thresholds, which the family
    counts once, and `label` is it in words. `estimate`, `low` and `high` are in `unit`; they belong
    to the contrast on which the decision hangs (for an ordering, that with one rival), and `level`
    is the level of the interval shown. `n` counts the seeds of each sample. `p_hold` and `p_refute`
    are the one-sided p-values of both answers at this look. `seeds_needed` is the fewest and the
    most seeds per arm that would decide with 80 % power, as the truth is one standard error to
    either side of the estimate; None stands for more than 64, and for the whole if the verdict is
    not inconclusive. `rho` is the correlation of the two arms over seeds. `margins` gives the
    status of an equivalence at other margins, in points. `cells` are the contrasts of a composed
    claim, one by one. `unstable` has one phrase per collapsed Run. `stops` says why an inconclusive
    claim trains no further: collapsed Runs, or no prospect of a decision at the last look. What a
    kind does not have is None or empty.
    """

    kind: str
    status: Status
    reason: str
    contrast: str = ""
    label: str = ""
    unit: str | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: tuple[int, ...] | None = None
    p_hold: float | None = None
    p_refute: float | None = None
    seeds_needed: tuple[int | None, int | None] | None = None
    rho: float | None = None
    margins: Mapping[float, Status] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    unstable: tuple[str, ...] = ()
    arms: tuple[ArmSummary, ...] = ()
    stops: Stops | None = None

    @property
    def held(self) -> bool:
        """Whether the data, or the definition, say that the claim is true."""
        return self.status == "held"

    @property
    def refuted(self) -> bool:
        """Whether the data say that the claim is false."""
        return self.status == "refuted"

    @property
    def inconclusive(self) -> bool:
        """Whether the data say neither."""
        return self.status == "inconclusive"

    @property
    def word(self) -> str:
        """The status, or "defined" for what holds by construction."""
        return "defined" if self.held and self.kind == DEFINITION else self.status

    @property
    def registered(self) -> bool:
        """Whether every arm has a registered number of seeds; true where none are counted."""
        return all(count in LEVELS for count in self.n or ())

    @property
    def p(self) -> float | None:
        """The p-value of the family: the smaller of p_hold and p_refute, over all looks."""
        if self.p_hold is None or self.p_refute is None or not self.n:
            return None
        return over_looks(min(self.p_hold, self.p_refute), min(self.n))

    def __bool__(self) -> bool:
        raise TypeError(
            "a Verdict is held, refuted or inconclusive: ask verdict.held, verdict.refuted or verdict.inconclusive"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; margins are keyed by their text ("0.5", "1", "2")."""
        fields = dataclasses.asdict(self)
        for name in ("n", "seeds_needed", "unstable", "cells", "arms"):
            fields[name] = None if fields[name] is None else list(fields[name])
        fields["margins"] = {f"{margin:g}": status for margin, status in self.margins.items()}
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Verdict":
        """The Verdict that `to_json` described."""
        given = dict(fields)
        for name in ("n", "seeds_needed", "unstable"):
            given[name] = None if fields[name] is None else tuple(fields[name])
        given["margins"] = {float(margin): status for margin, status in fields["margins"].items()}
        given["cells"] = tuple(Cell(**cell) for cell in fields["cells"])
        given["arms"] = tuple(ArmSummary(**arm) for arm in fields["arms"])
        return cls(**given)
