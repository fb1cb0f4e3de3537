"""`python -m bnlab train`: train what the claims need, or one block of it."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bnlab import devices, paper
from bnlab.cli import common
from bnlab.cli.common import RAY, Arguments, UsageError, collect, settings
from bnlab.specs import Replicate
from bnlab.words import count

if TYPE_CHECKING:
    from bnlab.plugin.session import Session


def block_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose a block of the Runs, of `train` and of `plan`."""
    common.device(parser)
    parser.add_argument("--net", metavar="NET", help="only this network's Runs, such as resnet18")
    parser.add_argument("--batch-size", type=int, metavar="B", help="only Runs with this batch size")
    parser.add_argument("--tables", action="store_true", help="only Runs that stand in Tables 4 to 7")
    parser.add_argument("--engine", choices=("fused", "eager", RAY), help="only Runs with this engine; ray: on Ray")
    parser.set_defaults(look=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train`."""
    block_arguments(parser)
    parser.add_argument(
        "--replicas", type=int, metavar="N", help="Runs that train as one program (default: as many as fit)"
    )
    parser.add_argument(
        "--look", type=int, metavar="N", help="Runs of the registered look at N seeds (blocks: at the first look)"
    )
    parser.add_argument(
        "--ray-address", metavar="HOST:PORT", help="with --engine ray: a cluster (default: started here)"
    )
    parser.add_argument("--ray-gpus", type=float, default=1.0, metavar="N", help="with --engine ray: GPUs of a cohort")


def run(arguments: Arguments) -> int:
    """Train what the claims need, look by look, on every GPU; several processes may share one store."""
    device = settings(arguments).device
    if device is None:
        raise UsageError("there is no GPU here, so nothing would train: add --device cpu to train on the CPU")
    if arguments.replicas is not None and arguments.replicas < 1:
        raise UsageError(f"--replicas {arguments.replicas}: a cohort has at least 1 Run")
    blocks = asked(arguments)
    if arguments.engine == RAY and len(blocks) > 1:
        raise UsageError(f"{blocks[0]} chooses a block, and --engine ray trains all that is needed: leave one out")
    if not arguments.ray_gpus > 0:
        raise UsageError(f"--ray-gpus {arguments.ray_gpus:g}: a cohort takes a share of a GPU above 0")
    session = collect(arguments, replicas=arguments.replicas)
    block = block_of(session, arguments)
    missing = len(session.lab.missing(block))
    look = f"the look at {arguments.look} seeds" if arguments.look else "the first look"
    print(count(missing, f"Run of {look} is missing", f"Runs of {look} are missing"))
    if arguments.engine == RAY:
        from bnlab.plugin.fleet import Fleet

        Fleet(address=arguments.ray_address, gpus=arguments.ray_gpus).drain(session)
        done = "every claim has the Runs that it needs: python -m bnlab report"
    else:
        beside = [subprocess.Popen(command) for command in further(arguments.given, device)]
        if blocks:
            session.train(block)
            done = f"{count(len(block), 'Run')} of this block: all there"
        else:
            session.drain()
            done = "every claim has the Runs that it needs: python -m bnlab report"
        if failed := sum(process.wait() != 0 for process in beside):
            print(f"{count(failed, 'process')} of the other GPUs ended with an error, as it said above")
            return 1
    lost = session.not_planned()
    for line in lost:
        print(line)
    print(f"{count(len(lost), 'claim')} could not be planned, so Runs may be missing" if lost else done)
    return 1 if lost else 0


def further(given: Sequence[str], device: str) -> list[list[str]]:
    """The commands of the processes beside this one: one for each further GPU, where no GPU was named."""
    gpus = devices.cuda_devices() if device == "cuda" else 1
    command = [sys.executable, "-m", "bnlab", *given]
    return [[*command, "--device", f"cuda:{number}"] for number in range(1, gpus)]


def block_of(session: "Session", arguments: Arguments) -> list[Replicate]:
    """The Runs of a look with the network, batch size and engine asked for, or that stand in Tables 4 to 7."""
    looks = session.plan.looks
    if arguments.look not in (None, *looks):
        raise UsageError(f"--look {arguments.look}: the registered looks have {', '.join(map(str, looks))} seeds")
    needed = session.plan.look_at(arguments.look or looks[0])
    tables = {session.lab.protocol.apply(arm, session.data) for arm in paper.PRINTED}
    found = [
        run
        for run in needed
        if arguments.net in (None, str(run.spec.net).lower())
        and arguments.batch_size in (None, run.spec.batch_size)
        and arguments.engine in (None, RAY, run.spec.engine)
        and (not arguments.tables or run.spec in tables)
    ]
    if needed and not found:
        given = " ".join(f"{option} {value}".strip() for option, value in _asked(arguments) if value is not None)
        raise UsageError(f"no claim needs a Run with {given}: python -m bnlab plan lists those that are needed")
    return found


def asked(arguments: Arguments) -> list[str]:
    """The options that choose a block, as far as they were given."""
    return [option for option, value in _asked(arguments) if value is not None]


def _asked(arguments: Arguments) -> list[tuple[str, object]]:
    """The options that choose a block of Runs, with what was given."""
    return [
        ("--net", arguments.net),
        ("--batch-size", arguments.batch_size),
        ("--engine", arguments.engine),
        ("--tables", "" if arguments.tables else None),
        ("--look", arguments.look),
    ]
