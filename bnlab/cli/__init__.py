"""`python -m bnlab`: one module for each command.

plan and train let pytest collect the claims in `hypotheses/` of the current folder; report is a run
of pytest there.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bnlab.cli import bench, calibrate, claims, common, diff, doctor, faults, norms, status, train, transfer, watch
from bnlab.cli.common import Arguments
from bnlab.errors import BnlabError


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand: its help, what it does (giving the exit code), and its arguments."""

    help: str
    run: Callable[[Arguments], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

COMMANDS = {
    "plan": Command(help="print what would train and how long it takes", run=claims.plan, arguments=common.device),
    "train": Command(help="train what the claims need", run=train.run, arguments=train.add_arguments),
    "status": Command(
        help="print what is finished and what is in progress", run=status.run, arguments=status.add_arguments
    ),
    "watch": Command(help="show how far a training is, until it ends", run=watch.run),
    "export": Command(
        help="write the Runs of the store to a file", run=transfer.export, arguments=transfer.add_arguments
    ),
    "import": Command(
        help="put the Runs of a file into the store", run=transfer.import_, arguments=transfer.add_arguments
    ),
    "report": Command(help="judge what is recorded and write the reports", run=claims.report, arguments=common.effort),
    "calibrate": Command(
        help="simulate how often the suite's verdicts would be false",
        run=claims.calibration,
        arguments=calibrate.add_arguments,
    ),
    "bench": Command(help="time the engine on this machine", run=bench.run, arguments=bench.add_arguments),
    "faults": Command(
        help="let things fail at random and count what is lost", run=faults.run, arguments=faults.add_arguments
    ),
    "diff": Command(
        help="say what differs between two stores, exports or reports", run=diff.run, arguments=diff.add_arguments
    ),
    "doctor": Command(
        help="check whether this machine is fit, and say what to do", run=doctor.run, arguments=doctor.add_arguments
    ),
    "norms": Command(help="list the norm layers of this package", run=norms.run, arguments=norms.add_arguments),
}
"""Every subcommand by its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; a BnlabError is printed on stderr and gives exit code 2.

    Ctrl-C gives 130. A reader that has gone, such as `head`, gives 141, as for any program.
    """
    arguments = _parser().parse_args(argv)
    arguments.given = list(sys.argv[1:] if argv is None else argv)
    try:
        code = COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        if arguments.command != "watch":
            print("bnlab: stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still has to say goes nowhere
        return 141
    except BnlabError as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnlab", description="The Runs behind the claims in hypotheses/.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help, description=command.help)
        own.add_argument("--store", metavar="DIR", help="folder of finished Runs (default: .bnlab/store)")
        command.arguments(own)
    return parser
