"""One process of a session: it trains until no claim lacks a Run."""

from pathlib import Path

import pytest

from bnlab.errors import StoreError
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BETA_ONLY, GAMMA_ONLY
from bnlab.plan import Plan
from bnlab.plugin import session as session_module
from bnlab.plugin.session import Session
from bnlab.protocol import QUICK
from bnlab.settings import Settings
from bnlab.specs import CIFAR10
from bnlab.stats import Equivalence, Superiority, points
from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import claim, compare

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> Session:
    """Two claims, of which one goes on to the second look: 24 Runs."""
    monkeypatch.setattr(session_module, "open_trainer", lambda session: FakeTrainer(log))
    decided = claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER), nodeid="decided")
    undecided = claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY), nodeid="undecided")
    return Session(
        settings=Settings(root=tmp_path, protocol=QUICK, source="cifar10", store=tmp_path / "store", device="cpu"),
        data=CIFAR10,
        claims={"decided": decided, "undecided": undecided},
        registered=2,
    )


@pytest.mark.parametrize("failing", [None, 0, 6, 12])
def test_a_store_that_fails_while_planning_costs_no_run(
    session: Session, monkeypatch: pytest.MonkeyPatch, failing: int | None
) -> None:
    calls = 0
    plan_as_ever = Plan.open

    def plan(self: Plan, lab: object) -> list:
        nonlocal calls
        calls += 1
        with monkeypatch.context() as patch:
            if calls - 1 == failing:
                patch.setattr(Store, "has", fail)
            return plan_as_ever(self, lab)

    def fail(*anything: object) -> bool:
        raise StoreError("cannot read the store (Input/output error)")

    monkeypatch.setattr(Plan, "open", plan)

    session.drain()

    assert calls > 12, "call 12 is the last one, after which a claim could be forgotten"
    assert len(list(session.lab.store.runs())) == 24
    assert session.not_planned() == []
