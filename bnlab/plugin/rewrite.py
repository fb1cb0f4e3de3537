"""The reports of what is recorded, without a session of pytest: claims are judged here, and nothing trains."""

from dataclasses import replace

from bnlab.claims import Claim, answer
from bnlab.lab import Lab
from bnlab.plugin.messages import record
from bnlab.plugin.reports import advice
from bnlab.plugin.session import Session
from bnlab.report.page import write_report
from bnlab.report.records import ClaimRecord, Summary


def rewrite(session: Session) -> Summary:
    """Judge every claim of the session on recorded Runs and write the reports anew; StoreError if that fails."""
    own = replace(session, settings=replace(session.settings, device=None))
    settings = own.settings
    rows = tuple(judged(claim, own.lab) for claim in own.claims.values())
    summary = Summary(
        claims=rows,
        protocol=settings.protocol.name,
        looks=settings.protocol.looks,
        source=settings.source,
        data=own.data,
        device=None,
        registered=own.registered,
        advice=advice(rows, settings),
    )
    write_report(summary, settings.runs(), settings.reports, settings.root)
    return summary


def judged(claim: Claim, lab: Lab) -> ClaimRecord:
    """A claim and what became of it on the Runs of this Lab."""
    try:
        return record(claim, answer(claim, lab))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # one claim that fails, by pytest.skip and sys.exit too, is a row and not the end
        return record(claim, None, " ".join(str(error).split()) or type(error).__name__)
