"""`python -m bnlab export` and `import`: Runs as one file."""

import argparse
from pathlib import Path

from bnlab.cli.common import Arguments, settings
from bnlab.cli.status import left_out
from bnlab.store import Store
from bnlab.store.transfer import export_runs, import_runs
from bnlab.words import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file."""
    parser.add_argument("file", metavar="FILE", help="a file of Runs: JSON lines under a checksum")


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and which Runs."""
    add_arguments(parser)
    parser.add_argument("--trained-under", metavar="PROTOCOL", help="only Runs of this protocol, such as paper")


def export(arguments: Arguments) -> int:
    """Write every Run of the store to one file, or those that were trained under the protocol that is named."""
    skipped: list[str] = []
    runs = Store.read(settings(arguments).store).runs(skipped=skipped)
    wanted = (run for run in runs if arguments.trained_under in (None, run.provenance.get("protocol")))
    number = export_runs(wanted, Path(arguments.file))
    print(f"{count(number, 'Run')} written to {arguments.file}")
    return left_out(skipped)


def import_(arguments: Arguments) -> int:
    """Put the Runs of a file into the store."""
    new, known = import_runs(Path(arguments.file), settings(arguments).open_store())
    print(f"{count(new, 'Run')} imported from {arguments.file}, {known} known before")
    return 0
