"""How far a session is, read from its store."""

from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.lab import replicates
from bnlab.progress import Planned, Watcher
from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.report.samples import SPECS

SPEC = replace(SPECS[0], epochs=5)

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_progress_counts_runs_and_measures_the_speed_and_the_time_left(store: Store, tmp_path: Path) -> None:
    needed = replicates(SPEC, 4)
    seconds = iter(range(0, 1000, 10))
    watcher = Watcher(store, Planned.of(needed, needed[:3], 1000), clock=lambda: float(next(seconds)))
    watcher.look()
    said = [watcher.line()]

    with store.try_work(needed[0]) as work:
        watcher.look()
        said.append(watcher.line())
        work.save_snapshot(2, b"state")
        watcher.look()
        said.append(watcher.line())
        work.publish(FakeTrainer(tmp_path / "log").train([needed[0]], [None], lambda *_: None)[0])
    watcher.look()
    said.append(watcher.line())

    assert said[0] == "1 of 4 Runs; nothing trains yet: images are read, programs compiled"
    assert said[1].startswith("1 of 4 Runs; the first epoch is not over; process ")
    assert said[1].endswith(f": {SPEC}, seed 0, 0 of 5 epochs done")
    # 2 of 15 missing epochs in 10 s; then all 5 of the first Run in 20 s
    assert said[2].startswith("1 of 4 Runs, 200 images/s, about 65 s left; ")
    assert said[3].startswith(
        "2 of 4 Runs, 250 images/s, about 40 s left; last: BatchNorm (ResNet18, batch 50, 5 epochs)"
    )


def test_what_is_kept_when_a_session_is_stopped_is_said(store: Store) -> None:
    watcher = Watcher(store)
    for run in replicates(SPEC, 2):
        with store.try_work(run) as work:
            work.save_snapshot(1, b"state")
    watcher.look()

    assert watcher.kept() == [
        "0 Runs finished in this session: kept",
        "2 Runs stand at epoch 1 of 5: kept",
        "the same command goes on from there",
    ]


def test_of_many_cohorts_the_first_are_named_and_the_others_counted(store: Store) -> None:
    watcher = Watcher(store)
    works = [store.try_work(run) for epochs in range(1, 7) for run in replicates(replace(SPEC, epochs=epochs), 1)]
    watcher.look()

    assert watcher.line().count("ResNet18") == 3
    assert watcher.line().endswith("; and 3 more")
    for work in works:
        work.__exit__()
