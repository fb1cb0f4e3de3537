"""`python -m bnlab doctor`: whether this machine is fit for the suite, one line a check, and what to do where not."""

import argparse
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bnlab import cost, devices
from bnlab.cli import common
from bnlab.cli.common import Arguments, UsageError
from bnlab.data import sources
from bnlab.errors import BnlabError, DeviceError, StoreError
from bnlab.lab import Lab
from bnlab.parts import ResNet
from bnlab.protocol import PAPER, QUICK
from bnlab.settings import Settings
from bnlab.store import Store
from bnlab.store.durable import as_store_error, exists
from bnlab.words import count

INSTALL = "run python -m pip install -e . in the checkout"

TORCH = ("torch", "torchvision")

_SNAPSHOTS = 2 * 3 * 4 * ResNet(101).parameters
"""Bytes of the two snapshots of one Run of the largest network: weights and two moments of Adam, in float32."""

Check = Callable[[Settings], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `doctor`."""
    parser.add_argument("--data", metavar="SOURCE", help="images to check instead of cifar10, such as PATH.npz")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def run(arguments: Arguments) -> int:
    """Print a line for each check; 1 if one of them says what to do."""
    asked, said = common.settings(arguments), []
    checks: dict[str, Check] = {**CHECKS, **{f"protocol {one.name}": _effort(arguments, one.name) for one in TIMED}}
    for name, check in checks.items():
        try:
            line = f"ok, {check(asked)}"
        except BnlabError as error:
            said.append(line := " ".join(str(error).split()))
        except Exception as error:  # a doctor that fails has to say so too
            said.append(line := f"this check failed ({type(error).__name__}: {error}): please report it")
        print(f"{name}: {line}", flush=True)
    return 1 if said else 0


def python(asked: Settings) -> str:
    """The version of Python is one that bnlab takes."""
    return _fitting(platform.python_version(), SpecifierSet(_own("Requires-Python")), "Python", "use another Python")


def torch(asked: Settings) -> str:
    """The versions of torch and torchvision fit bnlab and each other."""
    found = _packages("bnlab", lambda name: name in TORCH)
    _packages("torchvision", lambda name: name == "torch")
    return found


def packages(asked: Settings) -> str:
    """Pytest, its plugins and the rest are there, and pytest may load them."""
    if os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        raise UsageError("PYTEST_DISABLE_PLUGIN_AUTOLOAD keeps pytest from loading its plugins: unset it")
    return _packages("bnlab", lambda name: name not in TORCH)


def device(asked: Settings) -> str:
    """There is a device to train on, and torch can use it."""
    if asked.device is None:
        cores = count(devices.threads(1), "thread")
        return f"no GPU: recorded Runs are judged, and --device cpu trains on {cores}"
    if asked.device == "cpu":
        return "cpu"
    from bnlab.engine import environment

    try:
        found = environment(asked.device)
    except (AssertionError, RuntimeError) as error:
        raise DeviceError(
            f"there is a GPU, and torch {version('torch')} cannot use it ({error}): install a torch that is built for "
            "its driver"
        ) from error
    return f"{count(devices.cuda_devices(), 'GPU')}, {found['device']}, CUDA {found['cuda']}"


def compiler(asked: Settings) -> str:
    """Triton, which compiles the engine's kernels for a GPU, finds a C compiler."""
    if not (asked.device or "").startswith("cuda"):
        return "not needed without a GPU"
    names = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise DeviceError(f"Triton finds no C compiler ({' or '.join(names)}): install gcc, or name one in CC")


def store(asked: Settings) -> str:
    """The store can be read and written, and its disk has room for the largest network."""
    folder = asked.store.absolute()
    with as_store_error(f"use {folder} as the store", "name another folder with --store"):
        there = next(parent for parent in (folder, *folder.parents) if exists(parent))
        if made := there == folder and bool(os.listdir(folder)):
            Store.read(folder)
        tempfile.TemporaryFile(dir=there).close()
        free = shutil.disk_usage(there).free
    if free < _SNAPSHOTS:
        raise StoreError(
            f"{there} has {free / 1e9:.1f} GB free and one Run of ResNet101 takes {_SNAPSHOTS / 1e9:.1f} GB while it "
            "trains: make room there, or name another folder with --store"
        )
    return f"{folder} {'is there' if made else 'can be made'}, {free / 1e9:.0f} GB free"


def images(asked: Settings) -> str:
    """The images are there, or can be had."""
    return f"training begins with {sources.waiting(asked.source, asked.cache)}, data {asked.data[:12]}"


def recorded(asked: Settings) -> str:
    """The recorded Runs can be read."""
    return f"{count(len(asked.recorded), 'Run')} in reports/runs"


def _effort(arguments: Arguments, protocol: str) -> Check:
    """The check that the claims can be planned under this protocol; it says how long they take. Writes nothing."""

    def check(asked: Settings) -> str:
        from bnlab.plugin.session import collect_session

        own = Settings.of(root=asked.root, protocol_name=protocol, data=arguments.data, train=False)
        session = collect_session(replace(own, store=asked.store))
        if session.not_planned():
            raise UsageError("there are claims that cannot be planned: python -m bnlab plan names them")
        there = Store(asked.store)
        needed = session.plan.first_look()
        missing = Lab(
            store=there, protocol=own.protocol, data=own.data, seeds=own.protocol.looks[0], recorded=asked.recorded
        ).missing(needed)
        found = f"{count(len(session.claims), 'claim')}, {len(missing)} of {count(len(needed), 'Run')} to train"
        if not missing:
            return found
        device = asked.device or "cpu"
        speeds = cost.Speeds(device, [*there.runs(probes=False, skipped=[]), *asked.recorded.values()])
        total = speeds.cost(missing, own.train_images)
        how = "assumed speed" if total.assumed else "speed of recorded Runs"
        return f"{found}, about {total.duration} in one process on {device} ({how})"

    return check


CHECKS: dict[str, Check] = {
    "Python": python,
    "torch": torch,
    "packages": packages,
    "device": device,
    "C compiler": compiler,
    "store": store,
    "images": images,
    "recorded Runs": recorded,
}
"""Every check by its name, in the order of printing."""

TIMED = (PAPER, QUICK)


def _own(name: str) -> str:
    """A field of the metadata of bnlab."""
    try:
        return str(metadata("bnlab")[name])
    except PackageNotFoundError as error:
        raise UsageError(f"bnlab is not installed here: {INSTALL}") from error


def _packages(owner: str, wanted: Callable[[str], bool]) -> str:
    """The packages that `owner` needs, as far as they are `wanted`, with the versions that are installed."""
    _own("Name")
    found = []
    try:
        asked = [Requirement(line) for line in requires(owner) or ()]
        for one in asked:
            if wanted(one.name) and (one.marker is None or one.marker.evaluate({"extra": ""})):
                found.append(f"{one.name} {_fitting(version(one.name), one.specifier, one.name, INSTALL)}")
    except PackageNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: {INSTALL}") from error
    return ", ".join(found)


def _fitting(found: str, specifier: SpecifierSet, name: str, remedy: str) -> str:
    """The version, if it fits."""
    if not specifier.contains(found, prereleases=True):
        raise UsageError(f"{name} {found} is installed, and {specifier} is needed: {remedy}")
    return found
