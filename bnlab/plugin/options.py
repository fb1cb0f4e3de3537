"""The options of a session, and the settings that they mean."""

import pytest

from bnlab.errors import SpecError
from bnlab.settings import Settings
from bnlab.statuses import UNDECIDED, UNTRAINED

_ALLOWED = {
    "--allow-inconclusive": (UNDECIDED, "undecided claims"),
    "--allow-untrained": (UNTRAINED, "claims without Runs"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a session."""
    group = parser.getgroup("claims")
    group.addoption("--protocol", metavar="NAME", help="effort: paper (default), quick or smoke")
    group.addoption("--smoke", action="store_true", help="short for --protocol smoke: exercise every claim, judge none")
    group.addoption(
        "--data", metavar="SOURCE", help="cifar10, PATH.npz or synthetic, each with :TRAIN+TEST for a subset"
    )
    group.addoption("--store", metavar="DIR", help="folder of finished Runs (default: .bnlab/store)")
    group.addoption("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    group.addoption("--seeds", type=int, metavar="N", help="stop at N seeds an arm")
    group.addoption(
        "--swap",
        action="append",
        default=[],
        metavar="ARM=LAYER",
        help="judge every claim with this norm in the arm's place: BatchNorm-minus=my_norms:RMSNorm2d",
    )
    group.addoption(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="judge every claim with this recipe: optimizer=sgd schedule=cosine augmentation=flip+crop epochs=30",
    )
    group.addoption("--engine", choices=("ray",), help="train on a Ray cluster before the claims are judged")
    group.addoption("--ray-address", metavar="HOST:PORT", help="that cluster (default: one that is started here)")
    group.addoption("--no-train", action="store_true", help="judge what is recorded and train nothing")
    group.addoption("--plan", action="store_true", help="print what would train and how long it takes, and stop")
    for option, (code, what) in _ALLOWED.items():
        group.addoption(option, action="store_true", help=f"exit 0 instead of {code} because of {what}")


def allowed(config: pytest.Config) -> frozenset[int]:
    """The exit codes that the user takes for 0."""
    return frozenset(code for option, (code, _) in _ALLOWED.items() if config.getoption(option))


def said_of(code: int) -> str | None:
    """What an exit code of ours means, and the option that lets it pass; None for any other."""
    lines = (f"exit code {own}: {what} ({option} lets them pass)" for option, (own, what) in _ALLOWED.items())
    return next((line for line in lines if line.startswith(f"exit code {code}:")), None)


def settings_of(config: pytest.Config) -> Settings:
    """What the options mean; a bad one is a BnlabError."""
    name = config.getoption("protocol")
    if config.getoption("smoke"):
        if name not in (None, "smoke"):
            raise SpecError(f"--smoke and --protocol {name} were both given: choose one")
        name = "smoke"
    if config.getoption("engine") and config.getoption("numprocesses", None):
        raise SpecError("--engine ray trains on the workers of Ray and judges here: leave out -n")
    return Settings.of(
        root=config.rootpath,
        protocol_name="paper" if name is None else name,
        data=config.getoption("data"),
        store=config.getoption("store"),
        device=config.getoption("device"),
        seeds=config.getoption("seeds"),
        swap=config.getoption("swap"),
        recipe=config.getoption("set"),
        train=not config.getoption("no_train"),
        elsewhere=config.getoption("engine") is not None,
    )
