"""Verdict: what a hypothesis says about samples."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["held", "refuted", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One sample in a verdict: `mean` and `sd` (n - 1) in the verdict's unit, None where a value is not finite."""

    label: str
    n: int
    mean: float | None
    sd: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Held, refuted or inconclusive, with everything a report needs as plain Python values.

    `estimate`, `low` and `high` are in `unit`; they belong to the contrast on which the decision hangs (for an
    ordering, against the strongest rival), and `level` is the level of the interval shown. `n` counts the seeds of
    each sample. `p_hold` and `p_refute` are the one-sided p-values of both decisions. `seeds_needed` is the number per
    arm that would decide with 80 % power, if the verdict is inconclusive and 64 are enough. `rho` is the correlation
    of the two arms over seeds. `margins` gives the status of an equivalence at other margins, in points. `unstable`
    has one phrase per unstable run; with any there is no interval, and no estimate if a value is not finite. What
    a kind does not have is None or empty.
    """

    kind: str
    status: Status
    reason: str
    unit: str | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: tuple[int, ...] | None = None
    p_hold: float | None = None
    p_refute: float | None = None
    seeds_needed: int | None = None
    rho: float | None = None
    margins: Mapping[float, Status] = field(default_factory=dict)
    unstable: tuple[str, ...] = ()
    arms: tuple[ArmSummary, ...] = ()

    @property
    def held(self) -> bool:
        """Whether the data say that the claim is true."""
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
    def n_min(self) -> int | None:
        """Seeds of the smallest sample."""
        return min(self.n) if self.n else None

    @property
    def p(self) -> float | None:
        """The p-value that enters the family: the smaller of p_hold and p_refute."""
        return None if self.p_hold is None or self.p_refute is None else min(self.p_hold, self.p_refute)

    def __bool__(self) -> bool:
        raise TypeError(
            "a Verdict is held, refuted or inconclusive: ask verdict.held, verdict.refuted or verdict.inconclusive"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values; margins are keyed by their text ("0.5", "1", "2")."""
        fields = dataclasses.asdict(self)
        fields["n"] = None if self.n is None else list(self.n)
        fields["unstable"] = list(self.unstable)
        fields["arms"] = list(fields["arms"])
        fields["margins"] = {f"{margin:g}": status for margin, status in self.margins.items()}
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Verdict":
        """The verdict that `to_json` described."""
        given = {
            **fields,
            "n": None if fields["n"] is None else tuple(fields["n"]),
            "margins": {float(margin): status for margin, status in fields["margins"].items()},
            "unstable": tuple(fields["unstable"]),
            "arms": tuple(ArmSummary(**arm) for arm in fields["arms"]),
        }
        return cls(**given)
