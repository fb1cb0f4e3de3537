"""Which claims ask the same: counted once in the family."""

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
    Superiority,
    points,
)
from bnlab.stats.family import contrast
from bnlab.tests.stats.samples import drawn

A, B, C, D = drawn(0, 4, (80.0, 79.0, 78.0, 77.0), (0.3, 0.3, 0.3, 0.3))


def asked(hypothesis, *samples):
    arms, tester = hypothesis.bind(*samples)
    return contrast(tester, arms)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((Equivalence(), A, B), (Equivalence(), B, A)),
        ((Superiority(by=points(1.0)), A, B), (NonInferiority(margin=points(1.0)), B, A)),
        ((Ordering(margin=points(1.0)), A, B, C), (Beaten(by=points(1.0)), A, C, B)),
        ((Interaction(), A, B, C, D), (Interaction(), D, C, B, A)),
        ((Pooled(Equivalence()), (A, B), (C, D)), (Pooled(Equivalence()), (D, C), (B, A))),
        ((Every(Superiority()), (A, B), (C, D)), (Every(Superiority().of(B, D), Superiority().of(A, C)),)),
    ],
)
def test_mirrored_negated_and_reordered_claims_ask_the_same(first, second):
    assert asked(*first) == asked(*second)
    assert first[0].judge(*first[1:]).contrast == asked(*first)


def test_claims_on_other_arms_thresholds_or_weights_ask_something_else():
    different = [
        (Superiority(), A, B),
        (Superiority(), B, A),
        (Superiority(), A, C),
        (Superiority(by=points(1.0)), A, B),
        (Equivalence(), A, B),
        (Equivalence(margin=points(2.0)), A, B),
        (Interaction(), A, B, C, D),
        (Interaction(), A, B, D, C),
        (Replication(published=80.0), A),
        (Replication(published=79.0), A),
        (Separation(), A, B),
        (Separation(), B, A),
        (Pooled(Superiority()), (A, B), (C, D)),
        (Every(Superiority()), (A, B), (C, D)),
    ]

    assert len({asked(*claim) for claim in different}) == len(different)
