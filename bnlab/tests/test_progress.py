"""How far everybody is, read from the store."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.lab import replicates
from bnlab.parts import NONE
from bnlab.progress import Watcher
from bnlab.store import Store
from bnlab.store.beats import Pulse, beats, planned
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.report.samples import SPECS

SPEC = replace(SPECS[0], epochs=5)

pytestmark = pytest.mark.usefixtures("no_flushing")


class Clock:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(store: Store, clock: Clock) -> Iterator[Pulse]:
    with Pulse(store, "gw0", clock) as own:
        yield own


def seen(store: Store) -> list[str]:
    watcher = Watcher(store)
    watcher.look()
    return watcher.lines()


def test_progress_is_runs_done_of_planned_measured_speed_and_the_time_left(
    store: Store, pulse: Pulse, clock: Clock, tmp_path: Path
) -> None:
    needed = replicates(SPEC, 4)
    pulse.plan(planned(store, needed, needed[:3]))
    begun = seen(store)
    with store.try_work(needed[0]) as work:
        clock.now = 100.0  # a wait that is not training
        pulse.begin([needed[0]], 0)
        first = seen(store)
        clock.now = 110.0
        pulse.passed(2, images=2000)
        middle = seen(store)
        clock.now = 125.0
        trained = FakeTrainer(tmp_path / "log").train([needed[0]], [None], lambda *_: None)
        pulse.passed(5, images=3000)
        work.publish(trained[0])
    pulse.end(trained)
    ended = seen(store)

    assert [line[0] for line in (begun, first)] == [
        "1 of 4 Runs; nothing trains yet",
        "1 of 4 Runs; no epoch is over yet",
    ]
    assert begun[1].endswith(" (gw0): looks for Runs to train")
    assert f" (gw0): {SPEC}, seed 0, 0 of 5 epochs done" in first[1]
    # 2 of 15 missing epochs and 2000 images in 10 s; then 5 epochs and 5000 images in 25 s
    assert middle[0] == "1 of 4 Runs, 200 images/s, about 65 s left"
    assert ended[0] == "2 of 4 Runs, 200 images/s, about 50 s left"
    assert ended[-1] == f"last: ResNet18 BatchNorm batch 50 seed 0 {trained[0].curves['test_accuracy'][-1]:.1f} %"


def test_a_line_of_progress_ends_with_the_last_run(store: Store, pulse: Pulse, tmp_path: Path) -> None:
    (needed,) = replicates(SPEC, 1)
    pulse.plan(planned(store, [needed], [needed]))
    watcher = Watcher(store)
    told = []
    with store.try_work(needed) as work:
        pulse.begin([needed], 0)
        watcher.look()
        told.append(watcher.line())
        trained = FakeTrainer(tmp_path / "log").train([needed], [None], lambda *_: None)
        work.publish(trained[0])
    pulse.end(trained)
    watcher.look()
    told.append(watcher.line())
    pulse.close()
    watcher.look()
    told.append(watcher.line())

    assert told[0].startswith("0 of 1 Run; no epoch is over yet")
    assert told[1:] == [None, None]


def test_what_a_process_waits_for_is_named(store: Store, pulse: Pulse) -> None:
    pulse.say("compiling kernels")

    assert seen(store)[-1].endswith(" (gw0): compiling kernels")


@pytest.mark.parametrize("tells", [True, False])
def test_a_process_that_keeps_nothing_for_long_is_told_to_those_who_wait(store, pulse, monkeypatch, tells) -> None:
    """Such as one that was suspended: its lock is not freed, and nobody can train its Runs."""
    (asked,) = replicates(SPEC, 1)
    with store.try_work(asked) as work:
        work.save_snapshot(3, b"state")
        if tells:
            pulse.begin([asked], 3)
        before, later = seen(store), time.time() + 12 * 60
        monkeypatch.setattr(time, "time", lambda: later)

        assert seen(store) == [line.replace("epochs done", "epochs done, nothing kept for 12 min") for line in before]
    assert sum("3 of 5 epochs done" in line for line in before) == 1


def test_a_mixed_cohort_is_one_line(store: Store, pulse: Pulse) -> None:
    cohort = [*replicates(SPEC, 2), *replicates(replace(SPEC, norm=NONE), 2)]
    works = [store.try_work(run) for run in cohort]
    pulse.begin(cohort, 3)

    assert [line for line in seen(store) if "seeds 0, 1, 3 of 5 epochs done" in line and "BatchNorm + None" in line]
    for work in works:
        work.__exit__()


def test_sessions_that_share_runs_count_them_once(store: Store, pulse: Pulse) -> None:
    needed = replicates(SPEC, 4)
    pulse.plan(planned(store, needed, needed))
    with Pulse(store) as other:
        other.plan(planned(store, needed[2:], needed[2:]))
        other.begin(replicates(SPEC, 5)[4:], 0)  # a further seed, which nobody planned

        assert seen(store)[0] == "0 of 5 Runs; no epoch is over yet"


def test_a_process_that_ended_or_was_killed_says_nothing_more(store: Store) -> None:
    with Pulse(store) as pulse:
        pulse.say("training")
        assert len(beats(store)) == 1

    assert (store.path / "beats" / "000.json").exists()
    assert beats(store) == []


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"epoch": -1},
        {"seconds": "1"},
        {"work": float("inf")},
        {"plan": "0" * 64},
        {"by": None, "cohort": 7},
        "no JSON",
    ],
    ids=str,
)
def test_a_damaged_beat_says_nothing(store: Store, pulse: Pulse, change: dict | str) -> None:
    pulse.plan({"runs/00/0": 1.0})
    path = store.path / "beats" / "000.json"
    sound = json.loads(path.read_text())
    assert len(beats(store)) == 1

    path.write_text(json.dumps(sound | change) if isinstance(change, dict) else change)

    assert beats(store) == []


def test_what_a_beat_says_cannot_move_the_cursor(store: Store, pulse: Pulse) -> None:
    pulse.say("\x1b[2Jtraining")

    assert seen(store)[-1].endswith("?[2Jtraining")


def test_a_disk_that_takes_no_beat_ends_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with Pulse(store) as pulse:
            pulse.plan(planned(store, replicates(SPEC, 2), []))
            pulse.begin(replicates(SPEC, 2), 0)

    assert seen(store) == []


def test_what_is_kept_when_a_session_is_stopped_is_said(store: Store, pulse: Pulse) -> None:
    pulse.plan({"runs": 1.0, "runs/never": 1.0, "work": 0.0})  # one that came, one that did not, and one known before
    watcher = Watcher(store)
    for run in replicates(SPEC, 2):
        with store.try_work(run) as work:
            work.save_snapshot(1, b"state")
    watcher.look()
    pulse.close()
    watcher.look()

    assert watcher.kept() == [
        "1 Run finished meanwhile: kept",
        "2 Runs stand at epoch 1 of 5: kept",
        "the same command goes on from there",
    ]


def test_of_many_processes_the_first_are_named_and_the_others_counted(store: Store) -> None:
    watcher = Watcher(store)
    works = [store.try_work(run) for epochs in range(1, 7) for run in replicates(replace(SPEC, epochs=epochs), 1)]
    for epoch, work in enumerate(works):
        work.save_snapshot(epoch + 1, b"state")
    watcher.look()

    assert watcher.line().startswith("6 Runs in training; process ")
    assert watcher.line().count("ResNet18") == 3
    assert watcher.line().endswith("; and 3 more")
    for work in works:
        work.__exit__()
