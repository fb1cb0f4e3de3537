"""The simulation of a whole suite: what it counts as false, where edges are, and that it judges as `judge` does."""

from dataclasses import replace

import numpy as np
import pytest

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
    Stability,
    Superiority,
    points,
)
from bnlab.stats.calibrate import Question, Truth, _edge, _settled, false_where, judged, judged_on_edges
from bnlab.tests.stats.samples import drawn, sample

NO_COLLAPSE = np.zeros(4)

TRUTHS = [
    # hypothesis, true means, whether held would be false, whether refuted would be
    (Equivalence(), (0.9, 0.0), False, True),
    (Equivalence(), (1.1, 0.0), True, False),
    (Equivalence(), (1.0, 0.0), True, True),
    (Superiority(), (0.1, 0.0), False, False),  # so small that neither answer is false
    (Superiority(), (0.0, 0.0), True, False),
    (Superiority(), (0.5, 0.0), False, True),
    (Superiority(), (0.6, 0.0), False, True),
    (Superiority(by=points(3.0)), (3.5, 0.0), False, True),
    (Superiority(by=points(3.0)), (2.5, 0.0), True, False),
    (NonInferiority(), (-0.9, 0.0), False, True),
    (NonInferiority(), (-1.1, 0.0), True, False),
    (Interaction(by=points(3.0)), (5.0, 1.0, 1.0, 1.0), False, True),
    (Ordering(), (1.0, 0.0, 0.5), False, True),
    (Ordering(), (1.0, 0.0, 1.5), True, False),
    (Beaten(), (1.0, 0.0, 1.5), False, True),
    (Beaten(), (1.0, 0.0, 0.5), True, False),
    (Replication(published=76.65), (78.0,), False, True),
    (Replication(published=76.65), (79.0,), True, False),
    (Separation(by=points(3.0)), (4.0, 0.0), False, True),
    (Separation(by=points(3.0)), (2.0, 0.0), True, False),
]


@pytest.mark.parametrize(("hypothesis", "means", "held", "refuted"), TRUTHS)
def test_a_verdict_is_false_where_the_truth_is_the_opposite(hypothesis, means, held, refuted):
    _, tester = hypothesis.bind(*drawn(0, 4, means, (1.0,) * len(means)))

    assert tuple(map(bool, false_where(tester, np.array(means), NO_COLLAPSE[: len(means)]))) == (held, refuted)


def test_every_is_false_if_one_cell_is_and_refuted_falsely_if_none_is():
    a, b, c, d = drawn(0, 4, (0.0,) * 4, (1.0,) * 4)
    _, tester = Every(Superiority(by=points(3.0))).bind((a, c), (b, d))

    for means, held, refuted in (((4, 0, 4, 0), False, True), ((4, 0, 2, 0), True, False), ((2, 0, 2, 0), True, False)):
        assert tuple(map(bool, false_where(tester, np.array(means, dtype=float), NO_COLLAPSE))) == (held, refuted)


@pytest.mark.parametrize(
    ("hypothesis", "chances", "held", "refuted"),
    [
        (Stability(fails_below=0.5), (0.1,), False, True),
        (Stability(fails_below=0.5), (0.6,), True, False),
        (Stability(fails_above=0.5), (0.6,), False, True),
        (Stability(fails_above=0.5), (0.1,), True, False),
        (Stability(), (0.1, 0.6), False, True),
        (Stability(), (0.6, 0.1), True, False),
        (Stability(), (0.0, 0.1), False, False),
    ],
)
def test_for_stability_the_truth_is_the_chance_of_a_collapse(hypothesis, chances, held, refuted):
    found = false_where(hypothesis, np.full(len(chances), 70.0), np.array(chances))

    assert tuple(map(bool, found)) == (held, refuted)


def suite(hypotheses, columns=4, sd=0.5, collapses=0.0):
    samples = drawn(0, 4, (0.0,) * columns, (1.0,) * columns)
    questions = []
    for hypothesis, arms in hypotheses:
        own, tester = hypothesis.bind(*arms(samples))
        questions.append(Question(tester=tester, columns=tuple(samples.index(one) for one in own)))
    truth = Truth(
        means=np.full(columns, 70.0),
        sds=np.full(columns, sd),
        collapses=np.full(columns, collapses),
        arms=tuple(range(columns)),
        percent=np.ones(columns, dtype=bool),
    )
    return questions, truth


