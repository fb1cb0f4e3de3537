"""What several commands share: options, the settings that they mean, and the claims."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from bnlab.errors import BnlabError
from bnlab.settings import Settings

if TYPE_CHECKING:
    from bnlab.plugin.session import Session

Arguments = argparse.Namespace

RAY = "ray"
"""The engine that is no other training, but the same one on a Ray cluster."""


class UsageError(BnlabError):
    """A command that cannot be carried out where it was given."""


def effort(parser: argparse.ArgumentParser) -> None:
    """The options that say how much is trained or judged."""
    parser.add_argument("--protocol", metavar="NAME", default="paper", help="paper (default), quick or smoke")
    parser.add_argument("--data", metavar="SOURCE", help="cifar10, PATH.npz or synthetic, each with :TRAIN+TEST")
    parser.add_argument("--seeds", type=int, metavar="N", help="stop at N seeds an arm")


def device(parser: argparse.ArgumentParser) -> None:
    """The same, and where it trains."""
    effort(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)")


def settings(arguments: Arguments, train: bool = True) -> Settings:
    """The settings that the options of a command mean; where it may not `train`, it does not write to the store."""
    return Settings.of(
        root=Path.cwd(),
        protocol_name=getattr(arguments, "protocol", "paper"),
        data=getattr(arguments, "data", None),
        store=arguments.store,
        device=getattr(arguments, "device", None),
        seeds=getattr(arguments, "seeds", None),
        train=train,
        elsewhere=getattr(arguments, "engine", None) == RAY,
    )


def collect(arguments: Arguments, replicas: int | None = None, train: bool = True) -> "Session":
    """The session of the claims in the current folder; everything is checked before pytest starts."""
    from bnlab.plugin.session import collect_session

    asked = settings(arguments, train)
    if not (asked.root / "hypotheses").is_dir():
        raise UsageError(f"there is no hypotheses/ in {asked.root}: run this in a checkout of bnlab")
    asked.session_store()
    asked.check()
    return collect_session(asked, replicas=replicas)
