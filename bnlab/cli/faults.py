"""`python -m bnlab faults`: faults at random, for as long as one likes, and what came of them."""

import argparse
from dataclasses import dataclass

from bnlab.cli.common import UsageError


@dataclass(frozen=True)
class Faults:
    """A pytest plugin that says how long to go on and from which seed."""

    seconds: float
    seed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `faults`."""
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long to go on (default: 60)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which faults at which moments (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Let sessions and stores fail in a folder of their own and count; 1 if a Run was lost or an epoch trained twice.

    It is a test of this package, `bnlab/tests/faults/test_random.py`, with other figures.
    """
    import pytest

    if not arguments.seconds > 0:
        raise UsageError(f"--seconds {arguments.seconds:g}: faults are tried for more than 0 seconds")
    options = ["--pyargs", "bnlab.tests.faults.test_random", "-m", "slow", "-q", "-n0", "-p", "no:cacheprovider"]
    return int(pytest.main(options, plugins=[Faults(arguments.seconds, arguments.seed)]))
