"""What goes from a worker to the controller comes back as it was."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bnlab.claims import Claim
from bnlab.lab import replicates
from bnlab.outcomes import Outcome
from bnlab.parts import ResNet
from bnlab.plugin.messages import (
    claim_property,
    crashed,
    outcome_property,
    plain,
    read_claim,
    read_outcome,
    read_status,
)
from bnlab.report.records import ClaimRecord
from bnlab.specs import Replicate
from bnlab.tests.report.samples import SPECS, outcome


def report(*properties: tuple[str, str], when: str = "call", failed: bool = False) -> Any:
    return SimpleNamespace(nodeid="a::b", user_properties=list(properties), when=when, failed=failed)


@pytest.mark.parametrize(
    "told",
    [
        outcome("A100", "H100", estimate=1.0, low=0.5, high=1.5, rho=-0.5),
        outcome(status="inconclusive", n=None, unit=None, seeds_needed=(38, None), unstable=("seed 3 diverged",)),
        Outcome(status="untrained", reason="not judged", missing=tuple(replicates(SPECS[0], 4))),
        Outcome(status="untrained", reason="no reading", missing=(Replicate(SPECS[1], 7, ("gradient_spread",)),)),
        Outcome(status="untrained", reason="", preview=outcome(status="leans held"), changes=("optimizer sgd",)),
    ],
    ids=["judged", "inconclusive", "untrained", "without a probe", "with a preview"],
)
def test_an_outcome_comes_back_as_it_was(told: Outcome) -> None:
    message = report(outcome_property(told))

    assert read_outcome(message) == told
    assert read_status(message) == told.status


def test_a_claim_comes_back_with_the_size_of_its_family() -> None:
    claim = Claim(
        nodeid="a::b", sentence="Two is two.", place="§1", published=np.float64(0.5), reading="corrected", body=print
    )

    record = ClaimRecord(nodeid="a::b", sentence="Two is two.", place="§1", published=0.5, reading="corrected")
    assert read_claim(report(claim_property(claim, 12))) == (record, 12)


def test_other_reports_tell_nothing() -> None:
    assert read_claim(report()) is None
    assert read_outcome(report()) is None
    assert read_outcome(report(outcome_property(outcome()), when="teardown")) is None
    assert read_status(report()) is None
    assert read_status(report(failed=True)) is None


def test_a_claim_that_failed_without_an_outcome_is_an_error() -> None:
    claim = claim_property(Claim(nodeid="a::b", sentence="", place="", body=print), 1)

    assert read_status(report(claim, failed=True)) == "error"
    assert read_status(report(when="???", failed=True)) == "error"


def test_a_report_of_a_dead_worker_is_known() -> None:
    assert crashed(report(when="???"))
    assert not crashed(report())


def test_what_travels_is_plain_json() -> None:
    value = {1: np.float64(0.5), "runs": (np.int64(3), float("nan")), "net": ResNet(18)}

    assert json.dumps(plain(value)) == '{"1": 0.5, "runs": [3, null], "net": "ResNet18"}'
