"""ClaimRecord and Summary: what the reports know of one claim, and of a session."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from bnlab.outcomes import Outcome
from bnlab.provenance import Environment, distinct, versions
from bnlab.stats import Definition, Verdict, family
from bnlab.stats.basis import Basis
from bnlab.stats.family import REGISTERED
from bnlab.statuses import JUDGED, STATUSES, Status

ONE_TEST_SET = "Seeds share one test set, so an interval speaks of training randomness on these test images."


@dataclass(frozen=True, kw_only=True)
class ClaimRecord:
    """One claim of a session: its sentence and place, and what became of it.

    `quote` has the paper's own words, `parameters` the point of the grid, `hypothesis` what is asked
    (`bnlab.stats.basis`), registered before anything trains. `published` is the paper's number for
    it, or its numbers for the cells of the verdict. `outcome` is None until the claim was settled,
    `error` is what went wrong with the test instead, or after it.
    """

    nodeid: str
    sentence: str = ""
    place: str = ""
    quote: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    hypothesis: Basis | None = None
    published: object = None
    reading: str | None = None
    outcome: Outcome | None = None
    error: str | None = None

    @property
    def file(self) -> str:
        """The file of its test, under the root of the session."""
        return self.nodeid.partition("::")[0]

    @property
    def function(self) -> str:
        """The name of its test."""
        return self.nodeid.partition("::")[2].partition("[")[0]

    @property
    def section(self) -> str:
        """The section of the paper, such as "§4.1.1", that its first place names."""
        return self.place.partition(";")[0].partition(",")[0].strip()

    @property
    def is_definition(self) -> bool:
        """Whether no Run decides it."""
        verdict = self.verdict
        kind = verdict.kind if verdict is not None else (self.hypothesis or {}).get("kind")
        return kind == Definition.kind

    @property
    def shown(self) -> Outcome | None:
        """The outcome with numbers to show: its own, or its preview; None for one that was only exercised."""
        told = [found for found in (self.outcome, self.outcome and self.outcome.preview) if found]
        return next((found for found in told if found.verdict is not None and found.status != "exercised"), None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_json` gives the record back."""
        told = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {
            **told,
            "file": self.file,
            "function": self.function,
            "section": self.section,
            "status": self.status,
            "reason": self.reason,
            "parameters": dict(self.parameters),
            "outcome": None if self.outcome is None else self.outcome.to_json(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "ClaimRecord":
        """The record that `to_json` described; what else a row of `claims.json` has is left out."""
        told = {entry.name: row[entry.name] for entry in fields(cls)}
        return cls(**{**told, "outcome": None if row["outcome"] is None else Outcome.from_json(row["outcome"])})

    @property
    def is_sentence(self) -> bool:
        """Whether it is a sentence as the paper has it, and no twin or control."""
        return self.reading in (None, "as written")

    @property
    def decides(self) -> bool:
        """Whether the exit code depends on it: a sentence that Runs could bear out.

        Twins and controls inform. So does a definition read as written, such as a formula that is
        printed the wrong way round: no Run could make it hold.
        """
        return self.is_sentence and not (self.is_definition and self.reading == "as written")

    @property
    def status(self) -> Status:
        """The one word for what became of it."""
        if self.error is not None:
            return "error"
        return "none" if self.outcome is None else self.outcome.status

    @property
    def reason(self) -> str:
        """Why it has that status."""
        if self.error is not None:
            return self.error
        return "no outcome" if self.outcome is None else self.outcome.reason

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, if there is one."""
        return None if self.outcome is None else self.outcome.verdict


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The claims of a session and what applies to all of them.

    `looks` are the seed counts of the protocol, `source` and `data` the images and their digest,
    `device` what trained in this session, `registered` the claims that there are, selected or not,
    `advice` one sentence on what was not trained.
    """

    claims: tuple[ClaimRecord, ...]
    protocol: str
    looks: tuple[int, ...]
    source: str
    data: str
    device: str | None
    registered: int
    advice: str | None = None

    @property
    def registry(self) -> int:
        """The size of the family: every claim that is registered or was reported."""
        return max(self.registered, len(self.claims))

    @cached_property
    def q(self) -> Mapping[str, float]:
        """The q-value of every judged claim over the registered contrasts, by node id; repeats share theirs."""
        judged = {
            claim.nodeid: (claim.verdict.contrast or claim.nodeid, claim.verdict.p)
            for claim in self.claims
            if claim.verdict is not None and claim.verdict.p is not None and claim.status in JUDGED
        }
        p = dict(judged.values())
        q = family(p, max(REGISTERED, len(p)))
        return {nodeid: q[contrast] for nodeid, (contrast, _) in judged.items()}

    @property
    def complete(self) -> bool:
        """Whether every registered claim was settled in this session."""
        settled = sum(claim.status not in ("none", "error") for claim in self.claims)
        return settled >= self.registry

    @cached_property
    def sentence_of(self) -> Mapping[str, str]:
        """The sentence that a twin or control belongs to, by node id: the last one before it on its page.

        Of a sentence with several points of the grid it is the one with the same parameters, if there is one.
        """
        found: dict[str, str] = {}
        last: dict[str, list[ClaimRecord]] = {}
        for claim in self.claims:
            cases = last.setdefault(claim.file, [])
            if claim.is_sentence:
                last[claim.file] = [*(case for case in cases if case.function == claim.function), claim]
            elif cases:
                same = [case for case in cases if case.parameters == claim.parameters]
                found[claim.nodeid] = (same or cases)[0].nodeid
        return found

    @cached_property
    def environments(self) -> tuple[Environment, ...]:
        """Each environment that trained Runs of these claims, once."""
        return distinct(found for claim in self.claims if claim.outcome for found in claim.outcome.environments)

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Versions of what judged."""
        return versions()

    def counts(self, *, sentences: bool | None = None) -> dict[Status, int]:
        """How many claims have each status, those that none has left out; of sentences or of the others alone."""
        claims = [claim for claim in self.claims if sentences in (None, claim.is_sentence)]
        found = {status: sum(claim.status == status for claim in claims) for status in STATUSES}
        return {status: number for status, number in found.items() if number}

    @property
    def counted(self) -> str:
        """The same as a text: "3 held, 1 refuted; twins and controls: 2 held"."""
        sentences, others = (
            ", ".join(f"{number} {STATUSES[status].counted}" for status, number in self.counts(sentences=which).items())
            for which in (True, False)
        )
        return "; ".join(filter(None, [sentences, f"twins and controls: {others}" if others else ""]))
