"""Definition: what holds by construction, which no training decides."""

import reprlib
from dataclasses import dataclass
from typing import ClassVar

from bnlab.errors import StatisticsError
from bnlab.stats.verdict import DEFINITION, Status, Verdict


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What was got equals what the claim states: counts and exact identities.

    `judge(Definition(), facts.affine_parameters, 4800)` is defined or refuted, never inconclusive,
    and reports count it apart from what was found out: `verdict.word` is "defined" where
    `verdict.held`.
    """

    kind: ClassVar[str] = DEFINITION

    def judge(self, got: object, expected: object) -> Verdict:
        """Held if `got == expected`, else refuted; both plain values."""
        equal = got == expected
        if not isinstance(equal, bool):
            raise StatisticsError(
                f"comparing {type(got).__name__} with {type(expected).__name__} gave no yes or no: give plain values"
            )
        stated = "exactly as stated: defined" if equal else f"where {reprlib.repr(expected)} is stated: refuted"
        status: Status = "held" if equal else "refuted"
        return Verdict(kind=self.kind, status=status, reason=f"{reprlib.repr(got)}, {stated}.")
