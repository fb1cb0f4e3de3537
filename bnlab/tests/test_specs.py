"""RunSpec, Replicate and Protocol: plain values with addresses, refused in one sentence where they mean nothing."""

import hashlib
import itertools
import json
from dataclasses import fields, replace

import pytest

from bnlab import protocol as protocols
from bnlab import record_1
from bnlab.errors import SpecError
from bnlab.parts import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Norm,
    Part,
    ResNet,
)
from bnlab.specs import CIFAR10, RECORD, Group, Penalty, Replicate, RunSpec, recorded_key, run_key

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20, data=CIFAR10)

OTHER = {
    "net": ResNet(34),
    "norm": NONE,
    "batch_size": 50,
    "epochs": 5,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "groups": (Group("norms", lr=0.1, weight_decay=0.0), Group("*.bias")),
    "penalty": Penalty(p=1.5, strength=1e-4),
    "schedule": "cosine",
    "warmup": 2,
    "init": Part(code="my_inits:zero", options={"gain": 0.5}),
    "parametrization": Part(code="my_weights:normalized"),
    "standardize": False,
    "augmentation": "flip",
    "last_batch": "keep",
    "precision": "bf16",
    "engine": "eager",
    "evaluations": ("batch",),
    "data": "0" * 64,
}
NEEDS = {"momentum": {"optimizer": "sgd"}, "nesterov": {"optimizer": "sgd", "momentum": 0.9}}
"""Fields that mean something only beside another one."""


def other(name):
    """SPEC with another value of one field."""
    return replace(SPEC, **{name: OTHER[name]}, **NEEDS.get(name, {}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 1}, "batch_size is 1: expected a whole number of at least 2 images"),
        ({"batch_size": 2.5}, "batch_size is 2.5: expected a whole number of at least 2 images"),
        ({"epochs": 0}, "epochs is 0: expected a whole number of at least 1"),
        ({"warmup": -1}, "warmup is -1: expected a whole number of epochs, 0 or more"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': expected one of adam, sgd"),
        ({"precision": "fp16"}, "unknown precision 'fp16': expected one of fp32, tf32, bf16"),
        ({"last_batch": "pad"}, "unknown last_batch 'pad': expected one of drop, keep"),
        ({"lr": 0.0}, "lr is 0.0: expected a number above 0"),
        ({"lr": float("nan")}, "lr is nan: expected a number above 0"),
        ({"momentum": 0.9}, "momentum is 0.9 with adam: expected 0, or for sgd 0 to below 1"),
        ({"nesterov": True}, "nesterov is True without momentum: give sgd a momentum above 0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0: expected a number of at least 0"),
        (
            {"engine": "eager", "precision": "bf16"},
            "the eager engine has no bf16: take precision 'fp32' or 'tf32', or engine 'fused'",
        ),
    ],
)
def test_a_run_spec_that_means_nothing_is_refused_in_one_sentence(change, said):
    with pytest.raises(SpecError) as error:
        replace(SPEC, **change)

    assert str(error.value) == said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Group("norms", lr=-1.0), "the group 'norms' multiplies lr by -1.0: expected 0 or more"),
        (lambda: Group("head", weight_decay=-1.0), "the group 'head' has weight_decay -1.0: expected 0 or more"),
        (
            lambda: Penalty(p=0.5, strength=1.0),
            "the penalty has p 0.5 and strength 1.0: expected p >= 1 and strength > 0",
        ),
        (lambda: protocols.protocol("fast"), "unknown protocol 'fast': expected one of paper, quick, smoke"),
        (
            lambda: protocols.PAPER.with_seeds(1),
            "--seeds 1: an interval takes at least 2 seeds; ask for 2 to 10000",
        ),
    ],
)
def test_what_means_nothing_is_refused_in_one_sentence(make, said):
    with pytest.raises(SpecError) as error:
        make()

    assert str(error.value) == said


def test_every_field_has_its_part_in_the_key():
    keys = {other(name).key for name in OTHER if name != "engine"} | {other("engine").key}

    assert OTHER.keys() == {field.name for field in fields(RunSpec)}
    assert len(keys | {SPEC.key}) == len(OTHER) + 1
    assert len({run_key(SPEC, seed) for seed in range(3)} | {SPEC.key}) == 4


@pytest.mark.parametrize("text", [str, lambda spec: spec.label], ids=["text", "label"])
def test_two_run_specs_never_print_alike(text):
    specs = [SPEC, *map(other, OTHER), replace(SPEC, optimizer="sgd", lr=0.01), replace(SPEC, optimizer="sgd")]

    for one, two in itertools.combinations(specs, 2):
        assert (text(one) == text(two)) == (one == two), (text(one), text(two))


def test_a_run_spec_of_the_paper_prints_its_four_choices():
    assert str(SPEC) == "ResNet18, BatchNorm, batch 20, 15 epochs"
    assert SPEC.label == "BatchNorm (ResNet18, batch 20)"
    assert replace(SPEC, epochs=5).label == "BatchNorm (ResNet18, batch 20, 5 epochs)"
    assert str(replace(other("nesterov"), lr=0.1, standardize=False)) == (
        "ResNet18, BatchNorm, batch 20, 15 epochs, sgd, lr 0.1, momentum 0.9, nesterov, no standardize"
    )


def test_key_is_the_sha256_of_sorted_json_with_the_defaults_in_it():
    text = json.dumps({"record": RECORD, "seed": 3, "spec": SPEC.to_json()}, sort_keys=True, separators=(",", ":"))

    assert run_key(SPEC, 3) == hashlib.sha256(text.encode()).hexdigest()
    assert '"epochs":15' in text
    assert CIFAR10 in text


