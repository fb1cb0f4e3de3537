"""The Lab: load what is there, train what is missing, never a Run twice."""

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from bnlab.errors import SnapshotError, StoreError
from bnlab.lab import Lab, UntrainedError, replicates
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE
from bnlab.protocol import QUICK
from bnlab.provenance import commit
from bnlab.specs import CIFAR10, Replicate
from bnlab.store import DamagedError, Store
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.labs import QUICK_SPEC, SPEC, new_lab, other_numbers

pytestmark = pytest.mark.usefixtures("no_flushing")

NORMS = (BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE)


def test_an_arm_holds_the_seeds_of_the_look_under_the_protocol(lab: Lab) -> None:
    arm = lab.train(SPEC)

    assert arm.spec == QUICK_SPEC
    assert [run.seed for run in arm.runs] == [0, 1, 2, 3]


def test_a_later_look_trains_only_the_further_seeds(lab: Lab, log: Path) -> None:
    lab.train(SPEC)
    before = len(epochs(log))

    lab.at(8).train(SPEC)

    assert {seed for _, seed, _ in epochs(log)[before:]} == {4, 5, 6, 7}


def test_another_lab_on_the_store_trains_nothing(lab: Lab, tmp_path: Path, log: Path) -> None:
    first = lab.train(SPEC)
    before = epochs(log)

    second = new_lab(tmp_path, FakeTrainer(log)).train(SPEC)

    assert epochs(log) == before
    assert [run.digest for run in second.runs] == [run.digest for run in first.runs]


def test_runs_that_are_recorded_are_not_trained_and_not_copied(lab: Lab, tmp_path: Path) -> None:
    runs = {run.key: run for run in lab.train(SPEC).runs}
    other = replace(new_lab(tmp_path / "other", None), recorded=runs)

    assert [run.key for run in other.train(SPEC).runs] == list(runs)
    assert list(other.store.runs()) == []


def test_a_lab_that_may_not_train_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UntrainedError, match="4 Runs") as caught:
        new_lab(tmp_path, None).train(SPEC)

    assert caught.value.missing == tuple(replicates(QUICK_SPEC, 4))


def test_an_interrupted_run_goes_on_from_its_snapshot(lab: Lab, tmp_path: Path, log: Path) -> None:
    class StopError(Exception):
        pass

    def stop_after_two(run: Replicate, epoch: int, snapshot: bytes) -> None:
        if epoch == 2:
            raise StopError

    trainer = FakeTrainer(log)
    with lab.store.try_work(Replicate(QUICK_SPEC, 0)) as work, pytest.raises(StopError):
        trainer.train(
            [Replicate(QUICK_SPEC, 0)], [None], lambda *state: (work.save_snapshot(*state[1:]), stop_after_two(*state))
        )

    (run,) = lab.at(1).train(SPEC).runs

    assert [epoch for _, _, epoch in epochs(log)] == [1, 2, 3, 4, 5]
    assert [resume["epoch"] for resume in run.provenance["resumes"]] == [2]


def test_a_cohort_holds_seeds_at_the_same_epoch_only(lab: Lab, log: Path) -> None:
    with lab.store.try_work(Replicate(QUICK_SPEC, 1)) as work:
        work.save_snapshot(2, b'{"epoch": 2}')

    arm = replace(lab, replicas=4).train(SPEC)

    assert [run.provenance["cohort"] for run in arm.runs] == [3, 1, 3, 3]
    assert sorted(epoch for _, seed, epoch in epochs(log) if seed == 1) == [3, 4, 5]
    assert [len(run.provenance["resumes"]) for run in arm.runs] == [0, 1, 0, 0]


def test_if_no_number_was_asked_for_the_trainer_says_how_many_seeds_train_together(lab: Lab) -> None:
    arm = replace(lab, replicas=None).train(SPEC)

    assert [run.provenance["cohort"] for run in arm.runs] == [2, 2, 2, 2]


