"""The Lab: load what is there, train what is missing, never a Run twice."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.errors import StoreError
from bnlab.lab import Lab, UntrainedError, replicates
from bnlab.parts import AFFINE_LAYER, BATCHNORM_MINUS
from bnlab.protocol import QUICK
from bnlab.provenance import commit
from bnlab.specs import CIFAR10, Replicate
from bnlab.store import DamagedError
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.labs import QUICK_SPEC, SPEC, new_lab

pytestmark = pytest.mark.usefixtures("no_flushing")


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


PROBED = ("gradient_spread",)


def test_a_run_without_a_probe_is_trained_again_and_keeps_its_readings(lab: Lab, tmp_path: Path, log: Path) -> None:
    before = lab.train(SPEC)

    probed = lab.train(SPEC, probes=PROBED)

    assert len(epochs(log)) == 2 * 4 * 5
    assert [run.probes for run in probed.runs] == [{"gradient_spread": {"seed": float(seed)}} for seed in range(4)]
    assert [run.digest for run in probed.runs] == [run.digest for run in before.runs]
    again = new_lab(tmp_path, None).train(SPEC, probes=PROBED)
    assert [run.probes for run in again.runs] == [run.probes for run in probed.runs]


def test_a_run_that_has_the_probe_is_not_trained_again(lab: Lab, log: Path) -> None:
    lab.train(SPEC, probes=PROBED)

    assert len(lab.train(SPEC, probes=PROBED).runs) == len(lab.train(SPEC).runs) == 4
    assert len(epochs(log)) == 4 * 5


def test_a_run_without_a_probe_is_missing_where_nothing_trains(lab: Lab, tmp_path: Path) -> None:
    lab.train(SPEC)

    with pytest.raises(UntrainedError) as caught:
        new_lab(tmp_path, None).train(SPEC, probes=PROBED)

    assert caught.value.missing == tuple(replicates(QUICK_SPEC, 4, PROBED))


def test_a_second_probe_is_added_to_the_first(lab: Lab) -> None:
    lab.train(SPEC, probes=("a",))
    lab.train(SPEC, probes=("b",))

    assert [set(run.probes) for run in lab.train(SPEC, probes=("b", "a")).runs] == [{"a", "b"}] * 4


def other_numbers(log: Path) -> FakeTrainer:
    """A trainer that gives other weights than the FakeTrainer does."""

    class Other(FakeTrainer):
        def _trained(self, replicate):
            return replace(super()._trained(replicate), weights="ab" * 32)

    return Other(log)


@pytest.mark.parametrize("recorded", [False, True], ids=["stored", "recorded"])
def test_a_probe_of_a_training_with_other_numbers_is_refused(
    lab: Lab, tmp_path: Path, log: Path, recorded: bool
) -> None:
    runs = {run.key: run for run in lab.train(SPEC).runs}
    place = tmp_path / "other" if recorded else tmp_path
    other = replace(new_lab(place, other_numbers(log)), recorded=runs if recorded else {})

    with pytest.raises(StoreError, match="trained twice with different numbers"):
        other.train(SPEC, probes=PROBED)

    assert [run.digest for run in other.train(SPEC).runs] == [run.digest for run in runs.values()]


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
