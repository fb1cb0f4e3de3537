"""Training on a Ray cluster: cohorts of the plan as tasks, wherever there is room.

Ray only places the tasks, and repeats one whose worker or node is lost. What is finished stands in the store, which
every node sees: a task goes on from the last snapshot, and of two that trained the same Run the first one is kept and
the second compared with it. Results never depend on Ray.
"""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from bnlab.cohorts import Trainer
from bnlab.errors import BnlabError
from bnlab.lab import POLL, cohorts
from bnlab.plugin import session as sessions
from bnlab.plugin.pulse import heard
from bnlab.plugin.session import Session, Worker
from bnlab.specs import Replicate

RETRIES = 5
"""How often a task is given to another worker after its own was lost."""

TOGETHER = 16
"""Runs of one task, unless `replicas` says how many train together."""


class FleetError(BnlabError):
    """Ray is not there, or a task failed."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Where tasks run: a cluster's address (None: this machine), and the share of a GPU that one of them takes."""

    address: str | None = None
    gpus: float = 1.0

    def drain(self, session: Session) -> None:
        """Train what undecided claims lack, look by look; see `Session.drain`.

        FleetError, when all else is trained, where a task failed.
        """
        failed: dict[Replicate, str] = {}
        with _connected(self.address) as ray, session.shown():
            cuda = (session.settings.device or "").startswith("cuda")
            room = {"num_gpus": self.gpus} if cuda else {"num_cpus": 1}
            for kind, asked in room.items():
                if ray.cluster_resources().get(kind.removeprefix("num_").rstrip("s").upper(), 0) < asked:
                    raise FleetError(f"no node of this Ray cluster has {kind} {asked:g}: name another, or --device cpu")
            task = ray.remote(max_retries=RETRIES, **room)(train)
            sent = replace(session, claims={}, progress=print, pulse=None, worker=Worker("ray"))
            running: dict[Any, Sequence[Replicate]] = {}
            while True:
                busy = {run for block in running.values() for run in block}
                free = [run for run in session.lab.plan() if run not in busy and run not in failed]
                for block in _blocks(free, session.replicas or TOGETHER):
                    where = (list(sys.path), os.getcwd())
                    reference = task.remote(sent, block, sessions.open_trainer, where, share=self.gpus < 1)
                    running[reference] = block
                if not running:
                    break
                for reference in ray.wait(list(running), timeout=60 * POLL)[0]:
                    block = running.pop(reference)
                    try:
                        ray.get(reference)
                    except ray.exceptions.RayError as error:
                        cause = getattr(error, "cause", None) or error
                        failed |= dict.fromkeys(block, f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
        for run, why in failed.items():
            raise FleetError(f"{len(failed)} Runs were not trained on Ray, the first one {run} ({why}): run it again")


def train(
    session: Session,
    block: Sequence[Replicate],
    open_trainer: Callable[[Session], Trainer],
    where: tuple[list[str], str],
    share: bool,
) -> None:
    """On a worker of Ray: train these Runs where they are missing; `where` is the path and the folder of the driver."""
    path, folder = where
    sys.path += [entry for entry in path if entry not in sys.path]
    os.chdir(folder)
    lab = session.lab
    with session.begin(block) as pulse:
        opened = cache(lambda: heard(open_trainer(session), pulse))
        device = "" if share else lab.device
        replace(lab, trainer=opened, plan=lambda: lab.missing(block), device=device).runs(block)


def _blocks(runs: Sequence[Replicate], size: int) -> Iterator[Sequence[Replicate]]:
    """The Runs that one program can hold together, so many at most."""
    for cohort in cohorts(runs):
        for first in range(0, len(cohort), size):
            yield cohort[first : first + size]


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to this cluster or started here: on the loopback, without its page and without telling anybody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError:
        raise FleetError("Ray is not installed: pip install 'bnlab[ray]', or train without --engine ray") from None
    here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
    try:
        if found := re.fullmatch(r"([^:/]+):([0-9]{1,5})", address or ""):
            socket.create_connection((found[1], int(found[2])), timeout=10).close()  # Ray itself waits for minutes
        ray.init(address=address or "local", log_to_driver=False, **here)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise FleetError(f"no Ray cluster at {address} ({' '.join(str(error).split())[:200]}): start one") from error
    try:
        yield ray
    finally:
        ray.shutdown()
