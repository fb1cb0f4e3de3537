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
from bnlab.provenance import versions


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand: its help, what it does (giving the exit code), its arguments, and what shows its use.

    `example` are arguments that it takes, if any, `one` says when its exit code is 1; "" for one that never is.
    """

    help: str
    run: Callable[[Arguments], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    example: str = ""
    one: str = ""

    def epilog(self, name: str) -> str:
        """The end of its help: the exit codes, then the example."""
        codes = ["0 done", *([f"1 {self.one}"] if self.one else []), "2 it could not be done as asked"]
        return f"exit codes: {'; '.join(codes)}\n\nexample: {' '.join(['python -m bnlab', name, self.example]).strip()}"


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

COMMANDS = {
    "claims": Command(help="print every sentence and its place in the paper", run=claims.contents),
    "plan": Command(
        help="print what would train and how long it takes",
        run=claims.plan,
        arguments=train.block_arguments,
        example="--protocol quick --device cpu --net resnet18 --batch-size 50",
        one="a claim could not be planned",
    ),
    "train": Command(
        help="train what the claims need",
        run=train.run,
        arguments=train.add_arguments,
        example="--protocol quick --device cpu --net resnet18 --batch-size 50",
        one="a claim could not be planned, or a process of another GPU failed",
    ),
    "status": Command(
        help="print what is finished and what is in progress",
        run=status.run,
        arguments=status.add_arguments,
        example="--json",
    ),
    "watch": Command(help="show how far a training is, until it ends", run=watch.run, example="--store /shared/store"),
    "export": Command(
        help="write the Runs of the store to a file",
        run=transfer.export,
        arguments=transfer.export_arguments,
        example="runs.jsonl",
    ),
    "import": Command(
        help="put the Runs of a file into the store",
        run=transfer.import_,
        arguments=transfer.add_arguments,
        example="runs.jsonl",
    ),
    "report": Command(
        help="judge what is recorded and write the reports",
        run=claims.report,
        arguments=common.effort,
        example="--protocol quick",
        one="a claim ended with an error",
    ),
    "calibrate": Command(
        help="simulate how often the suite's verdicts would be false",
        run=claims.calibration,
        arguments=calibrate.add_arguments,
        example="--suites 400",
    ),
    "bench": Command(
        help="time the engine on this machine",
        run=bench.run,
        arguments=bench.add_arguments,
        example="--arch resnet18 --batch-size 50 --replicas 4",
    ),
    "faults": Command(
        help="let things fail at random and count what is lost",
        run=faults.run,
        arguments=faults.add_arguments,
        example="--seconds 60 --seed 1",
        one="a Run was lost or an epoch trained twice",
    ),
    "diff": Command(
        help="say what differs between two stores, exports or reports",
        run=diff.run,
        arguments=diff.add_arguments,
        example=".bnlab/store runs.jsonl",
        one="something differs",
    ),
    "doctor": Command(
        help="check whether this machine is fit, and say what to do",
        run=doctor.run,
        arguments=doctor.add_arguments,
        example="--store /shared/store",
        one="a check says what to do",
    ),
    "norms": Command(
        help="list the norm layers of this package",
        run=norms.run,
        arguments=norms.add_arguments,
        example="--time 5 --device cpu",
    ),
}
"""Every subcommand by its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; a BnlabError is printed on stderr and gives exit code 2.

    Ctrl-C gives 130. A reader that has gone, such as `head`, gives 141, as for any program. No command prints the help.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.given = list(sys.argv[1:] if argv is None else argv)
    if arguments.version or arguments.command is None:
        print(f"bnlab {versions()['bnlab']}" if arguments.version else parser.format_help().rstrip())
        return 0 if arguments.version else 2
    try:
        code = COMMANDS[arguments.command].run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        if arguments.command != "watch":
            print("bnlab: stopped; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still has to say goes nowhere
        return 141
    except BnlabError as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnlab", description="The Runs behind the claims in hypotheses/.")
    parser.add_argument("--version", action="store_true", help="print the commit, or the version that is installed")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.help,
            description=command.help,
            epilog=command.epilog(name),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        own.add_argument("--store", metavar="DIR", help="folder of finished Runs (default: .bnlab/store)")
        command.arguments(own)
    return parser
