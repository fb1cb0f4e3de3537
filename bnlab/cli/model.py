"""`python -m bnlab bench --model h200`: the paper's grid on a GPU that nobody has here, by a model of its kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

from bnlab.cost import CIFAR10_TRAIN_IMAGES
from bnlab.errors import BnlabError
from bnlab.parts import Net
from bnlab.specs import RunSpec

if TYPE_CHECKING:
    from bnlab.engine.model import Device
    from bnlab.engine.program import Program

_KINDS = ("Adam", "GEMM", "norm+add", "patches+fold")


def run(name: str, changed: Sequence[str], cells: Sequence[tuple[RunSpec, int]], runs: int) -> dict[str, Any]:
    """Print a row for every RunSpec and number of replicas, and the minutes of so many Runs of each; the figures."""
    from bnlab.engine import model

    device = _device(name, changed, model.DEVICES)
    print(f"{name}, not measured: " + ", ".join(f"{key} {value:.3g}" for key, value in asdict(device).items()))
    print(f"{'net':>9} {'batch':>5} {'K':>3} {'launches':>8} {'GB':>6} {'GFLOP':>6} {'ms':>6}  {' / '.join(_KINDS)} %")
    programs: dict[Net, Program] = {}
    figures: dict[str, Any] = {"device": asdict(device), "steps": [], "minutes": 0.0}
    for spec, k in cells:
        if spec.net not in programs:
            programs[spec.net] = model.program(spec)
        step = model.step(programs[spec.net], k, spec.batch_size, device)
        alone = sum(step.shares.values())
        shares = " / ".join(f"{100 * step.shares.get(kind, 0.0) / alone:.0f}" for kind in _KINDS)
        print(
            f"{spec.net!s:>9} {spec.batch_size:>5} {k:>3} {step.launches:>8} {step.bytes / 1e9:>6.1f} "
            f"{step.flop / 1e9:>6.0f} {1e3 * step.seconds:>6.2f}  {shares}",
            flush=True,
        )
        figures["steps"].append({"net": str(spec.net), "batch_size": spec.batch_size, "replicas": k, **asdict(step)})
        steps = spec.epochs * (CIFAR10_TRAIN_IMAGES // spec.batch_size)
        figures["minutes"] += runs / k * steps * step.seconds / 60
    print(
        f"{runs * len(cells)} Runs take {figures['minutes']:.1f} min of steps by this model; evaluation, start-up and "
        "snapshots are left out."
    )
    return figures


def _device(name: str, changed: Sequence[str], known: "Mapping[str, Device]") -> "Device":
    """The figures of a device, some of them changed by `name=number`."""
    if name not in known:
        raise BnlabError(f"unknown device in --model {name}: expected {' or '.join(known)}")
    device = known[name]
    types = {field.name: type(getattr(device, field.name)) for field in fields(device)}
    for text in changed:
        key, _, value = text.partition("=")
        try:
            device = replace(device, **{key: types[key](float(value))})
        except (KeyError, ValueError) as error:
            raise BnlabError(f"--figures {text}: expected NAME=NUMBER with a name of {', '.join(types)}") from error
    return device
