"""The Lab: load what is there, train what is missing, never a Run twice."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.claims import Claim, Plan, compared, settle
from bnlab.errors import StatisticsError
from bnlab.lab import Lab, UntrainedError, commit, mixed_environment
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, ResNet
from bnlab.protocol import PAPER, QUICK, SMOKE, Protocol
from bnlab.runs import Run
from bnlab.specs import CIFAR10, RunSpec
from bnlab.stats import Definition, Equivalence, Superiority, points
from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer, epochs

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50)
QUICK_SPEC = QUICK.apply(SPEC, CIFAR10)


@pytest.fixture(autouse=True)
def no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # most of the time here, and not what is tested


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "epochs.jsonl"


@pytest.fixture
def lab(tmp_path: Path, log: Path) -> Lab:
    return new_lab(tmp_path, FakeTrainer(log))


def new_lab(folder: Path, trainer: FakeTrainer | None, protocol: Protocol = QUICK) -> Lab:
    return Lab(
        store=Store.open(folder / "store"),
        protocol=protocol,
        data=CIFAR10,
        seeds=protocol.looks[0],
        trainer=None if trainer is None else lambda: trainer,
    )


def claim(body, protocol: Protocol = QUICK, nodeid: str = "claim") -> Claim:
    return Claim(nodeid=nodeid, sentence="", place="", body=body, specs=compared(body, protocol, CIFAR10))


def compare(hypothesis, first, second):
    def body(lab, judge):
        arms = [lab.train(replace(SPEC, norm=norm)).accuracy for norm in (first, second)]
        verdict = judge(hypothesis, *arms)
        assert verdict.held, verdict.reason

    return body


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

    assert caught.value.missing == tuple((QUICK_SPEC, seed) for seed in range(4))


def test_an_interrupted_run_goes_on_from_its_snapshot(lab: Lab, tmp_path: Path, log: Path) -> None:
    class StopError(Exception):
        pass

    def stop_after_two(run: tuple[RunSpec, int], epoch: int, snapshot: bytes) -> None:
        if epoch == 2:
            raise StopError

    trainer = FakeTrainer(log)
    with lab.store.try_work(QUICK_SPEC, 0) as work, pytest.raises(StopError):
        trainer.train(
            [(QUICK_SPEC, 0)], [None], lambda *state: (work.save_snapshot(*state[1:]), stop_after_two(*state))
        )

    (run,) = lab.at(1).train(SPEC).runs

    assert [epoch for _, _, epoch in epochs(log)] == [1, 2, 3, 4, 5]
    assert [resume["epoch"] for resume in run.provenance["resumes"]] == [2]


def test_a_cohort_holds_seeds_at_the_same_epoch_only(lab: Lab, log: Path) -> None:
    with lab.store.try_work(QUICK_SPEC, 1) as work:
        work.save_snapshot(2, b'{"epoch": 2}')

    arm = replace(lab, replicas=4).train(SPEC)

    assert [run.provenance["cohort"] for run in arm.runs] == [3, 1, 3, 3]
    assert sorted(epoch for _, seed, epoch in epochs(log) if seed == 1) == [3, 4, 5]
    assert [len(run.provenance["resumes"]) for run in arm.runs] == [0, 1, 0, 0]


def test_without_a_wish_the_trainer_says_how_many_seeds_train_together(lab: Lab) -> None:
    arm = replace(lab, replicas=None).train(SPEC)

    assert [run.provenance["cohort"] for run in arm.runs] == [2, 2, 2, 2]


def test_a_cohort_with_room_takes_along_what_the_plan_lacks_and_its_program_can_hold(lab: Lab) -> None:
    minus, other = (
        QUICK.apply(replace(SPEC, norm=norm, batch_size=size), CIFAR10)
        for norm, size in ((BATCHNORM_MINUS, 50), (AFFINE_LAYER, 20))
    )
    plan = [(QUICK_SPEC, 0), (other, 0), (minus, 0), (minus, 1), (minus, 2)]

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
    held = [lab.store.try_work(QUICK_SPEC, seed) for seed in range(4)]

    def rest_of_the_plan() -> list[tuple[RunSpec, int]]:
        missing = lab.missing([(other, 0)])
        if not missing:
            for work in held:
                work.__exit__()
        return missing

    replace(lab, plan=rest_of_the_plan).train(SPEC)

    assert epochs(log)[0][0] == other.key
    assert len(epochs(log)) == 5 * 5


def test_what_goes_wrong_while_helping_is_left_to_the_claim_that_needs_it(lab: Lab, log: Path) -> None:
    other = QUICK.apply(replace(SPEC, norm=AFFINE_LAYER), CIFAR10)
    held = [lab.store.try_work(QUICK_SPEC, seed) for seed in range(4)]
    tried = []

    class Broken(FakeTrainer):
        def train(self, cohort, *rest):
            if cohort[0][0] == other:
                tried.append(other)
                for work in held:
                    work.__exit__()
                raise RuntimeError("out of memory")
            return super().train(cohort, *rest)

    helper = replace(lab, plan=lambda: [(other, 0), (other, 1)], trainer=lambda: Broken(log))

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


def test_a_mixed_environment_is_named_and_the_way_of_working_is_not(tmp_path: Path) -> None:
    def run(seed: int, device: str) -> Run:
        lab = new_lab(tmp_path / device, FakeTrainer(tmp_path / "log", device=device)).at(seed + 1)
        return lab.train(SPEC).runs[seed]

    assert mixed_environment([run(0, "H100"), run(1, "H100")]) == {}
    assert mixed_environment([run(0, "H100"), run(1, "A100")]) == {"device": ["A100", "H100"]}


def test_a_claim_decided_at_the_first_look_trains_no_further_seeds(lab: Lab, log: Path) -> None:
    outcome = settle(claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER)), lab, QUICK.looks)

    assert (outcome.status, outcome.look) == ("held", 4)
    assert max(seed for _, seed, _ in epochs(log)) == 3


def test_an_undecided_claim_goes_on_to_the_next_look(lab: Lab) -> None:
    outcome = settle(claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY)), lab, QUICK.looks)

    assert (outcome.status, outcome.look) == ("inconclusive", 8)
    assert [len(arm.runs) for arm in outcome.arms] == [8, 8]


def test_a_claim_whose_body_asserts_on_a_refuted_verdict_is_refuted(lab: Lab) -> None:
    outcome = settle(claim(compare(Superiority(by=points(3.0)), AFFINE_LAYER, BATCHNORM)), lab, QUICK.looks)

    assert outcome.status == "refuted"
    assert "refuted" in outcome.reason


def test_smoke_exercises_whatever_the_numbers_are(tmp_path: Path) -> None:
    lab = new_lab(tmp_path, FakeTrainer(tmp_path / "log"), SMOKE)
    outcome = settle(claim(compare(Equivalence(), BATCHNORM, BATCHNORM), SMOKE), lab, SMOKE.looks)

    assert outcome.status == "exercised"
    assert "(" in outcome.reason, "the StatisticsError of equal digests is noted"


def test_what_smoke_notes_is_an_error_under_a_protocol_that_judges(lab: Lab) -> None:
    with pytest.raises(StatisticsError):
        settle(claim(compare(Equivalence(), BATCHNORM, BATCHNORM)), lab, QUICK.looks)


def test_a_definitional_claim_is_judged_under_smoke(tmp_path: Path) -> None:
    def body(lab, judge):
        assert judge(Definition(), 1, 2).held

    lab = new_lab(tmp_path, None, SMOKE)

    assert settle(claim(body, SMOKE), lab, SMOKE.looks).status == "refuted"


def test_a_claim_without_its_runs_is_untrained_and_an_undecided_one_says_what_would_go_on(lab: Lab) -> None:
    undecided = claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY))
    reading = replace(lab, trainer=None)

    before = settle(undecided, reading, QUICK.looks)
    lab.complete(undecided.needs(4))
    after = settle(undecided, reading, QUICK.looks)

    assert (before.status, len(before.missing)) == ("untrained", 8)
    assert (after.status, after.look, len(after.missing)) == ("inconclusive", 4, 8)
    assert "8 more Runs, for 8 seeds, were not trained" in after.reason


def test_the_open_plan_follows_each_claim_to_its_look(lab: Lab) -> None:
    decided = claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER), nodeid="decided")
    undecided = claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY), nodeid="undecided")
    plan = Plan(claims=(decided, undecided), looks=QUICK.looks)
    reading = replace(lab, trainer=None)

    at_first = plan.open(reading)
    lab.complete(plan.first_look())
    then = plan.open(reading)

    assert at_first == plan.first_look()
    assert len(at_first) == 16
    assert {(spec.norm, seed) for spec, seed in then} == {
        (norm, seed) for norm in (GAMMA_ONLY, BETA_ONLY) for seed in (4, 5, 6, 7)
    }


def test_a_body_tells_its_specs_without_training() -> None:
    body = compare(Equivalence(), BATCHNORM_MINUS, BATCHNORM)

    assert [spec.norm for spec in compared(body, PAPER, CIFAR10)] == [BATCHNORM_MINUS, BATCHNORM]
    assert {spec.epochs for spec in compared(body, QUICK, CIFAR10)} == {5}
