"""`python -m bnlab`: plan, train, status, export, import, report, calibrate, bench, norms.

plan and train let pytest collect the claims in `hypotheses/` of the current folder; report is a run
of pytest there.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab import paper
from bnlab.cli import bench, calibrate, norms
from bnlab.errors import BnlabError
from bnlab.report import terminal
from bnlab.report.page import PAGE
from bnlab.settings import Settings
from bnlab.specs import Replicate
from bnlab.store import Store
from bnlab.store.transfer import export_runs, import_runs
from bnlab.words import count

if TYPE_CHECKING:
    from bnlab.plugin.session import Session

Arguments = argparse.Namespace


class UsageError(BnlabError):
    """A command that cannot be carried out where it was given."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand: its help, what it does (giving the exit code), and its arguments."""

    help: str
    run: Callable[[Arguments], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command; a BnlabError is printed on stderr and gives exit code 2."""
    arguments = _parser().parse_args(argv)
    try:
        return COMMANDS[arguments.command].run(arguments)
    except BnlabError as error:
        print(f"bnlab: {error}", file=sys.stderr)
        return 2


def plan(arguments: Arguments) -> int:
    """Print what would train and how long that takes."""
    session = _collect(arguments)
    for line in session.plan_text():
        print(line)
    return 1 if session.not_planned() else 0


def train(arguments: Arguments) -> int:
    """Train what the claims need, look by look; several processes may share one store."""
    if _settings(arguments).device is None:
        raise UsageError("there is no GPU here, so nothing would train: add --device cpu to train on the CPU")
    if arguments.replicas is not None and arguments.replicas < 1:
        raise UsageError(f"--replicas {arguments.replicas}: a cohort has at least 1 Run")
    session = _collect(arguments, replicas=arguments.replicas)
    block = _block(session, arguments)
    missing = len(session.lab.missing(block))
    print(count(missing, "Run of the first look is missing", "Runs of the first look are missing"))
    if any(value is not None for _, value in _asked(arguments)):
        session.train(block)
        done = f"{count(len(block), 'Run')} of this block: all there"
    else:
        session.drain()
        done = "every claim has the Runs that it needs: python -m bnlab report"
    lost = session.not_planned()
    for line in lost:
        print(line)
    print(f"{count(len(lost), 'claim')} could not be planned, so Runs may be missing" if lost else done)
    return 1 if lost else 0


def _block(session: "Session", arguments: Arguments) -> list[Replicate]:
    """The Runs of the first look with the network, batch size and engine asked for, or that stand in Tables 4 to 7."""
    needed = session.plan.first_look()
    tables = {session.lab.protocol.apply(arm, session.data) for arm in paper.PRINTED}
    found = [
        run
        for run in needed
        if arguments.net in (None, str(run.spec.net).lower())
        and arguments.batch_size in (None, run.spec.batch_size)
        and arguments.engine in (None, run.spec.engine)
        and (not arguments.tables or run.spec in tables)
    ]
    if needed and not found:
        asked = " ".join(f"{option} {value}".strip() for option, value in _asked(arguments) if value is not None)
        raise UsageError(f"no claim needs a Run with {asked}: python -m bnlab plan lists those that are needed")
    return found


def _asked(arguments: Arguments) -> list[tuple[str, object]]:
    """The options that choose a block of Runs, with what was given."""
    return [
        ("--net", arguments.net),
        ("--batch-size", arguments.batch_size),
        ("--engine", arguments.engine),
        ("--tables", "" if arguments.tables else None),
    ]


def status(arguments: Arguments) -> int:
    """Print how many Runs of each RunSpec are finished, and which are in progress."""
    store = Store.read(_settings(arguments).store)
    skipped: list[str] = []
    finished = Counter(run.spec for run in store.runs(probes=False, skipped=skipped))
    for spec, number in sorted(finished.items(), key=lambda entry: str(entry[0])):
        print(f"{spec}: {number} finished (data {spec.data[:12]})")
    progress = store.progress()
    for work in progress:
        state = "locked by another user" if work.locked is None else "in training" if work.locked else "interrupted"
        kept = f"{work.epoch} of {count(work.replicate.spec.epochs, 'epoch')} kept in {work.size / 1e6:.0f} MB"
        print(f"{work.replicate}: {state}, {kept}" + (f" ({work.by})" if work.by else ""))
    training = sum(bool(work.locked) for work in progress)
    print(f"{count(finished.total(), 'Run')} finished, {training} in training, {len(progress) - training} interrupted")
    return _left_out(skipped)


def export(arguments: Arguments) -> int:
    """Write every Run of the store to one file."""
    skipped: list[str] = []
    number = export_runs(Store.read(_settings(arguments).store).runs(skipped=skipped), Path(arguments.file))
    print(f"{count(number, 'Run')} written to {arguments.file}")
    return _left_out(skipped)


def _left_out(skipped: Sequence[str]) -> int:
    """Name what the store could not give; the exit code."""
    for sentence in skipped:
        print(f"bnlab: left out: {sentence}", file=sys.stderr)
    return 2 if skipped else 0


def import_(arguments: Arguments) -> int:
    """Put the Runs of a file into the store."""
    new, known = import_runs(Path(arguments.file), _settings(arguments).open_store())
    print(f"{count(new, 'Run')} imported from {arguments.file}, {known} known before")
    return 0


def report(arguments: Arguments) -> int:
    """Judge what is recorded, train nothing, and write the reports anew; 1 if a claim failed."""
    from bnlab.plugin.rewrite import rewrite

    session = _collect(arguments)
    summary = rewrite(session)
    for line in terminal.answer(summary, str(session.settings.reports / PAGE)):
        print(line)
    return 1 if any(claim.status == "error" for claim in summary.claims) else 0


def calibration(arguments: Arguments) -> int:
    """Simulate the verdicts of all claims."""
    return calibrate.run(list(_collect(arguments).claims.values()), arguments.suites, arguments.each)


def _effort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", metavar="NAME", default="paper", help="paper (default), quick or smoke")
    parser.add_argument("--data", metavar="SOURCE", help="cifar10, PATH.npz or synthetic, each with :TRAIN+TEST")
    parser.add_argument("--seeds", type=int, metavar="N", help="stop at N seeds an arm")


def _device(parser: argparse.ArgumentParser) -> None:
    _effort(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def _train(parser: argparse.ArgumentParser) -> None:
    _device(parser)
    parser.add_argument(
        "--replicas", type=int, metavar="N", help="Runs that train as one program (default: as many as fit)"
    )
    parser.add_argument("--net", metavar="NET", help="only this network's Runs of the first look, such as resnet18")
    parser.add_argument("--batch-size", type=int, metavar="B", help="only Runs of the first look with this batch size")
    parser.add_argument("--tables", action="store_true", help="only Runs of the first look that stand in Tables 4 to 7")
    parser.add_argument("--engine", choices=("fused", "eager"), help="only Runs of the first look with this engine")


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file of Runs: JSON lines under a checksum")


COMMANDS = {
    "plan": Command(help="print what would train and how long it takes", run=plan, arguments=_device),
    "train": Command(help="train what the claims need", run=train, arguments=_train),
    "status": Command(help="print what is finished and what is in progress", run=status),
    "export": Command(help="write the Runs of the store to a file", run=export, arguments=_file),
    "import": Command(help="put the Runs of a file into the store", run=import_, arguments=_file),
    "report": Command(help="judge what is recorded and write the reports", run=report, arguments=_effort),
    "calibrate": Command(
        help="simulate how often the suite's verdicts would be false",
        run=calibration,
        arguments=calibrate.add_arguments,
    ),
    "bench": Command(help="time the engine on this machine", run=bench.run, arguments=bench.add_arguments),
    "norms": Command(help="list the norm layers of this package", run=norms.run, arguments=norms.add_arguments),
}
"""Every subcommand by its name."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bnlab", description="The Runs behind the claims in hypotheses/.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.help, description=command.help)
        own.add_argument("--store", metavar="DIR", help="folder of finished Runs (default: .bnlab/store)")
        command.arguments(own)
    return parser


def _settings(arguments: Arguments) -> Settings:
    return Settings.of(
        root=Path.cwd(),
        protocol_name=getattr(arguments, "protocol", "paper"),
        data=getattr(arguments, "data", None),
        store=arguments.store,
        device=getattr(arguments, "device", None),
        seeds=getattr(arguments, "seeds", None),
    )


def _checked(arguments: Arguments) -> Settings:
    """The settings of a command that needs the claims, checked before pytest starts."""
    settings = _settings(arguments)
    if not (settings.root / "hypotheses").is_dir():
        raise UsageError(f"there is no hypotheses/ in {settings.root}: run this in a checkout of bnlab")
    settings.session_store()
    settings.check()
    return settings


def _collect(arguments: Arguments, replicas: int | None = None) -> "Session":
    from bnlab.plugin.session import collect_session

    return collect_session(_checked(arguments), replicas=replicas)
