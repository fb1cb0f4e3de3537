"""Every and Pooled: one verdict over several cells, against their definitions and scipy."""

import json

import numpy as np
import pytest
from scipy import stats

from bnlab.errors import StatisticsError
from bnlab.stats import (
    Beaten,
    Equivalence,
    Every,
    Interaction,
    NonInferiority,
    Ordering,
    Pooled,
    Replication,
    Separation,
    Superiority,
    Verdict,
    nats,
    points,
)
from bnlab.stats.arms import Arms
from bnlab.tests.stats.samples import drawn, sample

CELLS = ("ResNet18, batch 20", "ResNet18, batch 50", "ResNet34, batch 20")


def column(name, means, seed=0, n=8, sd=0.3):
    """One sample per cell, labelled as arms are."""
    rng = np.random.default_rng([seed, len(name)])
    return [sample(f"{name} ({cell})", rng.normal(mean, sd, n)) for cell, mean in zip(CELLS, means, strict=False)]


@pytest.mark.parametrize("seed", range(30))
def test_every_is_held_if_all_cells_are_and_refuted_by_bonferronis_test(seed):
    means = np.random.default_rng(seed).uniform(2.3, 4.0, 3)
    a, b = column("A", means, seed), column("B", (0.0, 0.0, 0.0), seed + 100)

    verdict = Every(Superiority(by=points(3.0))).judge(a, b)

    above, below = (
        [
            stats.ttest_ind(np.array(x.values) - 3, y.values, equal_var=False, alternative=side).pvalue
            for x, y in zip(a, b, strict=True)
        ]
        for side in ("greater", "less")
    )
    assert verdict.held == (max(above) < 0.0025)
    assert verdict.refuted == (min(below) < 0.0025 / 3)
    assert verdict.p_hold == pytest.approx(max(above), abs=1e-10)
    assert verdict.p_refute == pytest.approx(min(1.0, 3 * min(below)), abs=1e-10)


def test_the_draws_above_come_to_every_answer():
    found = {
        Every(Superiority(by=points(3.0)))
        .judge(
            column("A", np.random.default_rng(seed).uniform(2.3, 4.0, 3), seed),
            column("B", (0.0, 0.0, 0.0), seed + 100),
        )
        .status
        for seed in range(30)
    }

    assert found == {"held", "refuted", "inconclusive"}


def test_every_shows_its_cells_and_hangs_on_the_closest():
    verdict = Every(Superiority(by=points(3.0))).judge(column("A", (9.0, 4.0, 7.0)), column("None", (0.0, 0.0, 0.0)))

    assert verdict.held
    assert verdict.kind == "every"
    assert [(cell.label, cell.kind, cell.status) for cell in verdict.cells] == [
        (f"A ({cell}) - None ({cell})", "superiority", "held") for cell in CELLS
    ]
    assert (verdict.estimate, verdict.low, verdict.high) == (
        verdict.cells[1].estimate,
        verdict.cells[1].low,
        verdict.cells[1].high,
    )
    assert verdict.reason.endswith(", above +3, the closest of 3 cells: held (n = 8 in each of 6 arms).")
    assert verdict.level == 0.995
    assert len(verdict.arms) == len(verdict.n) == 6


def test_one_clearly_false_cell_refutes_every_and_is_named():
    verdict = Every(Superiority(by=points(3.0))).judge(column("A", (9.0, 1.0, 7.0)), column("None", (0.0, 0.0, 0.0)))

    assert verdict.refuted
    assert verdict.label == "A (ResNet18, batch 50) - None (ResNet18, batch 50)"
    assert verdict.level == pytest.approx(1 - 0.005 / 3)
    assert ", below +3, in one of 3 cells, at the level for all of them: refuted (" in verdict.reason


def test_an_undecided_every_says_how_many_seeds_all_its_cells_need():
    a, b = column("A", (9.0, 3.2, 3.2)), column("None", (0.0, 0.0, 0.0))

    verdict = Every(Superiority(by=points(3.0))).judge(a, b)

    assert verdict.inconclusive
    assert ", the least certain of 3 cells, of which 1 held by themselves: inconclusive (" in verdict.reason
    few, many = verdict.seeds_needed
    assert f"; needs {few} to " in verdict.reason
    alone = Superiority(by=points(3.0)).judge(a[1], b[1]).seeds_needed
    assert few >= min(alone[0], Superiority(by=points(3.0)).judge(a[2], b[2]).seeds_needed[0])
    assert many is None or many >= few


