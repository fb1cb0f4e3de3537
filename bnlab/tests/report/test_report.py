"""What is told of claims: in the tables and on the terminal."""

import json
from dataclasses import replace

import pytest

from bnlab.report import tables, terminal
from bnlab.report.records import ONE_TEST_SET, ClaimRecord
from bnlab.stats.family import REGISTERED
from bnlab.statuses import STATUSES, exit_code
from bnlab.tests.report.samples import SPECS, judged, outcome, summary, untrained


def test_a_mixed_environment_is_told_on_the_terminal() -> None:
    said = terminal.answer(summary(judged("a", "H100", "A100"), judged("b", "H100")), "report.html")

    assert "1 claim compares Runs that were not trained alike: see mixed (device)" in said


def test_the_answer_fits_on_a_screen_however_many_claims_did_not_hold() -> None:
    many = [
        judged(f"hypotheses/test_a.py::{i}", status="refuted", estimate=-2.0, low=-3.0, high=-1.0) for i in range(40)
    ]

    said = terminal.answer(summary(*many), "report.html")

    assert said[0] == "REFUTED test_a.py::0: -2.00 points [-3.00, -1.00]"
    assert said[-3:] == [
        "and 28 more, in the report",
        "verdicts: 40 refuted (protocol paper, data cifar10, 40 claims in all)",
        "report: report.html",
    ]
    assert len(said) < 20


def test_previews_are_counted_apart_from_verdicts() -> None:
    preview = replace(outcome(status="leans held"), protocol="quick")
    leaning = ClaimRecord(nodeid="c", outcome=replace(untrained("c", *SPECS).outcome, preview=preview))

    several = summary(judged("a"), untrained("b", *SPECS), leaning)

    assert terminal.answer(several, "report.html")[:2] == [
        "verdicts: 1 held, 2 untrained (protocol paper, data cifar10, 3 claims in all)",
        "previews, no verdicts (protocol quick): 1 leaning held, 1 without Runs",
    ]
    assert several.q.keys() == {"a"}


def test_a_family_is_the_registered_contrasts_whatever_was_selected() -> None:
    several = summary(judged("a", p_hold=1e-6), untrained("b", *SPECS), registered=3)

    # at 4 seeds a p-value counts 16 times, for the looks
    assert several.q == {"a": pytest.approx(REGISTERED * 16 * 1e-6)}


def test_claims_that_ask_the_same_count_once_and_share_their_q() -> None:
    first, again = (judged(name, p_hold=1e-6, contrast="same") for name in "ab")

    several = summary(first, again, judged("c", p_hold=1e-7, contrast="other"), registered=3)

    assert several.q["a"] == several.q["b"] == pytest.approx(REGISTERED * 16 * 1e-6 / 2)
    assert several.q["c"] == pytest.approx(REGISTERED * 16 * 1e-7)


def test_an_error_after_an_outcome_is_an_error_and_no_part_of_the_family() -> None:
    record = judged("a")
    broken = ClaimRecord(nodeid="a", outcome=record.outcome, error="died")

    assert (broken.status, broken.reason, broken.verdict) == ("error", "died", record.verdict)
    assert summary(broken).q == {}


@pytest.mark.parametrize(
    ("record", "status"), [(judged("a"), "held"), (untrained("b"), "untrained"), (ClaimRecord(nodeid="c"), "none")]
)
def test_the_status_of_a_claim_is_that_of_its_outcome(record: ClaimRecord, status: str) -> None:
    assert record.status == status
    assert terminal.line(record).startswith(f"{STATUSES[record.status].word} {record.nodeid}: ")


def test_counts_leave_out_what_did_not_happen() -> None:
    assert summary(judged("a"), judged("b"), ClaimRecord(nodeid="c")).counted == "2 held, 1 without an outcome"


@pytest.mark.parametrize(
    ("decides", "allowed", "codes"),
    [
        (True, [], {"refuted": 1, "inconclusive": 10, "untrained": 11, "error": 1, "none": 1}),
        (True, [10], {"refuted": 1, "untrained": 11, "error": 1, "none": 1}),
        (True, [10, 11], {"refuted": 1, "error": 1, "none": 1}),
        (False, [], {"error": 1, "none": 1}),
    ],
)
def test_what_asks_for_which_exit_code(decides: bool, allowed: list[int], codes: dict[str, int]) -> None:
    asked = {status: exit_code(status, decides=decides, allowed=frozenset(allowed)) for status in STATUSES}

    assert {status: code for status, code in asked.items() if code} == codes


def test_twins_and_controls_are_counted_apart() -> None:
    twin = replace(judged("b"), reading="corrected")

    assert summary(judged("a"), twin, replace(twin, reading="control")).counted == (
        "1 held; twins and controls: 2 held"
    )


def test_claims_json_says_what_was_mixed_and_what_is_missing() -> None:
    several = summary(judged('a["x, y"]', "A100", "H100", estimate=1.0), untrained("b", *SPECS))

    content = json.loads(tables.as_json(several, ()))

    assert content["claims"][0]["mixed"] == {"device": ["A100", "H100"]}
    assert content["claims"][0]["outcome"]["verdict"]["margins"] == {"0.5": "held", "1": "inconclusive"}
    assert len(content["claims"][1]["outcome"]["missing"]) == 8
    assert content["note"] == ONE_TEST_SET
