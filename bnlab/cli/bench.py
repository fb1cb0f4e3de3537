"""`python -m bnlab bench`: what to time, and the table, JSON and picture of what came out."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnlab import devices
from bnlab.cli import growth, model, nodes, norms
from bnlab.cost import CIFAR10_TRAIN_IMAGES
from bnlab.errors import BnlabError, SpecError
from bnlab.parts import BATCHNORM, Net, ResNet
from bnlab.specs import RunSpec
from bnlab.store.durable import as_store_error, write_durably

if TYPE_CHECKING:
    from bnlab.engine.bench import Timing
    from bnlab.engine.profile import Share

PAPER_DEPTHS = (18, 34, 50, 101)
PAPER_BATCH_SIZES = (20, 50)
PAPER_RUNS = 16
"""Runs of a network and batch size: the paper's four norms at four seeds."""
MOST_SHARES = 15
CPU_RIVALS, GPU_RIVALS = ("eager", "channels-last", "compiled", "processes"), ("eager", "graph")
RIVALS = (*CPU_RIVALS, "graph")
FIGURES = (".svg", ".png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench`."""
    parser.add_argument("--arch", nargs="+", default=["resnet18"], metavar="NET", help="resnet18, 34, 50, 101, or all")
    parser.add_argument("--batch-size", nargs="+", type=int, default=list(PAPER_BATCH_SIZES), metavar="B")
    parser.add_argument("--replicas", nargs="+", type=int, metavar="K", help="cohort sizes (default: 4, on a GPU 16)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument("--threads", type=int, help="CPU threads for every contestant (default: all cores)")
    parser.add_argument("--precision", default="tf32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps per turn (default: 10)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (default: 5)")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, help="default: all, on a GPU eager and graph")
    parser.add_argument("--grid", action="store_true", help="time all of the paper's grid and say how long it takes")
    parser.add_argument("--norm", nargs="*", metavar="LAYER", help=norms.BENCH)
    parser.add_argument("--where", action="store_true", help="say where the time of our step goes, by torch's profiler")
    parser.add_argument("--model", metavar="GPU", help="time nothing: what a step takes on an h200 or h100 by a model")
    parser.add_argument("--figures", nargs="+", default=[], metavar="NAME=NUMBER", help="figures of that GPU to change")
    parser.add_argument("--runs", nargs="+", type=int, default=list(growth.SIZES), metavar="N", help=growth.HELP)
    parser.add_argument("--nodes", nargs="+", type=int, metavar="N", help="with --store DIR: simulate so many nodes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw throughput over replicas (SVG or PNG)")


def run(args: argparse.Namespace) -> int:
    """Time what was asked for and print it; the contestants of one row take turns."""
    if args.store is not None and args.nodes:
        return nodes.run(Path(args.store), args.nodes, max(args.runs))
    if args.store is not None:
        return growth.run(Path(args.store), args.runs)
    numbers = [*(args.replicas or []), args.steps, args.rounds, *([] if args.threads is None else [args.threads])]
    if min(numbers) < 1:
        raise BnlabError("bench was given a number below 1: --replicas, --steps, --rounds and --threads take 1 or more")
    _check(args.json, args.figure)
    if args.model:
        _write(args.json, model.run(args.model, args.figures, _asked(args, "cuda"), PAPER_RUNS))
        return 0
    device = devices.choose(args.device, fall_back_to_cpu=True) or "cpu"
    cells = _asked(args, device)
    against = args.rivals if args.rivals is not None else GPU_RIVALS if device.startswith("cuda") else CPU_RIVALS

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read as torch starts; its profiler would log on stderr otherwise
    from bnlab.engine import bench, environment, profile
    from bnlab.engine.trainer import use_threads

    threads = args.threads or devices.threads(1)
    use_threads(threads)
    if args.norm is not None:
        figures: dict[str, Any] = {"environment": environment(device) | {"threads": threads}, "rounds": args.rounds}
        _write(args.json, figures | {"over BatchNorm": norms.bench(args.norm, cells, device, args.rounds)})
        return 0
    print(f"measuring what {device} can do at best", flush=True)
    ceiling = bench.ceiling(device)
    machine = environment(device) | {"threads": threads}
    print(
        f"{machine['device']}, torch {machine['torch']}, {threads} threads: "
        f"copies {ceiling.bytes_per_s / 1e9:.0f} GB/s, multiplies {ceiling.flop_per_s / 1e9:.0f} GFLOP/s, "
        f"Adam at {ceiling.adam_bytes_per_s / 1e9:.0f} GB/s"
    )
    print(_HEADER + "".join(f" {name + ' ms':>16} {'x':>6}" for name in against))
    timings: list[Timing] = []
    figures = {
        "environment": machine,
        "ceiling": asdict(ceiling),
        "steps": args.steps,
        "rounds": args.rounds,
        "precision": args.precision,
    }
    for spec, k in cells:
        cohort = bench.cohort(spec, k, bench.PAPER_NORMS if args.grid else (BATCHNORM,))
        timings.append(
            bench.compare(
                cohort,
                device,
                steps=args.steps,
                rounds=args.rounds,
                ceiling=ceiling,
                against=against,
                say=partial(print, flush=True),
            )
        )
        figures["timings"] = [timing.to_json() for timing in timings]
        print(_row(timings[-1], against), flush=True)
        if args.where:
            shares = profile.where(cohort, device)
            figures.setdefault("where", {})[f"{spec.net}, batch {spec.batch_size}, K {k}"] = list(map(asdict, shares))
            print(_shares(shares), flush=True)
        _write(args.json, figures)
    if args.grid:
        figures["grid_s"] = _grid(timings)
        _write(args.json, figures)
    if args.figure:
        draw(timings, args.figure)
    return 0


def _check(json_file: Path | None, figure: Path | None) -> None:
    """Before anything is timed: a BnlabError if a file could not be written in the end."""
    for file in filter(None, (json_file, figure)):
        if file.is_dir() or not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
            raise BnlabError(f"cannot write {file}: name a file in a folder that exists and can be written")
    if figure is not None and figure.suffix not in FIGURES:
        raise BnlabError(f"--figure {figure}: expected a name that ends in {' or '.join(FIGURES)}")


def _write(file: Path | None, figures: dict[str, Any]) -> None:
    """After every row: whoever has a GPU for half an hour keeps what was measured until it was taken away."""
    if file is not None:
        with as_store_error(f"write {file}", "name a file in a folder that exists and can be written"):
            write_durably(file, (json.dumps(figures, indent=1) + "\n").encode())


def _asked(args: argparse.Namespace, device: str) -> list[tuple[RunSpec, int]]:
    """What to time: RunSpecs, and how many replicas of each."""
    replicas = args.replicas or [16 if device.startswith("cuda") else 4]
    return [
        (RunSpec(net=net, norm=BATCHNORM, batch_size=size, precision=args.precision), k)
        for net in _nets(["all"] if args.grid else args.arch)
        for size in (PAPER_BATCH_SIZES if args.grid else args.batch_size)
        for k in replicas
    ]


def _grid(timings: "Sequence[Timing]") -> float:
    """Seconds for the paper's grid at the fastest step of each of its cells; prints them."""
    from bnlab.engine import bench

    best = [
        min((t for t in timings if (t.net, t.batch_size) == cell), key=lambda t: t.ours_ms) for cell in _cells(timings)
    ]
    seconds = bench.grid(best, CIFAR10_TRAIN_IMAGES, RunSpec.epochs, PAPER_RUNS)
    print(
        f"The paper's grid, {PAPER_RUNS * len(best)} Runs of {RunSpec.epochs} epochs, takes about "
        f"{seconds / 3600:.1f} h at these steps, its four norms mixed in every cohort; "
        "evaluation and start-up are left out."
    )
    return seconds


def draw(timings: "Sequence[Timing]", file: Path) -> None:
    """Draw images per second over replicas, a line for every network and batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for net, size in _cells(timings):
        line = sorted((t.replicas, t.images_per_s) for t in timings if (t.net, t.batch_size) == (net, size))
        axes.plot([k for k, _ in line], [speed for _, speed in line], marker="o", label=f"{net}, batch {size}")
    axes.set_xscale("log", base=2)
    ticks = sorted({t.replicas for t in timings})
    axes.set_xticks(ticks, [str(k) for k in ticks])
    axes.set(xlabel="replicas trained as one cohort", ylabel="training images per second, all replicas", ylim=(0, None))
    axes.legend()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _nets(names: Sequence[str]) -> list[Net]:
    if list(names) == ["all"]:
        return [ResNet(depth) for depth in PAPER_DEPTHS]
    numbers = [name.removeprefix("resnet") for name in names]
    if not all(number.isdecimal() for number in numbers):
        raise SpecError(f"unknown network in --arch {' '.join(names)}: expected resnet18, 34, 50 or 101, or all")
    return [ResNet(int(number)) for number in numbers]


def _cells(timings: "Sequence[Timing]") -> list[tuple[str, int]]:
    return list(dict.fromkeys((timing.net, timing.batch_size) for timing in timings))


def _shares(shares: "Sequence[Share]") -> str:
    total = sum(share.ms for share in shares)
    head = f"{'':>9} {sum(share.calls for share in shares):.0f} launches a step, {total:.2f} ms in them; the longest:"
    rows = [
        f"{'':>9} {share.ms:8.3f} ms {100 * share.ms / total:4.0f} % {share.calls:6.0f} x  {share.name[:80]}"
        for share in shares[:MOST_SHARES]
    ]
    return "\n".join([head, *rows])


_HEADER = (
    f"{'net':>9} {'batch':>5} {'K':>3} {'ours ms':>14} {'images/s':>9} {'per K':>7} {'floor ms':>8} {'x floor':>7} "
    f"{'MiB':>7}"
)


def _row(t: "Timing", against: Sequence[str]) -> str:
    """One timing; behind each ms the spread of its turns in percent."""

    def ms(name: str, value: float | None) -> str:
        return "-" if value is None else f"{value:.2f} ±{50 * t.spreads[name]:.0f} %"

    peak = "-" if t.peak_mib is None else f"{t.peak_mib:.0f}"
    rivals = (f" {ms(name, t.rivals_ms.get(name)):>16} {t.over.get(name, float('nan')):>6.2f}" for name in against)
    return (
        f"{t.net:>9} {t.batch_size:>5} {t.replicas:>3} {ms('ours', t.ours_ms):>14} {t.images_per_s:>9.0f} "
        f"{t.images_per_s / t.replicas:>7.0f} {t.floor_ms:>8.2f} {t.over_floor:>7.2f} {peak:>7}" + "".join(rivals)
    )