def test_several_hypotheses_are_asked_of_every_cell():
    slightly = Every(Superiority(), Equivalence(margin=points(2.0)))
    b = column("B", (0.0, 0.0))

    assert slightly.judge(column("A", (1.0, 0.9)), b).held
    assert slightly.judge(column("A", (1.0, 5.0)), b).refuted
    assert slightly.judge(column("A", (1.0, -1.0)), b).refuted
    assert [cell.kind for cell in slightly.judge(column("A", (1.0, 0.9)), b).cells] == [
        "superiority",
        "equivalence",
    ] * 2


def test_hypotheses_on_different_arms_bring_their_samples():
    a, b, c, d = drawn(3, 8, (9.0, 5.0, 2.0, 2.0), (0.3, 0.3, 0.3, 0.3))

    verdict = Every(Superiority(by=points(3.0)).of(a, b), Interaction(by=points(3.0)).of(a, b, c, d)).judge()

    assert verdict.held
    assert [cell.label for cell in verdict.cells] == ["A - B", "(A - B) - (C - D)"]
    assert [arm.label for arm in verdict.arms] == ["A", "B", "C", "D"]


def test_cells_may_be_in_different_units():
    losses = [
        sample(name, values, unit="nats") for name, values in (("C", (1.5, 1.6, 1.4, 1.5)), ("D", (0.5, 0.4, 0.6, 0.5)))
    ]
    accuracies = drawn(0, 4, (80.0, 70.0), (0.3, 0.3))

    verdict = Every(Superiority().of(*accuracies), Superiority(by=nats(0.2)).of(*losses)).judge()

    assert verdict.held
    assert [cell.unit for cell in verdict.cells] == ["points", "nats"]


def test_a_single_sample_stands_in_every_cell():
    one = drawn(0, 8, (0.0,), (0.3,))[0]
    three = column("A", (1.0, 2.0, 3.0))

    verdict = Every(Superiority()).judge(three, one)

    assert verdict.held
    assert len(verdict.arms) == 4


def test_every_takes_kinds_that_count():
    a, b = column("A", (9.0, 8.0)), column("B", (0.0, 0.0))

    verdict = Every(Separation(by=points(3.0))).judge(a, b)

    assert verdict.held
    assert verdict.p_hold == pytest.approx(1 / 12870)


def test_every_of_one_cell_is_that_cell():
    for seed in range(6):
        a, b = drawn(seed, 8, (0.8, 0.0), (0.4, 0.4))
        alone, every = Equivalence().judge(a, b), Every(Equivalence()).judge(a, b)
        same = ("status", "estimate", "low", "high", "level", "p_hold", "p_refute", "seeds_needed", "n", "arms")
        assert [getattr(every, name) for name in same] == [getattr(alone, name) for name in same]


def test_pooled_weighs_every_cell_alike_with_welchs_degrees_of_freedom_over_all_arms():
    a, b = column("A", (1.0, 0.0, 0.5)), column("B", (0.4, 0.1, 0.0), sd=0.6)

    verdict = Pooled(Equivalence(margin=points(2.0))).judge(a, b)

    arms = [np.array(one.values) for one in (*a, *b)]
    v = np.array([one.var(ddof=1) / len(one) / 9 for one in arms])
    df = v.sum() ** 2 / (v**2 / 7).sum()
    difference = np.mean([one.mean() for one in arms[:3]]) - np.mean([one.mean() for one in arms[3:]])
    half = stats.t.ppf(0.9975, df) * np.sqrt(v.sum())
    assert verdict.estimate == pytest.approx(difference, abs=1e-10)
    assert (verdict.low, verdict.high) == pytest.approx((difference - half, difference + half), abs=1e-10)
    assert verdict.held


def test_pooled_decides_what_no_cell_decides_and_shows_each_cell():
    rng = np.random.default_rng(0)
    a, b = ([sample(f"{name} ({i})", rng.normal(0.0, 0.9, 16)) for i in range(4)] for name in ("minus", "BatchNorm"))

    verdict = Pooled(Equivalence()).judge(a, b)

    assert verdict.held
    assert [cell.status for cell in verdict.cells] == [
        Equivalence().judge(x, y).status for x, y in zip(a, b, strict=True)
    ]
    assert "inconclusive" in {cell.status for cell in verdict.cells}
    assert verdict.label == "minus - BatchNorm, pooled over 4 cells"
    assert verdict.margins[1.0] == "held"
    assert verdict.kind == "equivalence"


