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


def export(arguments: Arguments) -> int:
    """Write every Run of the store to one file."""
    skipped: list[str] = []
    number = export_runs(Store.read(settings(arguments).store).runs(skipped=skipped), Path(arguments.file))
    print(f"{count(number, 'Run')} written to {arguments.file}")
    return left_out(skipped)


def import_(arguments: Arguments) -> int:
    """Put the Runs of a file into the store."""
    new, known = import_runs(Path(arguments.file), settings(arguments).open_store())
    print(f"{count(new, 'Run')} imported from {arguments.file}, {known} known before")
    return 0
