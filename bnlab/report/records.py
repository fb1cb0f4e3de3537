"""ClaimRecord and Summary: what the reports know of one claim, and of a session."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bnlab.outcomes import Outcome
from bnlab.provenance import Environment, distinct, versions
from bnlab.stats import Definition, Verdict, family
from bnlab.stats.family import REGISTERED
from bnlab.statuses import JUDGED, STATUSES, Status

ONE_TEST_SET = "Seeds share one test set, so an interval speaks of training randomness on these test images."


@dataclass(frozen=True, kw_only=True)
class ClaimRecord:
    """One claim of a session: its sentence and place, and what became of it.

    `published` is the paper's number for it, or its numbers for the cells of the verdict. `outcome`
    is None until the claim was settled, `error` is what went wrong with the test instead, or after
    it.
    """

    nodeid: str
    sentence: str = ""
    place: str = ""
    published: object = None
    reading: str | None = None
    outcome: Outcome | None = None
    error: str | None = None

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
        definition = self.verdict is not None and self.verdict.kind == Definition.kind
        return self.is_sentence and not (definition and self.reading == "as written")

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