@pytest.mark.parametrize(
    "hypothesis",
    [Equivalence(), Superiority(), NonInferiority(), Interaction(), Ordering(), Beaten(), Replication(published=50.0)],
    ids=lambda hypothesis: hypothesis.kind,
)
def test_pooled_over_one_cell_is_the_hypothesis_itself(hypothesis):
    arms = drawn(1, 8, (0.3, 0.0, 0.2, 0.4), (0.4, 0.4, 0.5, 0.3))[: hypothesis.takes[1] or 4]

    alone, pooled = hypothesis.judge(*arms), Pooled(hypothesis).judge(*arms)

    same = ("status", "estimate", "low", "high", "level", "p_hold", "p_refute", "seeds_needed", "margins")
    assert [getattr(pooled, name) for name in same] == [getattr(alone, name) for name in same]


def test_pooled_adds_up_the_weights_of_an_arm_in_several_cells():
    one, (a, b) = drawn(0, 8, (0.0,), (0.3,))[0], column("X", (1.0, 2.0))

    samples, rule = Pooled(Superiority()).bind((a, b), one)

    assert dict(zip(samples, rule.weights[0], strict=True)) == {a: 0.5, b: 0.5, one: -1.0}


def test_pooled_parts_of_every_are_stated():
    a, b = column("A", (9.0, 8.0, 9.0)), column("B", (0.0, 0.0, 0.0))

    verdict = Every(Pooled(Superiority()).of(a[:2], b[:2]), Superiority().of(a[2], b[2])).judge()

    assert verdict.held
    assert verdict.cells[0].label == "A - B, pooled over 2 cells"


def test_a_composed_verdict_goes_through_json_unchanged():
    for verdict in (
        Every(Superiority(by=points(3.0))).judge(column("A", (9.0, 3.1)), column("B", (0.0, 0.0))),
        Pooled(Equivalence()).judge(column("A", (0.0, 0.1)), column("B", (0.0, 0.0))),
    ):
        assert Verdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (
            lambda a, b: Every(Superiority()).judge(a, b[:2]),
            "Every was given columns of 3, 2 samples: give as many in each column, or one sample for all cells",
        ),
        (lambda a, b: Pooled(Superiority()).judge(a, ()), "Pooled was given columns of 3, 0 samples"),
        (lambda a, b: Every(Superiority()).judge(), "Every takes samples where its hypotheses have none"),
        (
            lambda a, b: Every(Superiority().of(a[0], b[0])).judge(a, b),
            "Every takes samples where its hypotheses have none",
        ),
        (lambda a, b: Every().judge(a, b), "Every was given nothing: give hypotheses, as in Every(Superiority())"),
        (lambda a, b: Every(a), "give hypotheses, as in Every(Superiority())"),
        (lambda a, b: Every(Superiority()).judge(a, b, a), "Superiority takes 1 or 2 samples, not 3"),
        (lambda a, b: Pooled(Separation()), "expected a hypothesis on means, such as Equivalence()"),
    ],
    ids=range(8),
)
def test_what_cannot_be_composed_is_an_error_in_words(judge, words):
    with pytest.raises(StatisticsError) as error:
        judge(column("A", (0.0, 0.0, 0.0)), column("B", (0.0, 0.0, 0.0)))
    assert words in str(error.value)


EXPERIMENTS = 60_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hypothesis", "means", "wrong"),
    [
        (Every(Superiority(by=points(3.0))), ((3.0, 9.0, 9.0), (0.0, 0.0, 0.0)), "held"),
        (Every(Superiority(by=points(3.0))), ((3.0, 3.0, 3.0), (0.0, 0.0, 0.0)), "refuted"),
        (Pooled(Equivalence()), ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), "held"),
        (Pooled(Equivalence()), ((3.0, 0.0, 0.0), (0.0, 0.0, 0.0)), "refuted"),
    ],
    ids=["every, one cell on the edge", "every, all on the edge", "pooled, alike", "pooled, one far off"],
)
def test_composed_verdicts_are_false_no_more_often_than_the_level_says(hypothesis, means, wrong):
    samples, tester = hypothesis.bind(column("A", means[0]), column("B", means[1]))
    truth = np.array([mean for row in means for mean in row])
    order = [[*column("A", means[0]), *column("B", means[1])].index(one) for one in samples]
    values = np.random.default_rng(0).normal(size=(EXPERIMENTS, len(samples), 8)) * 0.3 + truth[order][:, None]

    decision = tester.decide(Arms.stable(values.mean(axis=-1), values.var(axis=-1, ddof=1), 8))

    nominal = 0.0025
    assert getattr(decision, wrong).mean() <= nominal + 3 * np.sqrt(nominal / EXPERIMENTS)
    assert getattr(decision, wrong).mean() >= nominal / 3
