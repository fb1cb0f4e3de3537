"""`python -m bnlab claims`, `plan`, `report`, `calibrate`: what the claims say and need, how they stand, may err."""

from bnlab.claims import Claim
from bnlab.cli import calibrate, train
from bnlab.cli.common import Arguments, collect
from bnlab.report import terminal
from bnlab.report.page import PAGE
from bnlab.words import count


def contents(arguments: Arguments) -> int:
    """Print every sentence under its page of hypotheses/: place, reading, and how many points of the grid it has."""
    session = collect(arguments, train=False)
    points: dict[tuple[str, str], list[Claim]] = {}
    for claim in session.claims.values():
        page, _, test = claim.nodeid.partition("::")
        points.setdefault((page, test.partition("[")[0]), []).append(claim)
    shown = ""
    for (page, test), several in points.items():
        if page != shown:
            print(shown := page)
        first, grid = several[0], f"{len(several)} points of the grid" if len(several) > 1 else ""
        print(f"  {first.place}: {first.sentence} ({', '.join(filter(None, [test, first.reading, grid]))})")
    print(f"{count(len(points), 'function')}, {count(len(session.claims), 'claim')}")
    return 0


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