def test_a_cohort_with_room_takes_along_what_the_plan_lacks_and_its_program_can_hold(lab: Lab) -> None:
    minus, other = (
        QUICK.apply(replace(SPEC, norm=norm, batch_size=size), CIFAR10)
        for norm, size in ((BATCHNORM_MINUS, 50), (AFFINE_LAYER, 20))
    )
    plan = [Replicate(QUICK_SPEC, 0), Replicate(other, 0), *replicates(minus, 3)]

    replace(lab, replicas=4, plan=lambda: plan).at(2).train(SPEC)

    cohorts = {(run.spec, run.seed): run.provenance["cohort"] for run in lab.store.runs()}
    assert cohorts == {(QUICK_SPEC, 0): 4, (QUICK_SPEC, 1): 4, (minus, 0): 4, (minus, 1): 4}


def test_a_full_cohort_does_not_ask_what_else_the_plan_lacks(lab: Lab) -> None:
    def plan():
        raise AssertionError("asked")

    assert len(replace(lab, replicas=4, plan=plan).train(SPEC).runs) == 4


def test_two_labs_share_the_work_and_train_nothing_twice(tmp_path: Path, log: Path) -> None:
    labs = [replace(new_lab(tmp_path, FakeTrainer(log, seconds=0.01)), worker=name) for name in ("a", "b")]
    threads = [threading.Thread(target=lab.train, args=(SPEC,)) for lab in labs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    done = epochs(log)

    assert len(done) == len(set(done)) == 4 * 5
    assert {run.provenance["worker"] for run in labs[0].train(SPEC).runs} == {"a", "b"}


def train_beside_others(folder: Path, device: str) -> None:
    """In a process of its own: train two programs of 16 Runs with cohorts of 16; locking a Run takes a while."""

    class Slow(Store):
        def try_work(self, replicate, **options):
            time.sleep(0.01)
            return super().try_work(replicate, **options)

    trainer = FakeTrainer(folder / "epochs.jsonl", seconds=0.02, room=16, measuring=0.2)
    plan = [
        Replicate(QUICK.apply(replace(SPEC, norm=norm, batch_size=size), CIFAR10), seed)
        for size in (20, 50)
        for norm in NORMS
        for seed in range(4)
    ]
    lab = replace(new_lab(folder, trainer), store=Slow(folder / "store"), replicas=None, device=device)
    print("ready", flush=True)
    input()
    replace(lab, plan=lambda: lab.missing(plan)).runs(plan)


@pytest.mark.parametrize("devices", [["gpu-0"] * 4, ["gpu-0", "gpu-1"] * 2], ids=["one device", "two devices"])
def test_four_processes_on_one_store_train_cohorts_of_full_size(tmp_path: Path, log: Path, devices: list[str]) -> None:
    code = "import pathlib, sys; from bnlab.tests import test_lab; "
    code += "test_lab.train_beside_others(pathlib.Path(sys.argv[1]), sys.argv[2])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for device in devices
    ]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:  # at the same time
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
    assert [process.returncode for process in processes] == [0] * 4

    cohorts = [run.provenance["cohort"] for run in Store.open(tmp_path / "store").runs()]
    assert cohorts == [16] * 32
    assert len(epochs(log)) == len(set(epochs(log))) == 32 * 5


def test_every_lock_is_tried_before_a_few_are_waited_for(lab: Lab) -> None:
    class Counting(Store):
        asked: ClassVar[list[tuple[int, bool]]] = []

        def try_work(self, replicate, *, patient=True):
            self.asked.append((replicate.seed, patient))
            return super().try_work(replicate, patient=patient)

    runs = [Replicate(QUICK_SPEC, seed) for seed in range(9)]
    with ExitStack() as others:
        for run in runs[:6]:
            others.enter_context(lab.store.try_work(run))
        assert replace(lab, store=Counting(lab.store.path), replicas=4).train_one(runs)

    assert Counting.asked == [(seed, False) for seed in range(9)] + [(seed, True) for seed in range(4)]
    assert [lab.store.has(run) for run in runs] == [False] * 6 + [True] * 3


def test_a_device_trains_one_cohort_at_a_time(lab: Lab, log: Path) -> None:
    shared = replace(lab, device="gpu-0")
    with lab.store.try_lock("gpu-0"):
        assert not shared.train_one([Replicate(QUICK_SPEC, 0)])
        assert lab.train_one([Replicate(QUICK_SPEC, 1)]), "a Lab of another device waits for nobody"

    assert shared.train_one([Replicate(QUICK_SPEC, 0)])
    assert [seed for _, seed, _ in epochs(log)] == [1] * 5 + [0] * 5