ALL = [
    (Equivalence(), lambda s: s[:2]),
    (Superiority(by=points(3.0)), lambda s: s[:2]),
    (Superiority(), lambda s: s[1:3]),
    (Interaction(by=points(3.0)), lambda s: s),
    (Ordering(), lambda s: s),
    (Beaten(by=points(1.0)), lambda s: s[:3]),
    (Every(Superiority(by=points(3.0))), lambda s: (s[:2], s[2:])),
    (Pooled(Equivalence()), lambda s: (s[:2], s[2:])),
    (Separation(), lambda s: s[:2]),
]


@pytest.mark.parametrize(("hypothesis", "arms"), ALL, ids=[f"{kind.kind}-{i}" for i, (kind, _) in enumerate(ALL)])
@pytest.mark.parametrize("hold", [True, False])
def test_on_an_edge_the_answer_is_just_false(hypothesis, arms, hold):
    (question,), truth = suite([(hypothesis, arms)])
    means = _edge(question, truth.means, hold)
    own = list(question.columns)

    false = false_where(question.tester, means[own], NO_COLLAPSE[: len(own)])
    inside = false_where(question.tester, 70 + (means[own] - 70) * 0.999, NO_COLLAPSE[: len(own)])
    outside = false_where(question.tester, 70 + (means[own] - 70) * 1.001, NO_COLLAPSE[: len(own)])

    assert false[not hold]
    # a tie stays one, however the means are stretched
    if not np.allclose(means[own], 70.0) and hypothesis != Ordering():
        assert bool(inside[not hold]) != bool(outside[not hold])


SUITES = 5


def test_a_simulated_suite_is_judged_as_judge_judges():
    """Look by look through `judge`, with its stops, comes to the verdicts and seeds of the simulation."""
    rng = np.random.default_rng(0)
    for (hypothesis, arms), difference in zip(ALL, (0.6, 3.4, 0.4, 3.2, 0.3, 1.0, 3.3, 0.7, 1.0), strict=True):
        (question,), _ = suite([(hypothesis, arms)])
        values = rng.normal(0.0, 0.5, (SUITES, len(question.columns), 16)) + 70
        values[:, 0] += difference
        values[rng.random(values.shape) < 0.03] = 20.0
        held, refuted, seeds = _settled(
            question.tester, values, np.zeros(values.shape, dtype=bool), np.ones(len(question.columns), dtype=bool)
        )
        for i, suite_values in enumerate(values):
            verdict = None
            for look in (4, 8, 16):
                names = [chr(65 + column) for column in question.columns]
                short = {
                    name: sample(name, row[:look], accuracies=tuple(row[:look]))
                    for name, row in zip(names, suite_values, strict=True)
                }
                every = [short.get(name) for name in "ABCD"]
                verdict = hypothesis.judge(*arms(every))
                if not verdict.inconclusive or verdict.stops:
                    break
            assert (verdict.held, verdict.refuted, min(verdict.n)) == (held[i], refuted[i], seeds[i])


def test_runs_are_counted_up_to_the_last_look_that_a_claim_needs():
    questions, truth = suite([(Superiority(by=points(3.0)), lambda s: s[:2]), (Equivalence(), lambda s: s[2:])])
    apart = replace(truth, means=np.array([90.0, 60.0, 70.0, 71.0]))

    tally = judged(questions, apart, 20)

    # the first two arms are decided at 4 seeds; the others lie on the margin and go on until they are futile
    assert set(tally.runs) <= {2 * 4 + 2 * 8, 2 * 4 + 2 * 16, 2 * 4 + 2 * 4}
    assert tally.runs.max() > 16
    assert (tally.false_held + tally.false_refuted).sum() <= 1


def test_a_suite_on_its_edges_is_false_about_as_often_as_its_levels_say():
    questions, truth = suite(ALL, sd=0.3)
    for hold in (True, False):
        tally = judged_on_edges(questions, truth, 3000, hold)
        rate = (tally.false_held if hold else tally.false_refuted).mean() / len(ALL)
        # 0.05 + 0.25 + 0.5 % at most, less what looks have in common; Ordering's other rivals make some rarer
        assert 0.001 < rate <= 0.008


def test_collapses_of_an_arm_come_in_all_its_columns_at_once():
    questions, truth = suite([(Stability(fails_below=0.5), lambda s: s[:1])], collapses=0.02)
    two = replace(truth, arms=(0, 0, 0, 0))
    both, _ = suite([(Stability(), lambda s: s[:2])], collapses=0.02)

    trains, compared = judged(questions, truth, 200), judged(both, replace(two, collapses=np.full(4, 0.5)), 200)

    assert trains.decided.mean() > 0.9
    assert trains.false_held.sum() == 0
    # both columns are one arm, so they collapse in the same Runs and none does so less often
    assert compared.decided.sum() == 0
