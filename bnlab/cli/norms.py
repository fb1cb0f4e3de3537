"""`python -m bnlab norms`: the layers of this package, and what a step with each costs here."""

import argparse
from typing import TYPE_CHECKING

from bnlab import devices
from bnlab.errors import BnlabError
from bnlab.paper import related
from bnlab.parts import BATCHNORM

if TYPE_CHECKING:
    from bnlab.norms.catalogue import Entry

REPLICAS = 2
BATCH_SIZE = 20

HEAD = ("layer", "paper", "trained numbers", "statistics", "looks at", "engine", "source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `norms`."""
    parser.add_argument("--time", type=int, metavar="ROUNDS", help="time a step with each, over BatchNorm's, so often")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")


def run(args: argparse.Namespace) -> int:
    """Print a line for each layer, and for each system of section 2.4 that is none."""
    if args.time is not None and args.time < 1:
        raise BnlabError(f"norms --time {args.time}: expected a number of rounds, 1 or more")
    from bnlab.norms.catalogue import catalogue

    entries = catalogue()
    rows = [HEAD, *map(_row, entries)]
    if args.time is not None:
        from bnlab.engine.norm_costs import relative_costs

        device = devices.choose(args.device, fall_back_to_cpu=True) or "cpu"
        base, *specs = (
            related(norm, batch_size=BATCH_SIZE, **changes)
            for norm, changes in [(BATCHNORM, {}), *((entry.norm, entry.changes) for entry in entries)]
        )
        costs = relative_costs(base, specs, device, REPLICAS, args.time)
        rows = [(*row, cost) for row, cost in zip(rows, ["step", *(f"{cost:.2f}" for cost in costs)], strict=True)]
        print(f"step: over BatchNorm's on {device}, {REPLICAS} replicas of ResNet-20 at batch {BATCH_SIZE}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(entry: "Entry") -> tuple[str, ...]:
    each, whole = entry.parameters
    numbers = [f"{each} a channel"] * bool(each) + [f"{whole} a layer"] * bool(whole)
    return (
        entry.name or str(entry.norm),
        f"§{entry.place}" if entry.place else "",
        ", ".join(numbers) or "none",
        ", ".join(entry.statistics) or "none",
        "the batch" if entry.looks_at_batch else "an image",
        "fused" if entry.fused else "by replica",
        entry.source,
    )