def test_a_lab_waits_for_its_turn_to_put_a_cohort_together_and_plans_once(lab: Lab) -> None:
    planned = list[int]()
    turn = lab.store.try_lock("gathering")
    threading.Timer(0.3, turn.__exit__, (None, None, None)).start()

    trained = replace(lab, replicas=4, plan=lambda: planned.append(1) or []).train_one([Replicate(QUICK_SPEC, 0)])

    assert (trained, planned) == (True, [1])


def test_the_size_of_a_cohort_is_known_before_a_run_is_locked(lab: Lab, log: Path) -> None:
    class Measuring(FakeTrainer):
        def replicas(self, spec):
            with lab.store.try_work(Replicate(QUICK_SPEC, 0)) as work:
                assert work is not None, "the Run was locked"
            return 2

    arm = replace(lab, replicas=None, trainer=lambda: Measuring(log)).train(SPEC)

    assert len(arm.runs) == 4


def test_while_others_hold_its_runs_a_lab_trains_what_else_the_plan_needs(lab: Lab, log: Path) -> None:
    other = QUICK.apply(replace(SPEC, norm=AFFINE_LAYER), CIFAR10)
    locked = [lab.store.try_work(Replicate(QUICK_SPEC, seed)) for seed in range(4)]

    def rest_of_the_plan() -> list[Replicate]:
        missing = lab.missing([Replicate(other, 0)])
        if not missing:
            for work in locked:
                work.__exit__()
        return missing

    replace(lab, plan=rest_of_the_plan).train(SPEC)

    assert epochs(log)[0][0] == other.key
    assert len(epochs(log)) == 5 * 5


def test_a_run_is_trained_once_for_the_probes_of_all_claims_but_not_for_a_user_s(lab: Lab, log: Path) -> None:
    asked = replace(lab, probes={QUICK_SPEC: ("a", "b", "my_probe:Mine@12")})
    asked.train(SPEC, probes=("a",))
    asked.train(SPEC, probes=("b",))
    asked.train(SPEC)

    assert len(epochs(log)) == 4 * 5


def test_what_goes_wrong_while_helping_is_left_to_the_claim_that_needs_it(lab: Lab, log: Path) -> None:
    other = QUICK.apply(replace(SPEC, norm=AFFINE_LAYER), CIFAR10)
    locked = [lab.store.try_work(Replicate(QUICK_SPEC, seed)) for seed in range(4)]
    tried = []

    class Broken(FakeTrainer):
        def train(self, cohort, *rest):
            if cohort[0].spec == other:
                tried.append(other)
                for work in locked:
                    work.__exit__()
                raise RuntimeError("out of memory")
            return super().train(cohort, *rest)

    helper = replace(lab, plan=lambda: replicates(other, 2), trainer=lambda: Broken(log))

    assert len(helper.train(SPEC).runs) == 4
    assert tried == [other]
    assert helper.open_plan() == []
    with pytest.raises(RuntimeError, match="out of memory"):
        helper.train(replace(SPEC, norm=AFFINE_LAYER))


def test_provenance_says_where_a_run_comes_from(lab: Lab) -> None:
    provenance = lab.train(SPEC).runs[0].provenance

    assert provenance["protocol"] == "quick"
    assert provenance["worker"] == "main"
    assert provenance["device"] == "fake"
    assert provenance["commit"] == commit()
    assert provenance["images_per_s"] == 200.0
    assert provenance["started"] <= provenance["finished"]


def damage(lab: Lab, seed: int) -> None:
    """Change a byte of a finished Run."""
    key = Replicate(QUICK_SPEC, seed).key
    file = lab.store.path / "runs" / key[:2] / key / "result.json"
    file.write_text(file.read_text() + " ")


def test_a_damaged_run_is_trained_again_by_a_lab_that_mends(lab: Lab, tmp_path: Path, log: Path) -> None:
    before = lab.train(SPEC)
    damage(lab, 2)
    lines: list[str] = []

    mending = replace(new_lab(tmp_path, FakeTrainer(log)), mends=True, progress=lines.append)
    after = mending.train(SPEC)

    assert [run.digest for run in after.runs] == [run.digest for run in before.runs]
    assert [seed for _, seed, _ in epochs(log)[4 * 5 :]] == [2] * 5
    assert any("damaged" in line and "seed 2" in line for line in lines)
    assert "damaged" in str(after.runs[2].provenance["resumes"])