@pytest.mark.parametrize("name", OTHER)
def test_spec_survives_json(name):
    spec = other(name)

    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_unknown_fields_are_refused():
    with pytest.raises(SpecError, match=r"^not a RunSpec of this version \(.*'colour'\): export it again with this"):
        RunSpec.from_json(SPEC.to_json() | {"colour": "red"})


RECORD_1 = {
    "net": {"depth": 50},
    "norm": {"layer": "batchnorm", "scale": False, "shift": False, "per": "channel", "conv_bias": False},
    "batch_size": 50,
    "epochs": 5,
    "optimizer": "adam",
    "lr": 0.001,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "schedule": "constant",
    "augmentation": "none",
    "precision": "tf32",
    "engine": "fused",
    "probes": [],
    "data": CIFAR10,
}


@pytest.mark.parametrize(
    ("layer", "changed", "norm", "net"),
    [
        ("batchnorm", {"scale": True, "shift": True}, BATCHNORM, ResNet(50)),
        ("batchnorm", {}, BATCHNORM_MINUS, ResNet(50)),
        ("batchnorm", {"scale": True}, GAMMA_ONLY, ResNet(50)),
        ("batchnorm", {"shift": True}, BETA_ONLY, ResNet(50)),
        ("affine", {"scale": True, "shift": True}, AFFINE_LAYER, ResNet(50)),
        ("affine", {"scale": True, "shift": True, "per": "layer"}, AFFINE_PER_LAYER, ResNet(50)),
        ("none", {}, NONE, ResNet(50)),
        ("none", {"conv_bias": True}, NONE, ResNet(50, conv_bias=True)),
        ("my_norms:Own", {}, Norm(layer="my_norms:Own"), ResNet(50)),
    ],
)
def test_a_run_spec_of_record_1_is_translated(layer, changed, norm, net):
    recorded = RECORD_1 | {"norm": RECORD_1["norm"] | {"layer": layer} | changed}

    spec = RunSpec.from_json(recorded)

    assert spec == RunSpec(net=net, norm=norm, batch_size=50, epochs=5, data=CIFAR10)
    assert record_1.translate(spec.to_json()) == spec.to_json()


def test_a_run_of_record_1_keeps_the_address_it_was_recorded_under():
    # the first recorded Run of ResNet50 without shift and scale, made before the record was raised
    text = json.dumps({"record": 1, "seed": 0, "spec": RECORD_1}, sort_keys=True, separators=(",", ":"))

    assert recorded_key(RECORD_1, 0) == hashlib.sha256(text.encode()).hexdigest()
    assert recorded_key(RECORD_1, 0) != run_key(RunSpec.from_json(RECORD_1), 0)


@pytest.mark.parametrize("norm", [AFFINE_LAYER, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, NONE], ids=str)
def test_specs_that_differ_in_a_norm_of_the_paper_share_a_cohort(norm):
    assert replace(SPEC, norm=norm).cohort_key == SPEC.cohort_key


@pytest.mark.parametrize("norm", [AFFINE_PER_LAYER, Norm(layer="my_norms:Own")], ids=str)
def test_a_norm_with_tensors_of_another_shape_shares_no_cohort(norm):
    assert replace(SPEC, norm=norm).cohort_key == replace(SPEC, norm=norm) != SPEC.cohort_key


@pytest.mark.parametrize("field", sorted(set(OTHER) - {"norm"}))
def test_specs_that_differ_in_anything_else_share_no_cohort(field):
    assert other(field).cohort_key != SPEC.cohort_key


@pytest.mark.parametrize("field", ["weight_decay", "engine", "groups", "penalty"])
def test_norms_share_no_cohort_where_weights_decay_or_torch_trains(field):
    assert other(field).cohort_key != replace(other(field), norm=NONE).cohort_key


def test_a_replicate_is_one_run_whichever_probes_are_wanted():
    plain, probed = Replicate(SPEC, 3), Replicate(SPEC, 3, ("gradient_spread",))

    assert plain.key == probed.key == run_key(SPEC, 3)
    assert plain != probed
    assert str(probed) == "ResNet18, BatchNorm, batch 20, 15 epochs, seed 3"
    assert probed.cohort_key == SPEC.cohort_key


@pytest.mark.parametrize(
    ("name", "epochs", "trained"),
    [("paper", 15, 15), ("quick", 15, 5), ("quick", 30, 10), ("quick", 3, 1), ("quick", 1, 1), ("smoke", 15, 1)],
)
def test_a_protocol_trains_its_share_of_the_epochs(name, epochs, trained):
    assert protocols.protocol(name).apply(replace(SPEC, epochs=epochs), "1" * 64).epochs == trained


def test_a_run_spec_that_names_its_data_keeps_it():
    assert protocols.QUICK.apply(replace(SPEC, data=""), "1" * 64).data == "1" * 64
    assert protocols.QUICK.apply(replace(SPEC, data="2" * 64), "1" * 64).data == "2" * 64


def test_a_protocol_notes_the_source_of_a_layer_of_a_user(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "noted_norm.py").write_text("class Mine: pass\n")
    norm = Norm(layer="noted_norm:Mine", name="Mine")

    applied = protocols.PAPER.apply(replace(SPEC, norm=norm), CIFAR10)

    assert applied.norm == norm.sourced() != norm
    assert applied.norm.label == "Mine"


@pytest.mark.parametrize(
    ("seeds", "looks"), [(2, (2,)), (4, (4,)), (6, (4, 6)), (16, (4, 8, 16)), (20, (4, 8, 16, 20))]
)
def test_seeds_are_the_last_look(seeds, looks):
    assert protocols.PAPER.with_seeds(seeds).looks == looks
