"""Seeds needed, against the planning table and scipy."""

import re

import numpy as np
import pytest
from scipy import stats

from bnlab.stats import Equivalence, Interaction, NonInferiority, Ordering, Superiority, points
from bnlab.stats.power import power, seeds_needed
from bnlab.stats.words import needed
from bnlab.tests.stats.samples import drawn, sample

# Seeds that 80 % power takes at one look, for sds of 0.3, 0.5 and 0.8 points; ">32" as None.
# The hypothesis, the true means, then 5 % a side and 1 % a side; simulated apart from this code.
TABLE = {
    "equivalence, true 0": (Equivalence, {}, (0, 0), (3, 6, 12), (5, 9, 19)),
    "equivalence, true 0.5": (Equivalence, {}, (0.5, 0), (6, 14, None), (9, 22, None)),
    "equivalence refuted, true 2": (Equivalence, {}, (2, 0), (3, 5, 9), (4, 7, 15)),
    "superiority by 0, true 1": (Superiority, {}, (1, 0), (3, 5, 9), (4, 7, 15)),
    "superiority by 0, true 2": (Superiority, {}, (2, 0), (3, 3, 4), (3, 4, 6)),
    "non-inferiority, true 0": (NonInferiority, {}, (0, 0), (3, 5, 9), (4, 7, 15)),
    "interaction, true 2": (Interaction, {}, (2, 0, 0, 0), (3, 3, 5), (3, 4, 8)),
    "best of four, gap 1": (Ordering, {}, (1, 0, 0, 0), (3, 6, 13), (5, 9, 19)),
    "superiority by 0, true 5": (Superiority, {}, (5, 0), (3, 3, 3), (3, 3, 3)),
    "superiority by 3, true 4": (Superiority, {"by": points(3.0)}, (4, 0), (3, 5, 9), (4, 7, 15)),
}
CASES = [
    pytest.param(make(level=level, **fields), means, sd, seeds, id=f"{name}, sd {sd}, level {level}")
    for name, (make, fields, means, *columns) in TABLE.items()
    for level, column in zip((0.90, 0.98), columns, strict=True)
    for sd, seeds in zip((0.3, 0.5, 0.8), column, strict=True)
]


@pytest.mark.parametrize(("hypothesis", "means", "sd", "seeds"), CASES)
def test_seeds_needed_are_those_of_the_planning_table(hypothesis, means, sd, seeds):
    arms = len(means)

    needed = seeds_needed(hypothesis.rule(arms), np.array(means, dtype=float), np.full(arms, sd))

    if seeds is None:
        assert needed is None or needed + 1 > 32
    else:
        assert abs(needed - seeds) <= 1


@pytest.mark.parametrize(("n", "sd"), [(4, 0.3), (7, 0.5), (15, 0.8)])
def test_power_is_how_often_scipys_test_rejects(n, sd):
    rule = Superiority(by=points(3.0), level=0.98).rule(2)
    rng = np.random.default_rng(n)
    a, b = rng.normal(4.0, sd, (20_000, n)), rng.normal(0.0, sd, (20_000, n))

    oracle = stats.ttest_ind(a - 3.0, b, equal_var=False, axis=1, alternative="greater").pvalue < 0.01

    # 3 standard errors of 4,000 experiments here and 20,000 there
    assert power(rule, np.array([4.0, 0.0]), np.array([sd, sd]), n) == pytest.approx(oracle.mean(), abs=0.021)


def test_unequal_sds_take_the_seeds_of_their_quadratic_mean():
    rule = NonInferiority().rule(2)

    unequal = seeds_needed(rule, np.array([0.0, 0.0]), np.array([0.2, 0.8]))
    equal = seeds_needed(rule, np.array([0.0, 0.0]), np.full(2, np.sqrt((0.2**2 + 0.8**2) / 2)))

    assert abs(unequal - equal) <= 2


def test_seeds_needed_are_more_than_there_are():
    rule = Superiority().rule(2)

    assert seeds_needed(rule, np.array([9.0, 0.0]), np.array([0.1, 0.1]), more_than=8) == 9
    assert seeds_needed(rule, np.array([9.0, 0.0]), np.array([0.1, 0.1]), more_than=64) is None


@pytest.mark.parametrize("hypothesis", [Equivalence(), Superiority(), NonInferiority(), Ordering()])
def test_every_inconclusive_reason_says_how_many_seeds_it_needs_as_a_range(hypothesis):
    seen = 0
    for seed in range(20):
        verdict = hypothesis.judge(*drawn(seed, 4, (0.4, 0.0), (0.5, 0.5)))
        if verdict.inconclusive:
            seen += 1
            few, many = verdict.seeds_needed
            assert few is None or few > 4
            assert many is None or few <= many
            assert re.search(
                r"; needs (about )?\d+( to (more than )?\d+)? seeds|; needs more than 64 seeds", verdict.reason
            )
        else:
            assert verdict.seeds_needed is None
    assert seen > 3


@pytest.mark.parametrize(
    ("few_and_many", "words"),
    [
        ((6, 12), "needs 6 to 12 seeds"),
        ((6, 6), "needs about 6 seeds"),
        ((6, 40), "needs 6 to 40 seeds"),
        ((20, 40), "needs 20 to 40 seeds, beyond the registered 16"),
        ((20, None), "needs 20 to more than 64 seeds, beyond the registered 16"),
        ((None, None), "needs more than 64 seeds at this estimate, beyond the registered 16"),
    ],
)
def test_seeds_needed_in_words(few_and_many, words):
    assert needed(few_and_many) == words


def test_the_range_covers_the_truth_one_standard_error_to_either_side():
    # the estimate is the truth here, so the range has to reach the seeds that the truth needs from both sides
    a, b = sample("A", (80.2, 80.8, 80.2, 80.8)), sample("B", (79.7, 80.3, 79.7, 80.3))
    rule, means, sds = Equivalence().rule(2), np.array([80.5, 80.0]), np.full(2, np.std(a.values, ddof=1))
    se = float(np.sqrt(2 * sds[0] ** 2 / 4))

    few, many = Equivalence().judge(a, b).seeds_needed

    lower, upper = (seeds_needed(rule, means + np.array([step, 0.0]), sds, 4) for step in (-se, se))
    assert (few, many) == (lower, upper)
    assert few < seeds_needed(rule, means, sds, 4) < many


def test_an_estimate_at_the_margin_is_not_said_to_be_the_truth():
    a, b = sample("A", (80.5, 81.5, 80.5, 81.5)), sample("B", (79.5, 80.5, 80.5, 79.5))

    verdict = Equivalence(margin=points(1.0)).judge(a, b)

    assert verdict.seeds_needed[1] is None
    assert re.search(
        r"across the edge of \(-1, \+1\): inconclusive \(n = 4 \+ 4\); needs \d+ to more than 64 seeds", verdict.reason
    )