def test_a_damaged_run_is_an_error_for_a_lab_that_does_not_mend(lab: Lab, tmp_path: Path) -> None:
    lab.train(SPEC)
    damage(lab, 2)

    with pytest.raises(DamagedError, match=r"result\.json"):
        new_lab(tmp_path, None).train(SPEC)


def test_a_snapshot_that_the_trainer_refuses_is_set_aside(lab: Lab, log: Path) -> None:
    with lab.store.try_work(Replicate(QUICK_SPEC, 0)) as work:
        work.save_snapshot(1, b'{"epoch": 1}')
        work.save_snapshot(2, b"no snapshot of this trainer")

    (run,) = lab.at(1).train(SPEC).runs

    assert [epoch for _, _, epoch in epochs(log)] == [2, 3, 4, 5]
    assert "could not be restored" in str(run.provenance["resumes"])


@pytest.mark.parametrize("epoch", [99, -5, 1])
def test_a_snapshot_of_another_epoch_than_it_was_kept_as_is_set_aside(lab: Lab, log: Path, epoch: int) -> None:
    with lab.store.try_work(Replicate(QUICK_SPEC, 0)) as work:
        work.save_snapshot(2, json.dumps({"epoch": epoch}).encode())

    (run,) = lab.at(1).train(SPEC).runs

    assert [epoch for _, _, epoch in epochs(log)] == [1, 2, 3, 4, 5]
    assert f"(it is of epoch {epoch})" in str(run.provenance["resumes"])


def test_a_snapshot_that_cannot_be_restored_is_set_aside_and_the_one_before_it_serves(
    tmp_path: Path, log: Path
) -> None:
    class Refusing(FakeTrainer):
        def train(self, cohort, resume, after_epoch):
            for run, snapshot in zip(cohort, resume, strict=True):
                if snapshot and b"renamed" in snapshot:
                    raise SnapshotError(run, "KeyError: 'bn1.scale'")
            return super().train(cohort, resume, after_epoch)

    lab = new_lab(tmp_path, Refusing(log))
    for seed in range(4):
        with lab.store.try_work(Replicate(QUICK_SPEC, seed)) as work:
            work.save_snapshot(1, b'{"epoch": 1}')
            work.save_snapshot(2, b'{"epoch": 2, "is": "renamed"}' if seed == 2 else b'{"epoch": 2}')

    runs = replace(lab, replicas=4).train(SPEC).runs

    assert sorted((seed, epoch) for _, seed, epoch in epochs(log)) == sorted(
        (seed, epoch) for seed in range(4) for epoch in range(2 if seed == 2 else 3, 6)
    )
    assert "(KeyError: 'bn1.scale') and was set aside" in str(runs[2].provenance["resumes"])


def test_runs_of_a_cohort_are_kept_though_one_of_them_cannot_be(tmp_path: Path, log: Path) -> None:
    class Skipping(FakeTrainer):
        def _trained(self, replicate):
            run = super()._trained(replicate)
            return replace(run, weights="none") if replicate.seed == 1 else run

    lab = replace(new_lab(tmp_path, Skipping(log)), replicas=4)
    with pytest.raises(StoreError, match=r"seed 1, cannot be kept \(it has weights 'none', expected a SHA-256\)"):
        lab.train(SPEC)

    assert [lab.store.has(Replicate(QUICK_SPEC, seed)) for seed in range(4)] == [True, False, True, True]


def test_runs_that_the_store_has_with_other_numbers_than_the_recorded_ones_are_told(
    lab: Lab, tmp_path: Path, log: Path
) -> None:
    recorded = {run.key: run for run in new_lab(tmp_path / "other", other_numbers(log)).train(SPEC).runs}
    stored = lab.train(SPEC).runs

    with pytest.warns(UserWarning, match="is judged as the store has it; reports/runs/ has other numbers"):
        arm = replace(new_lab(tmp_path, None), recorded=recorded).train(SPEC)

    assert [run.digest for run in arm.runs] == [run.digest for run in stored]
