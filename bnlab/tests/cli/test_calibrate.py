"""`bnlab calibrate`: the suite read off the claims, and what is printed of it."""

from dataclasses import replace

import numpy as np
import pytest

from bnlab.cli.calibrate import Suite, run
from bnlab.errors import SpecError
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, ResNet
from bnlab.protocol import PAPER
from bnlab.runs import last_accuracy, train_loss
from bnlab.stats import Definition, Every, Replication, Superiority, nats, points
from bnlab.tests.labs import SPEC, claim, compare


def replicate(published, spec=SPEC):
    def body(lab, judge):
        verdict = judge(Replication(published=published), lab.train(spec).measure(last_accuracy))
        assert verdict.held, verdict.reason

    return claim(body, PAPER)


def every(lab, judge):
    minus, none = (
        [lab.train(replace(SPEC, norm=norm, batch_size=b)).accuracy for b in (20, 50)]
        for norm in (BATCHNORM_MINUS, NONE)
    )
    verdict = judge(Every(Superiority(by=points(3.0))), minus, none)
    assert verdict.held, verdict.reason


def losses(lab, judge):
    arms = [
        lab.train(replace(SPEC, net=ResNet(50), norm=norm)).measure(train_loss) for norm in (BATCHNORM_MINUS, BATCHNORM)
    ]
    verdict = judge(Superiority(by=nats(0.2)), *arms)
    assert verdict.held, verdict.reason


def definition(lab, judge):
    judge(Definition(), 1, 1)


def looks_at_runs(lab, judge):
    judge(Superiority(), *(lab.train(SPEC).runs, lab.train(SPEC).runs))


@pytest.fixture
def suite():
    bodies = [compare(Superiority(), BATCHNORM, AFFINE_LAYER), compare(Superiority(), BATCHNORM, AFFINE_LAYER)]
    claims = [claim(body, PAPER) for body in (*bodies, every, losses, definition, looks_at_runs)]
    return Suite.of([*claims, replicate(75.69), replicate(55.97, replace(SPEC, net=ResNet(50), norm=BATCHNORM_MINUS))])


def test_a_suite_is_the_distinct_contrasts_of_its_claims(suite):
    # a repeat counts once, a definition and a body that looks at Runs not at all
    assert (suite.claims, len(suite.questions)) == (6, 5)
    assert len(suite.paper.means) == 10
    assert len(set(suite.paper.arms)) == 8


def test_a_contrast_is_printed_if_the_tables_have_the_accuracy_of_each_of_its_arms(suite):
    compared = [
        len(question.columns) for question, printed in zip(suite.questions, suite.printed, strict=True) if printed
    ]

    assert compared == [2, 4, 1, 1]  # the losses are the fifth


def test_means_are_the_published_ones_where_there_are_any(suite):
    means = dict(
        zip(
            [tuple(q.columns) for q in suite.questions],
            [suite.paper.means[list(q.columns)] for q in suite.questions],
            strict=True,
        )
    )
    replications = [found for columns, found in means.items() if len(columns) == 1]

    assert sorted(float(found[0]) for found in replications) == [55.97, 75.69]
    assert sorted(set(suite.paper.means[suite.known])) == [55.97, 75.69]
    assert suite.paper.percent[suite.known].all()
    # a loss falls as the accuracy grows, and BatchNorm-minus has the higher one
    (in_nats,) = [
        suite.paper.means[list(q.columns)] for q in suite.questions if not suite.paper.percent[list(q.columns)].all()
    ]
    assert in_nats[0] == pytest.approx((100 - 55.97) / 50)


def test_an_arm_said_to_have_trouble_scatters_and_collapses_more(suite):
    deep = np.argmax(suite.paper.sds)

    assert suite.paper.sds[deep] == 2.0
    assert suite.paper.collapses[deep] == 0.03
    assert suite.paper.collapses.min() == 0.002


def test_what_is_printed_has_a_line_for_each_truth(suite, capsys):
    assert run([claim(every, PAPER), replicate(75.69)], 20, each=True) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 claims, 2 of them on 2 distinct contrasts of 5 arms; 20 suites per truth, +- 1 se"
    assert [line.split("  ")[0] for line in lines[2:9]] == [
        "the paper's numbers, others +- 1 point (sd)",
        "the paper's numbers, others BatchNorm's",
        "of these, 2 contrasts that it prints",
        "the paper's numbers +- 1 point (sd) per arm",
        "no norm matters",
        "every claim where HELD is just false",
        "every claim where REFUTED is just false",
    ]
    assert lines[9] == "decided, if the paper's numbers are the truth:"
    assert [line.split(" % ")[1] for line in lines[10:]] == ["claim", "claim"]


def test_too_few_suites_are_an_error_in_words():
    with pytest.raises(SpecError, match="--suites 1: a rate takes at least 2 suites"):
        run([replicate(75.69)], 1)
