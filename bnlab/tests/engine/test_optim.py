"""Groups, penalty, schedules, last batch and input scale are torch's own, in the fused program and in the eager one."""

from dataclasses import replace

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine import optim
from bnlab.errors import DataError, SpecError
from bnlab.nets import build
from bnlab.parts import BATCHNORM, BATCHNORM_MINUS, NONE, Net, ResNet
from bnlab.specs import Group, Penalty, Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=8, precision="fp32", optimizer="sgd", lr=0.05, epochs=2)
DATA = reference.arrays(19, 6)
"""Two steps of eight an epoch, and three images over."""

GROUPS = (Group("norms", weight_decay=0.0), Group("head", lr=0.25), Group("blocks.0.*", lr=2.0, weight_decay=0.1))
CHANGES = {
    "groups": {"groups": GROUPS, "weight_decay": 0.05},
    "penalty p 1": {"penalty": Penalty(p=1.0, strength=1e-3)},
    "penalty p 1.5 on norms": {"penalty": Penalty(p=1.5, strength=1e-2, parameters="norms")},
    "penalty p 3 on a pattern": {"penalty": Penalty(p=3.0, strength=1.0, parameters="fc.*")},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "keep": {"last_batch": "keep", "augmentation": "flip+crop"},
    "not standardised": {"standardize": False},
    "step and warm-up": {"schedule": "step", "warmup": 1, "epochs": 2},
    "dead taps": {"net": ResNet(18), "penalty": Penalty(p=1.5, strength=1e-3), "weight_decay": 0.05},
    "adam": {"optimizer": "adam", "lr": 1e-3, "groups": GROUPS, "weight_decay": 0.01, "last_batch": "keep"},
}
ALL = {
    "momentum": 0.9,
    "nesterov": True,
    "groups": GROUPS,
    "weight_decay": 0.05,
    "penalty": Penalty(p=1.5, strength=1e-3),
    "schedule": "onecycle",
    "warmup": 1,
    "last_batch": "keep",
    "augmentation": "flip+crop",
    "standardize": False,
    "epochs": 3,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("how", ["fused", "eager"])
def test_training_is_that_of_torchs_own_optimizer(change, how, record_property) -> None:
    spec = replace(SPEC, engine=how, **change)
    record_property("differences", proofs.assert_free_steps(spec, (7,), 0, DATA, epochs=2, within=1e-9))


@pytest.mark.parametrize("how", [((7,), 0, "eager"), ((3, 7, 11), 1, "fused")], ids=["eager", "beside others"])
def test_everything_together_is_torchs_own(how, record_property) -> None:
    seeds, slot, kind = how
    spec = replace(SPEC, engine=kind, **ALL)
    record_property("differences", proofs.assert_free_steps(spec, seeds, slot, DATA, epochs=3, within=1e-9))


@pytest.mark.parametrize("how", ["fused", "eager"])
def test_a_resumed_run_with_everything_is_the_run(how) -> None:
    adam = {"optimizer": "adam", "lr": 1e-3, "momentum": 0.0, "nesterov": False}
    own = adam if how == "eager" else {}
    proofs.assert_resumed(replace(SPEC, **{**ALL, **own, "engine": how}), (3, 7), DATA, after=1)


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "onecycle"])
@pytest.mark.parametrize("steps", [7, 10])
def test_learning_rates_are_those_of_torchs_schedulers(schedule, warmup, steps) -> None:
    spec = replace(SPEC, schedule=schedule, warmup=warmup, epochs=9)
    expected = [spec.lr * factor for factor in reference.factors(spec, 9 * steps)]

    assert rates(spec, steps) == pytest.approx(expected, rel=1e-9)


def test_warm_up_is_torchs_linear_rate_in_a_sequence() -> None:
    spec = replace(SPEC, schedule="cosine", warmup=2, epochs=9, lr=1.0)

    def sequence(optimizer: torch.optim.Optimizer) -> SequentialLR:
        first = LinearLR(optimizer, start_factor=1 / 20, total_iters=19)
        return SequentialLR(optimizer, [first, CosineAnnealingLR(optimizer, T_max=70)], milestones=[20])

    assert rates(spec, 10) == pytest.approx(reference.scheduled(sequence, 90), rel=1e-9)


def test_warm_up_of_the_whole_training_ends_at_the_peak() -> None:
    spec = replace(SPEC, warmup=5, epochs=2)

    assert optim.learning_rate(spec, 0, 10) == pytest.approx(spec.lr / 50)
    assert optim.learning_rate(spec, 19, 10) == pytest.approx(spec.lr * 20 / 50)


