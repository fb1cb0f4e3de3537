"""What each kind decides, says and hands to the report."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bnlab.stats import (
    Beaten,
    Definition,
    Equivalence,
    Interaction,
    NonInferiority,
    Ordering,
    Replication,
    Superiority,
    Verdict,
    log_ratio,
    nats,
    points,
    ratio,
)
from bnlab.stats.arms import Arms
from bnlab.tests.stats.samples import drawn, sample


def around(label, mean, half_width=0.1):
    """Four values of this mean; two such arms have a 99 % interval of ± 3.03 half widths (t = 3.707, df = 6)."""
    return sample(label, [mean - half_width, mean - half_width, mean + half_width, mean + half_width])


HALF = 3.7074280 * 0.1 * np.sqrt(2 / 3)  # 0.3027: half the interval of a difference of two such arms

DECISIONS = [
    # hypothesis, means of the arms, status, where the interval lies
    (Equivalence(), (0.0, 0.0), "held", "inside (-1, +1)"),
    (Equivalence(), (0.69, 0.0), "held", "inside (-1, +1)"),
    (Equivalence(), (0.71, 0.0), "inconclusive", "across the edge of (-1, +1)"),
    (Equivalence(), (-0.71, 0.0), "inconclusive", "across the edge of (-1, +1)"),
    (Equivalence(), (1.29, 0.0), "inconclusive", "across the edge of (-1, +1)"),
    (Equivalence(), (1.31, 0.0), "refuted", "outside (-1, +1)"),
    (Equivalence(), (-1.31, 0.0), "refuted", "outside (-1, +1)"),
    (Equivalence(margin=points(2.0)), (1.31, 0.0), "held", "inside (-2, +2)"),
    (Superiority(by=points(3.0)), (3.31, 0.0), "held", "above +3"),
    (Superiority(by=points(3.0)), (3.29, 0.0), "inconclusive", "on both sides of +3"),
    (Superiority(by=points(3.0)), (2.71, 0.0), "inconclusive", "on both sides of +3"),
    (Superiority(by=points(3.0)), (2.69, 0.0), "refuted", "below +3"),
    (Superiority(), (0.31, 0.0), "held", "above 0"),
    (Superiority(), (0.29, 0.0), "inconclusive", "neither above 0 nor below +0.5, the smallest effect of interest"),
    (Superiority(), (0.21, 0.0), "inconclusive", "neither above 0 nor below +0.5, the smallest effect of interest"),
    (Superiority(), (0.19, 0.0), "refuted", "below +0.5, at most a negligible effect"),
    (Superiority(), (-5.0, 0.0), "refuted", "below 0"),
    (
        Superiority(smallest=points(1.0)),
        (0.5, 0.0),
        "held",
        "inside (0, +1), so small that it may be held or refuted",
    ),
    (NonInferiority(), (-0.69, 0.0), "held", "above -1"),
    (NonInferiority(), (-0.71, 0.0), "inconclusive", "on both sides of -1"),
    (NonInferiority(), (-1.31, 0.0), "refuted", "below -1"),
    (Interaction(by=points(3.0)), (5.0, 1.0, 2.0, 2.0), "held", "above +3"),
    (Interaction(by=points(3.0)), (5.0, 1.0, 4.0, 2.0), "refuted", "below +3"),
    (Interaction(by=points(3.0)), (5.0, 1.0, 3.0, 2.0), "inconclusive", "on both sides of +3"),
    (Ordering(), (1.0, 0.0, 0.5, -9.0), "held", "above 0"),
    (Ordering(), (1.0, 0.0, 0.8, -9.0), "inconclusive", "on both sides of 0"),
    (Ordering(), (1.0, 0.0, 1.5, -9.0), "refuted", "below 0"),
    (Ordering(margin=points(1.0)), (1.0, 1.0, 1.5, -9.0), "held", "above -1"),
    (Ordering(margin=points(1.0)), (1.0, 1.0, 2.1, -9.0), "inconclusive", "on both sides of -1"),
    (Ordering(margin=points(1.0)), (1.0, 1.0, 2.6, -9.0), "refuted", "below -1"),
]


@pytest.mark.parametrize(
    ("hypothesis", "means", "status", "place"),
    DECISIONS,
    ids=[f"{hypothesis.kind}-{number}" for number, (hypothesis, *_) in enumerate(DECISIONS)],
)
def test_verdict_follows_from_where_the_interval_lies(hypothesis, means, status, place):
    arms = [around(label, mean) for label, mean in zip("ABCD", means, strict=False)]

    verdict = hypothesis.at(0.99).judge(*arms)

    assert verdict.status == status
    assert (verdict.held, verdict.refuted, verdict.inconclusive) == tuple(
        status == word for word in ("held", "refuted", "inconclusive")
    )
    assert f"], {place}: {status} (n = 4 + 4" in verdict.reason


@pytest.mark.parametrize("kind", [Equivalence(), Superiority(), NonInferiority(), Ordering(), Interaction()])
def test_p_values_are_below_half_a_percent_exactly_where_the_interval_decides(kind):
    arms = 4 if isinstance(kind, Ordering | Interaction) else 2
    for seed in range(40):
        means = np.random.default_rng(seed).uniform(-2, 2, arms)
        verdict = kind.at(0.99).judge(*drawn(seed, 6, means, (0.4, 0.6, 0.3, 0.8)))
        assert verdict.held == (verdict.p_hold < 0.005)
        assert verdict.refuted == (verdict.p_refute < 0.005 and not verdict.held)


def test_an_interval_inside_the_small_band_is_held_and_not_refuted_as_well():
    rule = Superiority(smallest=points(1.0), level=0.99).rule(2)

    decision = rule.decide(Arms.stable(np.array([0.5, 0.0]), np.array([0.01, 0.01]), 4))

    assert (bool(decision.held), bool(decision.refuted)) == (True, False)


def test_ordering_is_refuted_at_the_bonferroni_level_only():
    # A - B is 0.35 below 0: outside the 99 % interval (0.30), inside that of three rivals (t(0.99833, 6) -> 0.38)
    arms = [around(label, mean) for label, mean in zip("ABCD", (0.0, 0.35, -9.0, -9.5), strict=True)]

    two, four = Ordering(level=0.99).judge(*arms[:2]), Ordering(level=0.99).judge(*arms)

    assert two.refuted
    assert two.level == 0.99
    assert four.inconclusive
    assert four.level == pytest.approx(1 - 0.01 / 3)
    assert four.low < 0 < four.high


def test_ordering_names_the_rival_that_decides():
    arms = [around(label, mean) for label, mean in zip(["Ours", "Weak", "Strong"], (2.0, 0.0, 1.0), strict=True)]

    verdict = Ordering(level=0.99).judge(*arms)

    assert verdict.reason == (
        "Ours - Strong = +1.00 points (the deciding one of 2 rivals), 99 % interval [+0.70, +1.30], above 0: held "
        "(n = 4 + 4 + 4)."
    )


@pytest.mark.parametrize("by", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(25))
def test_beaten_is_the_complement_of_ordering(by, seed):
    means = np.random.default_rng(seed).uniform(-1.5, 1.5, 3)
    arms = drawn(seed, 5, means, (0.3, 0.4, 0.5))

    ordering, beaten = Ordering(margin=points(by)).judge(*arms), Beaten(by=points(by)).judge(*arms)

    turned = {"held": "refuted", "refuted": "held", "inconclusive": "inconclusive"}
    assert beaten.status == turned[ordering.status]
    assert (beaten.p_hold, beaten.p_refute) == (ordering.p_refute, ordering.p_hold)
    same = ("estimate", "low", "high", "level", "n", "seeds_needed", "rho", "arms")
    assert [getattr(beaten, name) for name in same] == [getattr(ordering, name) for name in same]
    assert beaten.reason == ordering.reason.replace(f": {ordering.status} (", f": {beaten.status} (")


def test_beaten_by_zero_holds_where_another_arm_is_better():
    verdict = Beaten(level=0.99).judge(around("BatchNorm", 0.0), around("AffineLayer", 1.0))

    assert verdict.held
    assert verdict.reason == (
        "BatchNorm - AffineLayer = -1.00 points, 99 % interval [-1.30, -0.70], below 0: held (n = 4 + 4)."
    )


@pytest.mark.parametrize(
    ("mean", "statuses"),
    [
        (0.0, ("held", "held", "held")),
        (0.6, ("inconclusive", "held", "held")),
        (1.0, ("refuted", "inconclusive", "held")),
        (2.5, ("refuted", "refuted", "refuted")),
    ],
)
def test_equivalence_shows_three_margins_side_by_side(mean, statuses):
    verdict = Equivalence(margin=points(2.0), level=0.99).judge(around("A", mean), around("B", 0.0))

    assert verdict.margins == dict(zip((0.5, 1.0, 2.0), statuses, strict=True))


def test_only_equivalence_in_points_has_margins():
    in_nats = [replace(around(label, 1.0), unit="nats") for label in "AB"]

    assert Equivalence(margin=nats(1.0)).judge(*in_nats).margins == {}
    assert NonInferiority().judge(around("A", 0.0), around("B", 0.0)).margins == {}


def test_reason_is_the_sentence_of_the_report():
    minus, batchnorm = around("BatchNorm-minus", 80.12), around("BatchNorm", 80.0)

    verdict = Equivalence(level=0.99).judge(minus, batchnorm)

    assert verdict.reason == (
        "BatchNorm-minus - BatchNorm = +0.12 points, 99 % interval [-0.18, +0.42], inside (-1, +1): held (n = 4 + 4)."
    )


def test_reason_of_an_interaction_shows_both_differences():
    arms = [around(label, mean) for label, mean in zip("ABCD", (5.0, 1.0, 2.0, 2.0), strict=True)]

    assert (
        Interaction(by=points(3.0)).judge(*arms).reason.startswith("(A - B) - (C - D) = +4.00 points, 99.9 % interval")
    )


def test_verdict_carries_what_the_report_needs_as_plain_json():
    verdict = Equivalence(level=0.99).judge(around("A", 80.12), around("B", 80.0))

    record = verdict.to_json()

    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert Verdict.from_json(record) == verdict
    assert record["kind"] == "equivalence"
    assert record["n"] == [4, 4]
    assert record["margins"] == {"0.5": "held", "1": "held", "2": "held"}
    assert record["arms"][1] == {"label": "B", "n": 4, "mean": pytest.approx(80.0), "sd": pytest.approx(0.1154700538)}


def test_a_verdict_holds_no_numpy_scalar():
    verdict = Ordering().judge(*drawn(0, 4, (0.1, 0.0, 0.0), (1.0, 1.0, 1.0)))

    numbers = [
        verdict.estimate,
        verdict.low,
        verdict.high,
        verdict.level,
        verdict.p_hold,
        verdict.p_refute,
        verdict.rho,
    ]
    numbers += [number for arm in verdict.arms for number in (arm.mean, arm.sd)]
    assert {type(number) for number in numbers} == {float}


def test_a_verdict_has_no_truth_value():
    verdict = Definition().judge(1, 1)

    with pytest.raises(TypeError, match=r"ask verdict\.held, verdict\.refuted or verdict\.inconclusive"):
        bool(verdict)


@pytest.mark.parametrize(
    ("got", "expected", "status", "reason"),
    [
        (4800, 4800, "held", "4800, exactly as stated: defined."),
        ((64, 128), (64, 256), "refuted", "(64, 128), where (64, 256) is stated: refuted."),
    ],
)
def test_a_definition_compares_plain_values(got, expected, status, reason):
    assert Definition().judge(got, expected) == Verdict(kind="definition", status=status, reason=reason)


KINDS = [
    Equivalence(),
    Superiority(by=points(1.0)),
    Superiority(),
    NonInferiority(),
    Interaction(by=points(1.0)),
    Ordering(),
    Beaten(by=points(1.0)),
]


@pytest.mark.parametrize("hypothesis", KINDS, ids=lambda kind: f"{kind.kind} {getattr(kind, 'by', '')}")
@pytest.mark.parametrize("seed", range(5))
def test_order_of_seeds_and_a_constant_change_nothing(hypothesis, seed):
    arms = drawn(seed, 6, (0.8, 0.0, 0.2, 0.3), (0.4, 0.6, 0.5, 0.4))[: hypothesis.takes[1] or 4]
    order = np.random.default_rng(seed).permutation(6)
    shuffled = [
        replace(
            arm,
            **{
                name: tuple(getattr(arm, name)[i] for i in order)
                for name in ("values", "seeds", "digests", "accuracies")
            },
        )
        for arm in arms
    ]
    moved = [replace(arm, values=tuple(value + 7.0 for value in arm.values)) for arm in arms]

    verdict = hypothesis.judge(*arms)

    assert hypothesis.judge(*shuffled) == verdict
    other = hypothesis.judge(*moved)
    assert (other.status, other.seeds_needed) == (verdict.status, verdict.seeds_needed)
    assert (other.estimate, other.low, other.high) == pytest.approx((verdict.estimate, verdict.low, verdict.high))


@pytest.mark.parametrize("seed", range(5))
def test_swapping_arms_mirrors_the_verdict(seed):
    a, b = drawn(seed, 6, (0.8, 0.0), (0.4, 0.6))

    there, back = Equivalence().judge(a, b), Equivalence().judge(b, a)

    assert (back.status, back.margins, back.rho) == (there.status, there.margins, there.rho)
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))
    above = Superiority(by=points(1.0)).judge(a, b)
    below = NonInferiority(margin=points(1.0)).judge(b, a)
    assert (above.p_hold, above.p_refute) == pytest.approx((below.p_refute, below.p_hold))


@pytest.mark.parametrize("seed", range(5))
def test_swapping_pairs_turns_an_interaction_round(seed):
    a, b, c, d = drawn(seed, 4, (3.0, 0.0, 1.0, 0.0), (0.4, 0.6, 0.5, 0.4))

    there, back = Interaction(by=points(1.0)).judge(a, b, c, d), Interaction(by=points(1.0)).judge(c, d, a, b)

    assert back.estimate == pytest.approx(-there.estimate)
    assert Interaction(by=points(1.0)).judge(d, c, b, a).estimate == pytest.approx(there.estimate)


def test_two_differences_are_equivalent_if_an_interaction_either_way_is_small():
    a, b, c, d = drawn(3, 8, (75.0, 70.0, 70.2, 65.0), (0.5, 0.5, 0.5, 0.5))

    together = Equivalence(margin=points(2.0)).judge(a, b, c, d)

    assert together.held
    assert together.estimate == Interaction().judge(a, b, c, d).estimate
    assert Equivalence(margin=points(2.0)).judge(a, b, c, sample("E", [value - 5 for value in d.values])).refuted


def test_the_deciding_rival_is_the_one_furthest_ahead_where_every_p_is_1():
    ours, near, far = (
        sample(label, mean + np.resize([-0.2, 0.2], 16))
        for label, mean in (("Ours", 70.0), ("Ahead by 5", 75.0), ("Ahead by 25", 95.0))
    )

    verdict = Ordering().judge(ours, near, far)

    assert verdict.p_hold == 1.0
    assert verdict.reason.startswith("Ours - Ahead by 25 = -25.00 points (the deciding one of 2 rivals)")


def test_a_refuted_replication_names_the_error_of_the_published_mean():
    arm = sample("BatchNorm", 70.0 + np.resize([-1.0, 1.0], 8))

    verdict = Replication(published=80.0).judge(arm)

    assert verdict.refuted
    assert verdict.reason.endswith("; a published mean of four such Runs has a standard error of 0.53 itself.")
    assert "standard error" not in Replication(published=70.5, margin=points(4.0)).judge(arm).reason


def test_a_single_sample_is_compared_with_zero():
    narrowing = sample("BatchNorm, log(sd early / sd late)", (0.5, 0.6, 0.55, 0.62), unit="log ratio")

    verdict = Superiority(by=log_ratio(0.0), smallest=log_ratio(0.1)).judge(narrowing)

    assert verdict.held
    assert verdict.estimate == pytest.approx(np.mean(narrowing.values))
    assert verdict.reason.startswith("BatchNorm, log(sd early / sd late) = +0.568 log ratio, 99.9 % interval [")
    assert Equivalence(margin=log_ratio(np.log(2.0))).judge(narrowing).inconclusive
    assert Superiority(by=ratio(1.0)).judge(replace(narrowing, unit="ratio")).refuted
