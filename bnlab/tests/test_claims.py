"""How a claim is planned and settled."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.claims import answer, settle
from bnlab.errors import StatisticsError
from bnlab.lab import Lab
from bnlab.needs import needs
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY
from bnlab.protocol import PAPER, QUICK, SMOKE, Protocol
from bnlab.specs import CIFAR10, Replicate
from bnlab.stats import Definition, Equivalence, Every, Replication, Superiority, points
from bnlab.statuses import LEANS
from bnlab.tests.fakes import COLLAPSES, FakeTrainer, epochs
from bnlab.tests.labs import QUICK_SPEC, SPEC, claim, compare, new_lab

pytestmark = pytest.mark.usefixtures("no_flushing")


def test_a_claim_decided_at_the_first_look_trains_no_further_seeds(lab: Lab, log: Path) -> None:
    outcome = settle(claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER)), lab, QUICK.looks)

    assert (outcome.status, outcome.look) == ("leans held", 4)
    assert max(seed for _, seed, _ in epochs(log)) == 3


def test_an_undecided_claim_goes_on_to_the_next_look(lab: Lab) -> None:
    outcome = settle(claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY)), lab, QUICK.looks)

    assert (outcome.status, outcome.look) == ("undecided", 8)
    assert [len(arm.seeds) for arm in outcome.arms] == [8, 8]


def test_a_claim_whose_body_asserts_on_a_refuted_verdict_is_refuted(lab: Lab) -> None:
    outcome = settle(claim(compare(Superiority(by=points(3.0)), AFFINE_LAYER, BATCHNORM)), lab, QUICK.looks)

    assert outcome.status == "leans refuted"
    assert "refuted" in outcome.reason


HYPOTHESES = {
    "held": compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER),
    "refuted": compare(Superiority(by=points(3.0)), AFFINE_LAYER, BATCHNORM),
    "inconclusive": compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY),
}


@pytest.mark.parametrize("word", HYPOTHESES)
@pytest.mark.parametrize(
    ("protocol", "data", "seeds", "leans"),
    [(PAPER, CIFAR10, 4, False), (QUICK, CIFAR10, 4, True), (PAPER, "ab" * 32, 4, True), (PAPER, CIFAR10, 5, True)],
    ids=["as registered", "fewer epochs", "other images", "other seeds"],
)
def test_a_verdict_takes_the_papers_protocol_the_registered_images_and_a_registered_look(
    tmp_path: Path, word: str, protocol: Protocol, data: str, seeds: int, leans: bool
) -> None:
    lab = replace(new_lab(tmp_path, FakeTrainer(tmp_path / "log"), protocol), data=data)

    outcome = settle(claim(HYPOTHESES[word], protocol), lab, [seeds])

    status = LEANS[word] if leans else word
    assert (outcome.status, outcome.verdict.status, outcome.protocol) == (status, word, protocol.name)
    assert outcome.reason.count(f": {status} (n = {seeds} + {seeds}") == 1


def test_an_untrained_claim_gets_a_preview_from_runs_of_less_effort_and_stays_untrained(tmp_path: Path) -> None:
    quick = new_lab(tmp_path, FakeTrainer(tmp_path / "log"), QUICK)
    quick.complete(claim(HYPOTHESES["held"]).runs(4))
    paper = replace(quick, protocol=PAPER, trainer=None)

    with_runs, without = (answer(claim(HYPOTHESES[word], PAPER), paper) for word in ("held", "inconclusive"))

    assert (with_runs.status, with_runs.verdict, len(with_runs.missing)) == ("untrained", None, 8)
    assert (with_runs.preview.status, with_runs.preview.protocol, with_runs.preview.look) == ("leans held", "quick", 4)
    assert (without.status, without.preview) == ("untrained", None)


def test_a_trained_claim_and_one_that_needs_every_epoch_get_no_preview(tmp_path: Path) -> None:
    trainer = FakeTrainer(tmp_path / "log")
    quick, paper = (new_lab(tmp_path, trainer, protocol) for protocol in (QUICK, PAPER))
    replication = compare(Every(Replication(published=76.65)), BATCHNORM)
    quick.complete(claim(replication).runs(8))

    assert answer(claim(replication, PAPER), replace(paper, trainer=None)).preview is None
    assert answer(claim(HYPOTHESES["held"], PAPER), paper).preview is None


def test_smoke_exercises_whatever_the_numbers_are(tmp_path: Path) -> None:
    lab = new_lab(tmp_path, FakeTrainer(tmp_path / "log"), SMOKE)
    outcome = settle(claim(compare(Equivalence(), BATCHNORM, BATCHNORM), SMOKE), lab, SMOKE.looks)

    assert outcome.status == "exercised"
    assert "(" in outcome.reason, "the StatisticsError of equal digests is noted"


def test_what_smoke_notes_is_an_error_under_a_protocol_that_judges(lab: Lab) -> None:
    with pytest.raises(StatisticsError):
        settle(claim(compare(Equivalence(), BATCHNORM, BATCHNORM)), lab, QUICK.looks)


def test_a_definitional_claim_is_judged_under_smoke(tmp_path: Path) -> None:
    def body(lab, judge):
        assert judge(Definition(), 1, 2).held

    lab = new_lab(tmp_path, None, SMOKE)

    assert settle(claim(body, SMOKE), lab, SMOKE.looks).status == "refuted"


def test_a_claim_without_its_runs_is_untrained_and_an_undecided_one_says_what_would_go_on(lab: Lab) -> None:
    undecided = claim(compare(Equivalence(margin=points(1.0)), GAMMA_ONLY, BETA_ONLY))
    reading = replace(lab, trainer=None)

    before = settle(undecided, reading, QUICK.looks)
    lab.complete(undecided.runs(4))
    after = settle(undecided, reading, QUICK.looks)

    assert (before.status, len(before.missing)) == ("untrained", 8)
    assert (after.status, after.look, len(after.missing)) == ("undecided", 4, 8)
    assert "8 more Runs, for 8 seeds, were not trained" in after.reason


def test_an_unstable_claim_trains_no_further(lab: Lab, log: Path) -> None:
    outcome = settle(claim(compare(Equivalence(), BATCHNORM, COLLAPSES)), lab, QUICK.looks)

    assert (outcome.status, outcome.look, outcome.missing) == ("undecided", 4, ())
    assert {seed for _, seed, _ in epochs(log)} == {0, 1, 2, 3}
    assert outcome.verdict.stops == "unstable"


@pytest.mark.parametrize(("looks", "last"), [((4, 8, 16), 8), ((4, 8, 16, 32), 32)])
def test_a_futile_claim_stops_at_eight_seeds_unless_more_than_the_registered_are_asked_for(
    lab: Lab, looks: tuple[int, ...], last: int
) -> None:
    outcome = settle(claim(compare(Equivalence(margin=points(0.4)), GAMMA_ONLY, BETA_ONLY)), lab, looks)

    assert (outcome.status, outcome.look) == ("undecided", last)


def test_later_runs_of_a_decided_claim_are_named(lab: Lab) -> None:
    decided = claim(compare(Superiority(by=points(3.0)), BATCHNORM, AFFINE_LAYER))
    alone = settle(decided, lab, QUICK.looks)
    lab.complete(decided.runs(8)[:8])
    one_arm = settle(decided, lab, QUICK.looks)
    lab.complete(decided.runs(8))
    both = settle(decided, lab, QUICK.looks)

    assert [found.look for found in (alone, one_arm, both)] == [4, 4, 4]
    assert alone.verdict == one_arm.verdict == both.verdict
    assert "further" not in alone.reason
    assert one_arm.reason.endswith("4 further runs of these arms are recorded, none of them collapsed.")
    assert "8 further runs of these arms are recorded, none of them collapsed. With n = 8 + 8 the claim" in both.reason


def test_a_body_tells_its_specs_without_training() -> None:
    body = compare(Equivalence(), BATCHNORM_MINUS, BATCHNORM)

    assert [run.spec.norm for run in needs(body, PAPER, CIFAR10).arms] == [BATCHNORM_MINUS, BATCHNORM]
    assert {run.spec.epochs for run in needs(body, QUICK, CIFAR10).arms} == {5}


def first_then_second(lab, judge):
    """A body that looks at the Runs of its first arm before it asks for its second one."""
    first = lab.train(SPEC)
    assert [run.seed for run in first.runs] == list(range(len(first.runs)))
    second = lab.train(replace(SPEC, norm=AFFINE_LAYER))
    verdict = judge(Superiority(by=points(3.0)), first.accuracy, second.accuracy)
    assert verdict.held, verdict.reason


def test_an_outcome_lists_every_arm_that_was_judged_however_the_body_came_by_it(lab: Lab) -> None:
    planned = claim(first_then_second)

    outcome = settle(planned, lab, QUICK.looks)

    assert [run.spec.norm for run in planned.needs.arms] == [BATCHNORM]
    assert planned.needs.more
    assert (outcome.status, [arm.spec.norm for arm in outcome.arms]) == ("leans held", [BATCHNORM, AFFINE_LAYER])


def test_an_arm_that_was_not_planned_is_missing_where_nothing_trains(lab: Lab) -> None:
    planned = claim(first_then_second)
    lab.complete(planned.runs(4))

    outcome = settle(planned, replace(lab, trainer=None), QUICK.looks)

    assert outcome.status == "untrained"
    assert [(run.spec.norm, run.seed) for run in outcome.missing] == [(AFFINE_LAYER, seed) for seed in range(4)]


def test_a_body_cannot_hide_that_runs_are_missing(lab: Lab) -> None:
    def body(lab, judge):
        first = lab.train(SPEC)
        assert first.runs
        with suppress(Exception):
            lab.train(replace(SPEC, norm=AFFINE_LAYER))
        judge(Definition(), 1, 1)

    planned = claim(body)
    lab.complete(planned.runs(4))

    assert settle(planned, replace(lab, trainer=None), QUICK.looks).status == "untrained"


@pytest.mark.parametrize(
    "look",
    [
        lambda arm: arm.runs[0],
        lambda arm: len(arm.runs),
        lambda arm: sum(arm.accuracy.values) / len(arm.accuracy.values),
        lambda arm: min(arm.accuracy.seeds),
    ],
    ids=["first run", "number of runs", "mean", "seeds"],
)
def test_a_planned_body_ends_where_it_looks_at_runs_whatever_it_catches(look) -> None:
    def body(lab, judge):
        try:
            look(lab.train(SPEC))
        except Exception:
            lab.train(replace(SPEC, norm=AFFINE_LAYER))

    found = needs(body, QUICK, CIFAR10)

    assert (found.arms, found.more, found.error) == ((Replicate(QUICK_SPEC, 0),), True, None)


@pytest.mark.parametrize("error", [ZeroDivisionError("1 / 0"), StatisticsError("no margin"), SystemExit(3)], ids=repr)
def test_what_else_a_planned_body_raises_is_raised_before_anything_trains(
    lab: Lab, log: Path, error: BaseException
) -> None:
    def body(lab, judge):
        lab.train(SPEC)
        raise error

    with pytest.raises(type(error)) as caught:
        settle(claim(body), lab, QUICK.looks)

    assert caught.value is error
    assert epochs(log) == []


def test_an_interrupted_planning_is_an_interruption() -> None:
    def body(lab, judge):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        needs(body, QUICK, CIFAR10)


def test_a_body_sees_the_same_of_the_lab_when_it_is_planned_and_when_it_is_judged(lab: Lab) -> None:
    seen = []

    def body(lab, judge):
        seen.append({name for name in dir(lab) if not name.startswith("_") and callable(getattr(lab, name))})
        judge(Definition(), len(lab.train(SPEC).runs), 4)

    settle(claim(body), lab, QUICK.looks)

    assert seen == [{"train"}, {"train"}]


def test_probes_that_a_body_asks_for_are_planned() -> None:
    def body(lab, judge):
        lab.train(SPEC, probes=("gradient_spread",))
        lab.train(SPEC)

    assert needs(body, QUICK, CIFAR10).arms == (Replicate(QUICK_SPEC, 0, ("gradient_spread",)),)


def test_what_a_body_hands_to_judge_is_planned_with_its_samples() -> None:
    hypothesis = Equivalence()
    found = needs(compare(hypothesis, BATCHNORM_MINUS, BATCHNORM), QUICK, CIFAR10)

    asked, *samples = found.judged
    assert asked is hypothesis
    assert [(sample.spec.norm, sample.spec.epochs, sample.unit) for sample in samples] == [
        (BATCHNORM_MINUS, 5, "points"),
        (BATCHNORM, 5, "points"),
    ]
