"""`python -m bnlab bench --store DIR`: how time and memory grow with the number of Runs and claims.

Nothing trains: the Runs are made up, four seeds an arm, and so are three claims for every ten Runs, of two arms each.
Every size has a folder in DIR, filled without flushing; each measurement is a process of its own.
Seconds are those of a CPU, with what the kernel does for the process, so that neighbours do not count.
"""

import json
import math
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from bnlab.errors import BnlabError
from bnlab.parts import BATCHNORM, ResNet
from bnlab.protocol import PAPER
from bnlab.runs import Run
from bnlab.specs import CIFAR10, Replicate, RunSpec

SIZES = (300, 1000, 3000, 10_000)
"""Runs in a store."""

HELP = "with --store DIR: time no engine but the store and the judging, with so many made-up Runs, in DIR"

SEEDS, CLAIMS_PER_RUN = 4, 0.3

_PAGE = '''"""§4.1: claims that nobody made."""
import pytest
from bnlab import *

ARMS, CLAIMS = {arms}, {claims}

@pytest.mark.claim("§4.1", reading="as written")
@pytest.mark.parametrize("number", range(CLAIMS))
def test_growth(lab, judge, number):
    """One batch size is better than the next one."""
    specs = [RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=2 + (number + i) % ARMS) for i in (0, 1)]
    verdict = judge(Superiority(by=points(3.0)), *(lab.train(spec).accuracy for spec in specs))
    assert verdict.held, verdict.reason
'''


def run(folder: Path, sizes: Sequence[int]) -> int:
    """Measure every size, print the table and, for each thing that was measured, the exponent of its growth."""
    if min(sizes) < SEEDS:
        raise BnlabError(f"--runs {min(sizes)}: a store to measure has {SEEDS} Runs or more")
    print(f"{'':>10}" + "".join(f"{f'{size:,} Runs':>22}" for size in sizes) + f"{'exponent':>10}")
    found: dict[str, list[tuple[float, float]]] = {}
    for size in sizes:
        place = folder.absolute() / f"growth-{size}"
        for part in ("fill", *PARTS):
            command = [sys.executable, "-m", "bnlab.cli.growth", part, str(place), str(size)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BnlabError(f"{part} of {size} Runs in {place} ended with {done.stderr.strip()[-500:]}")
            for name, seconds, mib in json.loads(done.stdout):
                found.setdefault(name, []).append((seconds, mib))
    for name, figures in found.items():
        cells = "".join(f"{seconds:>10.2f} s {mib:>5.0f} MiB" for seconds, mib in figures)
        print(f"{name:>10}{cells:<{22 * len(sizes)}}{exponent(sizes, [seconds for seconds, _ in figures]):>10}")
    return 0


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """p, where the time grows like size^p between the two largest sizes; "-" for one size."""
    if len(sizes) < 2:
        return "-"
    return f"{math.log(seconds[-1] / seconds[-2]) / math.log(sizes[-1] / sizes[-2]):.2f}"


def replicates(runs: int) -> Iterator[Replicate]:
    """So many Runs of the claims of `_PAGE`, seed by seed."""
    for number in range(runs):
        spec = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=2 + number // SEEDS)
        yield Replicate(PAPER.apply(spec, CIFAR10), number % SEEDS)


def made_up(replicate: Replicate) -> Run:
    """A Run that nobody trained: 70 % at even batch sizes, 60 % at odd ones, and noise."""
    spec, noise = replicate.spec, random.Random(replicate.key)
    accuracies = [70 - 10 * (spec.batch_size % 2) + noise.gauss(0, 0.2) for _ in range(spec.epochs)]
    return Run(
        spec=spec,
        seed=replicate.seed,
        curves={"train_loss": (1.0,) * spec.epochs, "test_accuracy": tuple(accuracies)},
        readings={},
        weights=replicate.key,
        provenance={"torch": "0.0", "device": "none", "images_per_s": 200.0},
    )


Step = tuple[str, Callable[[], object]]


def _fill(folder: Path, runs: int) -> Iterator[Step]:
    from bnlab.store import Store

    setattr(os, "fsync", lambda descriptor: None)  # noqa: B010  # mypy takes no assignment
    (folder / "hypotheses").mkdir(parents=True, exist_ok=True)
    (folder / "conftest.py").write_text('pytest_plugins = ["bnlab.plugin"]\n')
    (folder / "pytest.ini").write_text("[pytest]\n")
    page = _PAGE.format(arms=runs // SEEDS, claims=round(CLAIMS_PER_RUN * runs))
    (folder / "hypotheses" / "test_4_1.py").write_text(page, encoding="utf-8")
    store = Store.open(folder / ".bnlab" / "store")
    for replicate in replicates(runs):
        if not store.has(replicate):
            store.add(made_up(replicate))
    yield from ()


def _session(folder: Path, runs: int) -> Iterator[Step]:
    """What `pytest hypotheses/ --no-train` and `report` do, one after the other in one process."""
    from bnlab.claims import answer
    from bnlab.plugin.rewrite import rewrite
    from bnlab.plugin.session import Session, collect_session
    from bnlab.settings import Settings

    sessions: list[Session] = []
    settings = Settings.of(root=folder, train=False)
    yield "collect", lambda: sessions.append(collect_session(settings))
    (session,) = sessions
    yield "plan", session.plan_text
    yield "judge", lambda: [answer(claim, session.lab) for claim in session.claims.values()]
    yield "report", lambda: rewrite(session)


def _lock(folder: Path, runs: int) -> Iterator[Step]:
    from bnlab.store import Store

    store, asked = Store.open(folder / ".bnlab" / "store"), list(replicates(runs))

    def lock() -> None:
        for replicate in asked:
            work = store.try_work(replicate)
            assert work is not None
            with work:
                assert work.published, "every Run of this store is there"

    yield "lock", lock


def _command(name: str, *arguments: str) -> Callable[[Path, int], Iterator[Step]]:
    def part(folder: Path, runs: int) -> Iterator[Step]:
        from bnlab.cli import main

        yield name, lambda: main([name, *arguments, "--store", str(folder / ".bnlab" / "store")])

    return part


PARTS = {
    "session": _session,
    "lock": _lock,
    "status": _command("status"),
    "export": _command("export", "runs.jsonl"),
}
"""What is measured, each in a process of its own."""


def _main(part: str, folder: Path, runs: int) -> None:
    """In a process of its own: the CPU seconds of each step of a part, and the most memory up to its end."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    figures = []
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        for name, step in {"fill": _fill, **PARTS}[part](folder, runs):
            begun = time.process_time()
            step()
            seconds = time.process_time() - begun
            figures.append((name, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    print(json.dumps(figures))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