def test_a_penalty_of_p_two_is_weight_decay() -> None:
    strength = 0.01
    penalised = replace(SPEC, penalty=Penalty(p=2.0, strength=strength))
    decayed = replace(SPEC, groups=(Group("kernels", weight_decay=2 * strength),))
    states = []
    for spec in (penalised, decayed):
        whole = proofs.training(spec, (7,), proofs.STEP)
        whole.epoch(0)
        states.append(whole.program.state_dict(0))

    for name, tensor in states[0].items():
        proofs.assert_near(tensor, states[1][name], 1e-12, name)


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({}, False),
        ({"weight_decay": 0.1}, True),
        ({"weight_decay": 0.1, "groups": (Group("kernels", weight_decay=0.0),)}, False),
        ({"groups": (Group("layer4.*", weight_decay=0.1),)}, True),
        ({"groups": (Group("norms", weight_decay=0.1),)}, False),
        ({"penalty": Penalty(p=2.0, strength=0.1)}, True),
        ({"penalty": Penalty(p=2.0, strength=0.1, parameters="head")}, False),
    ],
)
def test_dead_taps_are_left_out_only_where_nothing_moves_them(change, moved) -> None:
    assert optim.moves_dead_taps(replace(SPEC, **change), build(ResNet(18), BATCHNORM, 0)) is moved


def test_parameters_are_of_the_kind_that_their_layer_is() -> None:
    kinds = optim.parameter_kinds(build(ResNet(18, conv_bias=True), reference.OWN, 0))

    for name, kind in kinds.items():
        named = [known for known in optim.KINDS if reference.belongs(name, known)]
        assert [kind] == named or (kind, name.endswith("bias")) == ("", True), name
    assert kinds["bn1.inner.weight"] == "norms"
    assert kinds["conv1.bias"] == ""


def test_first_group_that_matches_takes_a_parameter() -> None:
    spec = replace(SPEC, weight_decay=0.5, groups=(Group("fc.bias", lr=2.0), Group("head", lr=3.0, weight_decay=0.0)))
    treated = optim.treatments(spec, build(ResNet(18), BATCHNORM, 0))

    assert treated["fc.bias"] == optim.Treatment(2.0, 0.5)
    assert treated["fc.weight"] == optim.Treatment(3.0, 0.0)
    assert treated["conv1.weight"] == optim.Treatment(1.0, 0.5)


def test_pattern_that_matches_nothing_is_refused_with_a_clear_message() -> None:
    with pytest.raises(
        SpecError, match=r"^the pattern 'conv9\.\*' matches no parameter: expected norms, kernels, head or"
    ):
        proofs.training(replace(SPEC, groups=(Group("conv9.*"),)), (7,), proofs.STEP)


@pytest.mark.parametrize("norm", [NONE, BATCHNORM_MINUS], ids=str)
def test_group_of_norms_may_be_empty(norm) -> None:
    spec = replace(SPEC, norm=norm, groups=(Group("norms", weight_decay=0.0),), weight_decay=0.1)

    assert len(proofs.training(spec, (7,), proofs.STEP).optimizer.param_groups) == 1


def test_curves_of_an_epoch_with_a_smaller_last_batch_count_every_image() -> None:
    spec = replace(SPEC, last_batch="keep", epochs=1)
    (got,) = engine.train([Replicate(spec, 7)], Images.of(DATA, "cpu"), "cpu")
    solo = reference.Solo(spec, 7, DATA)
    losses = solo.epoch(0)

    assert got.curves["train_loss"][0] == pytest.approx(sum(losses) / 3, rel=1e-2), "the mean of the batches' means"
    right = got.curves["train_accuracy"][0] * 19 / 100
    assert right == pytest.approx(round(right)), "a share of 19 images"


def test_last_batch_of_one_image_is_refused_with_a_clear_message() -> None:
    with pytest.raises(DataError, match=r"^the last batch of 9 training images has a single one"):
        engine.train([Replicate(replace(SPEC, last_batch="keep"), 7)], Images.of(proofs.STEP, "cpu"), "cpu")


def rates(spec: RunSpec, steps: int) -> list[float]:
    """The learning rate of every step of a training."""
    return [optim.learning_rate(spec, at, steps) for at in range(spec.epochs * steps)]
