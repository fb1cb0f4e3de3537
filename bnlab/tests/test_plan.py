"""Which Runs the claims of a session need."""

import errno
from dataclasses import replace

import pytest

from bnlab.errors import StatisticsError
from bnlab.lab import Lab
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BETA_ONLY, GAMMA_ONLY
from bnlab.plan import Plan, merged
from bnlab.protocol import QUICK
from bnlab.specs import Replicate
from bnlab.stats import Equivalence, Superiority, points
from bnlab.store import DamagedError
from bnlab.tests.labs import SPEC, claim, compare

pytestmark = pytest.mark.usefixtures("no_flushing")


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
    assert {(run.spec.norm, run.seed) for run in then} == {
        (norm, seed) for norm in (GAMMA_ONLY, BETA_ONLY) for seed in (4, 5, 6, 7)
    }


def test_a_run_that_several_claims_need_is_planned_once_with_all_their_probes() -> None:
    runs = [Replicate(SPEC, 0), Replicate(SPEC, 1, ("a",)), Replicate(SPEC, 0, ("b",)), Replicate(SPEC, 1, ("c", "a"))]

    assert merged(runs) == [Replicate(SPEC, 0, ("b",)), Replicate(SPEC, 1, ("a", "c"))]


def test_a_claim_that_the_disk_failed_once_is_planned_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER))
    plan, reading = Plan(claims=(asked,), looks=QUICK.looks), replace(lab, trainer=None)

    def fail(*anything: object) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(type(lab.store), "has", fail)
        assert plan.open(reading) == []
        assert list(plan.failures) == ["claim"]

    assert plan.open(reading) == asked.runs(4)
    assert plan.failures == {}


@pytest.mark.parametrize("error", [StatisticsError("no margin"), ZeroDivisionError()], ids=repr)
def test_a_claim_whose_body_is_wrong_needs_nothing_more_and_is_named(lab: Lab, error: Exception) -> None:
    def body(lab, judge):
        lab.train(SPEC)
        raise error

    plan = Plan(claims=(claim(body),), looks=QUICK.looks)

    assert plan.open(replace(lab, trainer=None)) == []
    assert plan.open(replace(lab, trainer=None)) == []
    assert plan.failures == {"claim": error}


def test_a_claim_on_a_damaged_run_is_named_and_hides_no_other(lab: Lab) -> None:
    broken = claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER), nodeid="broken")
    other = claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY), nodeid="other")
    lab.complete(broken.runs(4))
    for file in (lab.store.path / "runs").rglob("result.json"):
        file.write_text(file.read_text() + " ")
    plan = Plan(claims=(broken, other), looks=QUICK.looks)

    needed = plan.open(replace(lab, trainer=None, loaded={}))

    assert needed == other.runs(4)
    assert {nodeid: type(error) for nodeid, error in plan.failures.items()} == {"broken": DamagedError}
