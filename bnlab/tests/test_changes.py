"""Another norm in an arm's place, or another recipe, for every claim."""

from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.changes import Changes
from bnlab.claims import settle
from bnlab.errors import SpecError
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Norm
from bnlab.protocol import PAPER
from bnlab.runs import recalibrated_accuracy
from bnlab.specs import CIFAR10
from bnlab.stats import Equivalence, Every, Replication, Superiority, points
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import SPEC, claim, compare, new_lab

GROUPNORM = Norm(layer="bnlab.norms.groupnorm:GroupNorm", options={"groups": 8})


def test_a_norm_stands_in_the_place_of_an_arm_and_of_no_other() -> None:
    changes = Changes.of(["BatchNorm-minus=bnlab.norms.groupnorm:GroupNorm(groups=8)"], [])

    assert changes.apply(replace(SPEC, norm=BATCHNORM_MINUS)) == replace(SPEC, norm=GROUPNORM)
    assert changes.apply(SPEC) == SPEC


def test_a_recipe_is_set_where_a_claim_leaves_the_papers() -> None:
    changes = Changes.of([], ["optimizer=sgd", "momentum=0.9", "nesterov=true", "epochs=30", "augmentation=flip+crop"])

    modern = replace(SPEC, optimizer="sgd", momentum=0.9, nesterov=True, epochs=30, augmentation="flip+crop")
    assert changes.apply(SPEC) == modern
    assert changes.apply(replace(SPEC, epochs=1)) == replace(modern, epochs=1)


@pytest.mark.parametrize(
    ("swap", "recipe", "words"),
    [
        (["BatchNorm-plus=a:B"], [], "expected ARM=LAYER*BatchNorm-minus"),
        (["BatchNorm"], [], "expected ARM=LAYER"),
        (["BatchNorm=GroupNorm"], [], "expected 'package.module:name'"),
        (["BatchNorm=a:B(8)"], [], "the layer 'a:B(8)': expected options as in"),
        (["BatchNorm=a:B(groups=len)"], [], "expected options as in"),
        (["BatchNorm=a:B(groups=[1])"], [], "expected a number"),
        ([], ["batch_size=20"], "expected FIELD=VALUE with one of epochs, optimizer"),
        ([], ["hypotheses/"], "paths before --set"),
        ([], ["epochs=many"], "expected a whole number for epochs"),
        ([], ["lr=fast"], "expected a number for lr"),
        ([], ["standardize=0"], "expected true or false"),
        ([], ["optimizer=lion"], "unknown optimizer 'lion'"),
        ([], ["momentum=0.9"], "momentum is 0.9 with adam"),
    ],
)
def test_a_change_that_means_nothing_is_refused_in_one_sentence(swap: list, recipe: list, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        Changes.of(swap, recipe)

    for part in words.split("*"):
        assert part in str(refused.value)


SWAP = "BatchNorm=AffineLayer"


@pytest.mark.usefixtures("no_flushing")
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (compare(Superiority(by=points(3.0)), AFFINE_LAYER, NONE), "leans held", ()),
        (compare(Superiority(by=points(3.0)), BATCHNORM, NONE), "leans held", (SWAP,)),
        (compare(Equivalence(), BATCHNORM, AFFINE_LAYER), "exercised", (SWAP,)),
        (compare(Every(Replication(published=76.65)), BATCHNORM), "exercised", (SWAP,)),
    ],
    ids=["untouched", "swapped", "the same arm twice", "published number"],
)
def test_claims_lean_with_an_arm_swapped_and_say_so(tmp_path: Path, body, status: str, said: tuple) -> None:
    protocol = replace(PAPER, changes=Changes.of([SWAP], []))

    outcome = settle(claim(body, protocol), new_lab(tmp_path, FakeTrainer(tmp_path / "log"), protocol), [4])

    assert (outcome.status, outcome.changes) == (status, said)
    assert BATCHNORM not in [arm.spec.norm for arm in outcome.arms]


@pytest.mark.usefixtures("no_flushing")
def test_what_cannot_be_measured_on_the_swapped_arm_is_exercised(tmp_path: Path) -> None:
    protocol = replace(PAPER, changes=Changes.of([SWAP], []))

    def body(lab, judge):
        arm = lab.train(SPEC).measure(recalibrated_accuracy)
        verdict = judge(Equivalence(), arm, lab.train(replace(SPEC, norm=NONE)).accuracy)
        assert verdict.held, verdict.reason

    outcome = settle(claim(body, protocol), new_lab(tmp_path, FakeTrainer(tmp_path / "log"), protocol), [4])

    assert outcome.status == "exercised"
    assert "exercised under paper with BatchNorm=AffineLayer, which leaves nothing to judge" in outcome.reason


def test_a_layer_of_the_user_is_another_run_for_every_version_of_its_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "norms_to_swap.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    protocol = replace(PAPER, changes=Changes.of(["BatchNorm=norms_to_swap:Mine"], []))

    assert len(protocol.apply(SPEC, CIFAR10).norm.source) == 64
