"""What is said of Runs that were recorded after a verdict was frozen."""

from bnlab.stats import Equivalence, Superiority, further, points
from bnlab.tests.stats.samples import sample


def arm(label, mean, n, fallen=()):
    values = [20.0 if seed in fallen else mean + 0.2 * (-1) ** seed for seed in range(n)]
    return sample(label, values, accuracies=tuple(values))


def test_a_collapse_among_later_runs_is_named_beside_a_verdict_that_never_saw_it():
    frozen = Superiority(by=points(3.0)).judge(arm("BatchNorm", 75.0, 4), arm("None", 70.0, 4))
    later = [arm("BatchNorm", 75.0, 16, fallen=(9,)), arm("None", 70.0, 16)]

    text = further(frozen, later, Superiority(by=points(3.0)).judge(*later))

    assert frozen.held
    assert text == (
        "24 further runs of these arms are recorded, 1 collapsed (BatchNorm, seed 9: 20.00 %, far below the 75.01 % of "
        "the others). With n = 16 + 16 the claim would be inconclusive instead: BatchNorm - None = +1.58 points, but "
        "unstable arm, 1 of 32 runs (BatchNorm, seed 9: 20.00 %, far below the 75.01 % of the others)."
    )


def test_later_runs_that_agree_say_so_with_their_interval():
    frozen = Equivalence().judge(arm("A", 75.0, 8), arm("B", 75.1, 8))
    later = [arm("A", 75.0, 16), arm("B", 75.1, 16)]
    now = Equivalence().judge(*later)

    text = further(frozen, later, now)

    assert text == (
        "16 further runs of these arms are recorded, none of them collapsed. With n = 16 + 16 the claim would be held "
        f"too: A - B = -0.10 points, 99 % interval [{now.low:+.2f}, {now.high:+.2f}], inside (-1, +1)."
    )


def test_arms_with_unequally_many_later_runs_give_counts_and_collapses_alone():
    frozen = Superiority(by=points(3.0)).judge(arm("BatchNorm", 75.0, 4), arm("None", 70.0, 4))

    text = further(frozen, [arm("BatchNorm", 75.0, 4), arm("None", 70.0, 16, fallen=(4, 5))])

    assert text.startswith("12 further runs of these arms are recorded, 2 collapsed (None, seed 4: 20.00 %, far below")
    assert "would be" not in text


def test_a_collapse_that_the_verdict_has_seen_is_not_news():
    frozen = Superiority(by=points(3.0)).judge(arm("A", 75.0, 8), arm("B", 70.0, 8, fallen=(1,)))

    assert frozen.held
    assert "none of them collapsed" in further(frozen, [arm("A", 75.0, 8), arm("B", 70.0, 16, fallen=(1,))])


def test_without_later_runs_there_is_nothing_to_say():
    arms = [arm("A", 75.0, 4), arm("B", 70.0, 4)]

    assert further(Superiority().judge(*arms), arms) == ""
