"""`python -m bnlab norms` and `bench --norm`: the layers of this package, and what a step with each costs here."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bnlab import changes, devices
from bnlab.errors import BnlabError
from bnlab.paper import related
from bnlab.parts import BATCHNORM
from bnlab.specs import RunSpec

if TYPE_CHECKING:
    from bnlab.norms.catalogue import Entry

REPLICAS = 2
BATCH_SIZE = 20

BENCH = "time a step with each layer, over BatchNorm's, on these networks: my_norms:Mine, an arm, or all of norms"

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


def bench(named: Sequence[str], cells: Sequence[tuple[RunSpec, int]], device: str, rounds: int) -> dict[str, Any]:
    """Print a step with each of these layers over BatchNorm's, a column a cell; gives the same figures by layer.

    `cells` are RunSpecs with BatchNorm and how many replicas train together. `named` are layers or arms as on the
    command line, or names as `norms` lists them; all of that list where none is named, but for what takes a network of
    its own. A layer that does not train on a network has no figure there, and why is said.
    """
    from bnlab.engine.norm_costs import relative_costs

    every = _every()
    found = [(text, every.get(text) or {"norm": changes.norm(text)}) for text in named] or list(every.items())
    heads = [f"{spec.net}, batch {spec.batch_size}, K {k}" for spec, k in cells]
    width = max(len(name) for name, _ in found)
    print(f"a step on {device} over BatchNorm's, medians of {rounds} rounds")
    print(f"{'layer':{width}}  {'  '.join(heads)}", flush=True)
    figures: dict[str, dict[str, float | None]] = {name: {} for name, _ in found}
    refused = []
    for name, own in found:
        for (spec, k), head in zip(cells, heads, strict=True):
            try:
                (figures[name][head],) = relative_costs(spec, [dataclasses.replace(spec, **own)], device, k, rounds)
            except BnlabError as error:
                figures[name][head] = None
                refused.append(f"{name}, {head}: {error}")
        row = ("-" if cost is None else f"{cost:.2f}" for cost in figures[name].values())
        print("  ".join([f"{name:{width}}", *(f"{cost:>{len(head)}}" for cost, head in zip(row, heads, strict=True))]))
    for line in refused:
        print(line)
    return figures


def _every() -> dict[str, dict[str, Any]]:
    """What a RunSpec says of each entry of the catalogue that trains on any network."""
    from bnlab.norms.catalogue import catalogue

    each = ((entry.name or str(entry.norm), {"norm": entry.norm, **entry.changes}) for entry in catalogue())
    return {name: own for name, own in each if "net" not in own}


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
