"""How the claims of a session stand, as the last lines of the terminal."""

from collections import Counter
from collections.abc import Iterable

from bnlab.report.records import ClaimRecord, Summary
from bnlab.statuses import STATUSES, Status
from bnlab.words import count

LISTED: tuple[Status, ...] = ("refuted", "inconclusive", "leans refuted", "undecided")
"""The statuses of which single claims are listed, the worst first."""

_LONG, _SHORT = 3, 12
"""So many claims are listed with their whole reason; or so many with their numbers, and the rest is counted."""


def answer(summary: Summary, page: str) -> list[str]:
    """Everything a session found, for one screen: what did not hold, the counts, the page, the next step."""
    if summary.protocol == "smoke":
        return [*_listed(summary), _smoke(summary), f"report: {page}"]
    text = _listed(summary)
    differing = [claim.outcome.mixed for claim in summary.claims if claim.outcome and claim.outcome.mixed]
    if differing:
        names = ", ".join(sorted({name for found in differing for name in found}))
        compare = count(len(differing), "claim compares", "claims compare")
        text.append(f"{compare} Runs that were not trained alike: see mixed ({names})")
    definitions = [claim for claim in summary.claims if claim.is_definition]
    others = [claim for claim in summary.claims if not claim.is_definition]
    changes = sorted({change for claim in summary.claims if claim.outcome for change in claim.outcome.changes})
    effort = f"{summary.protocol} with {', '.join(changes)}" if changes else summary.protocol
    judged = f"protocol {effort}, data {summary.source}, "
    judged += f"{count(summary.registry, 'claim')} in all"
    if definitions:
        text.append(f"definitions: {_counts(definitions)}")
    if others:
        leaning = any(claim.status.startswith("leans") or claim.status == "undecided" for claim in others)
        text.append(f"{'leans, no verdicts' if leaning else 'verdicts'}: {_parts(others)} ({judged})")
    untrained = [claim.outcome for claim in others if claim.outcome and claim.status == "untrained"]
    previews = [outcome.preview for outcome in untrained if outcome.preview]
    if previews:
        efforts = " and ".join(sorted({found.protocol for found in previews}))
        counted = _counted(found.status for found in previews)
        text.append(
            f"previews, no verdicts (protocol {efforts}): {counted}, {len(untrained) - len(previews)} without Runs"
        )
    text.append(f"report: {page}")
    return [*text, summary.advice] if summary.advice else text


def _listed(summary: Summary) -> list[str]:
    """One line for each claim that did not hold, as many as fit."""
    found = [claim for status in LISTED for claim in summary.claims if claim.status == status]
    if len(found) <= _LONG:
        return [line(claim) for claim in found]
    more = len(found) - _SHORT
    shown = [short(claim) for claim in found[:_SHORT]]
    return [*shown, f"and {more} more, in the report"] if more > 0 else shown


def line(claim: ClaimRecord) -> str:
    """One claim in one line."""
    return f"{STATUSES[claim.status].word} {claim.nodeid}: {' '.join(claim.reason.split())}"


def short(claim: ClaimRecord) -> str:
    """One claim and its numbers."""
    verdict, text = claim.verdict, f"{STATUSES[claim.status].word} {claim.nodeid.removeprefix('hypotheses/')}"
    if verdict is None or verdict.estimate is None:
        return text
    interval = "" if verdict.low is None or verdict.high is None else f" [{verdict.low:+.2f}, {verdict.high:+.2f}]"
    return f"{text}: {verdict.estimate:+.2f} {verdict.unit}{interval}"


def _smoke(summary: Summary) -> str:
    counts = summary.counts()
    ran, defined = counts.pop("exercised", 0), counts.pop("defined", 0)
    rest = "".join(f", {number} {STATUSES[status].counted}" for status, number in counts.items())
    return (
        f"SMOKE: {count(ran, 'claim')} ran to the last line on tiny synthetic images, no verdicts; "
        f"{count(defined, 'definition')} as stated{rest}"
    )


def _parts(claims: list[ClaimRecord]) -> str:
    """Counts of the sentences, then those of twins and controls."""
    sentences, others = (_counts(claim for claim in claims if claim.is_sentence == which) for which in (True, False))
    return "; ".join(filter(None, [sentences, others and f"twins and controls: {others}"]))


def _counts(claims: Iterable[ClaimRecord]) -> str:
    return _counted(claim.status for claim in claims)


def _counted(statuses: Iterable[Status]) -> str:
    found = Counter(statuses)
    return ", ".join(f"{found[status]} {STATUSES[status].counted}" for status in STATUSES if found[status])
