"""How the claims of a session stand, as lines for the terminal."""

from bnlab.report.records import ClaimRecord, Summary
from bnlab.statuses import STATUSES
from bnlab.words import count


def summary_lines(summary: Summary) -> list[str]:
    """Counts, one line for each claim that did not hold, and what was not trained."""
    text = [
        f"{summary.counted} (protocol {summary.protocol}, data {summary.source}, "
        f"{count(summary.registry, 'claim')} in all)"
    ]
    for status in ("refuted", "inconclusive"):
        text += [line(claim) for claim in summary.claims if claim.status == status]
    differing = [claim.outcome.mixed for claim in summary.claims if claim.outcome and claim.outcome.mixed]
    if differing:
        names = ", ".join(sorted({name for found in differing for name in found}))
        compare = count(len(differing), "claim compares", "claims compare")
        text.append(f"{compare} Runs that were not trained alike: see mixed ({names})")
    if summary.advice:
        text.append(summary.advice)
    return text


def line(claim: ClaimRecord) -> str:
    """One claim in one line."""
    return f"{STATUSES[claim.status].word} {claim.nodeid}: {' '.join(claim.reason.split())}"
