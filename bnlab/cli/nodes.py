"""`python -m bnlab bench --store DIR --nodes 1 10 100 1000`: what the locks of one store cost on so many nodes.

The calls of the store are timed on the disk of DIR, by one process. How nodes wait for each other is simulated: each
looks at the store, waits for the lock under which a cohort is put together, tries the Runs that others hold, locks its
own, trains, publishes, and looks again.
"""

import heapq
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bnlab.cli.growth import made_up, replicates
from bnlab.errors import BnlabError
from bnlab.lab import TURN
from bnlab.store import Store
from bnlab.store.layout import LONGEST_POLL

T = TypeVar("T")
R = TypeVar("R")

COHORT, TRAINING = 16, 1800.0
"""Runs of a cohort, and seconds that it trains."""

_TIMED = 50


@dataclass(frozen=True, kw_only=True)
class Calls:
    """Seconds of one call: look whether a Run is there, meet a lock that somebody has, lock a Run, publish it."""

    look: float
    meet: float
    take: float
    publish: float

    @classmethod
    def on(cls, folder: Path) -> "Calls":
        """As timed on a new store in this folder, which is removed again."""
        place = folder / "nodes"
        store, asked = Store.open(place), list(replicates(_TIMED))
        try:
            take, works = _each(asked, store.try_work)
            meet, _ = _each(asked, lambda run: store.try_work(run, patient=False))
            publish, _ = _each([work for work in works if work], lambda work: work.publish(made_up(work.replicate)))
            look, _ = _each(asked, store.has)
            for work in works:
                assert work is not None
                work.__exit__()
        finally:
            shutil.rmtree(place)
        return cls(look=look, meet=meet, take=take, publish=publish)


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What came of so many nodes: seconds until all is trained and until the last node began, and the calls."""

    nodes: int
    seconds: float
    idle: float
    began: float
    looks: int
    locks: int


def simulate(nodes: int, runs: int, calls: Calls, seed: int = 0) -> Traffic:
    """So many nodes that begin at once train so many Runs."""
    rng, left, held, gathering = random.Random(seed), -(-runs // COHORT), 0, 0.0
    waiting = [(0.0, node, False) for node in range(nodes)]
    end = trained = 0.0
    first: dict[int, float] = {}
    since: dict[int, float] = {}  # when a node looked that waits for the lock now
    looks = locks = 0
    while waiting:
        now, node, trains = heapq.heappop(waiting)
        held -= trains * COHORT
        if not left:
            continue
        locks += 1
        if now - since.get(node, -TURN) >= TURN:
            looks += left * COHORT
            now += left * COHORT * calls.look
            since[node] = now
        if now < gathering:
            heapq.heappush(waiting, (now + LONGEST_POLL, node, False))
            continue
        del since[node]
        gathering = now + held * calls.meet + COHORT * calls.take
        locks += held + COHORT
        left, held = left - 1, held + COHORT
        first.setdefault(node, gathering)
        training = TRAINING * rng.uniform(0.9, 1.1)
        trained += training
        done = gathering + training + COHORT * calls.publish
        end = max(end, done)
        heapq.heappush(waiting, (done, node, True))
    idle = 1 - trained / (nodes * end)
    return Traffic(nodes=nodes, seconds=end, idle=idle, began=max(first.values()), looks=looks, locks=locks)


def run(folder: Path, nodes: Sequence[int], runs: int) -> int:
    """Print the calls of the store on this disk and a line for each number of nodes."""
    if min([*nodes, runs]) < 1:
        raise BnlabError(f"--nodes {min(nodes)} and --runs {runs}: give 1 or more")
    calls = Calls.on(folder.absolute())
    print(
        f"look {1e3 * calls.look:.3f} ms, a lock that is held {1e3 * calls.meet:.3f} ms, lock a Run "
        f"{1e3 * calls.take:.1f} ms, publish it {1e3 * calls.publish:.1f} ms; {runs:,} Runs in cohorts of {COHORT}, "
        f"{TRAINING / 60:.0f} min each; simulated:"
    )
    print(f"{'nodes':>6} {'hours':>8} {'speed-up':>9} {'idle':>6} {'last began':>11} {'looks/s':>9} {'locks/s':>8}")
    alone = simulate(1, runs, calls).seconds
    for t in [simulate(number, runs, calls) for number in nodes]:
        print(
            f"{t.nodes:>6} {t.seconds / 3600:>8.2f} {alone / t.seconds:>9.1f} {t.idle:>6.1%} {t.began:>9.0f} s "
            f"{t.looks / t.seconds:>9.0f} {t.locks / t.seconds:>8.1f}"
        )
    return 0


def _each(items: Sequence[T], call: Callable[[T], R]) -> tuple[float, list[R]]:
    """Seconds of one of these calls, and what they gave."""
    begun = time.perf_counter()
    given = [call(item) for item in items]
    return (time.perf_counter() - begun) / len(items), given
