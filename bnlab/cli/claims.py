"""`python -m bnlab plan`, `report` and `calibrate`: what the claims need, how they stand, how often they would err."""

from bnlab.cli import calibrate, train
from bnlab.cli.common import Arguments, collect
from bnlab.report import terminal
from bnlab.report.page import PAGE


def plan(arguments: Arguments) -> int:
    """Print what would train and how long that takes, all of it or a block."""
    session = collect(arguments)
    for line in session.plan_text(train.block_of(session, arguments) if train.asked(arguments) else None):
        print(line)
    return 1 if session.not_planned() else 0


def report(arguments: Arguments) -> int:
    """Judge what is recorded, train nothing, and write the reports anew; 1 if a claim failed."""
    from bnlab.plugin.rewrite import rewrite

    session = collect(arguments)
    summary = rewrite(session)
    for line in terminal.answer(summary, str(session.settings.reports / PAGE)):
        print(line)
    return 1 if any(claim.status == "error" for claim in summary.claims) else 0


def calibration(arguments: Arguments) -> int:
    """Simulate the verdicts of all claims."""
    return calibrate.run(list(collect(arguments).claims.values()), arguments.suites, arguments.each)
