"""RunSpec, Norm, ResNet and Protocol: plain values with addresses, refused in words where they mean nothing."""

import hashlib
import json
from dataclasses import fields, replace

import pytest

from bnlab import protocol as protocols
from bnlab.errors import SpecError
from bnlab.specs import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    CIFAR10,
    GAMMA_ONLY,
    NONE,
    NONE_CONV_BIAS,
    RECORD,
    Norm,
    ResNet,
    RunSpec,
    run_key,
)

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20)

OTHER = {
    "net": ResNet(34),
    "norm": NONE,
    "batch_size": 50,
    "epochs": 5,
    "optimizer": "sgd",
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "cosine",
    "augmentation": "flip",
    "precision": "bf16",
    "engine": "eager",
    "probes": ("gradient_spread",),
    "data": "0" * 64,
}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResNet(20), "unknown network ResNet(20): expected a depth of 18, 34, 50 or 101"),
        (
            lambda: Norm(layer="layernorm"),
            "unknown norm 'layernorm': expected batchnorm, affine, none, or 'package.module:Class' for your own",
        ),
        (
            lambda: Norm(layer="affine"),
            "an affine Norm without scale and without shift is Norm(layer='none'): use NONE",
        ),
        (
            lambda: Norm(layer="none", scale=True),
            "scale and shift are parts of batchnorm and affine, not of 'none'",
        ),
        (
            lambda: Norm(layer="batchnorm", per="layer"),
            "parameters per layer exist for the affine Norm only, not for 'batchnorm'",
        ),
        (
            lambda: replace(AFFINE_LAYER, per="pixel"),
            "a Norm has parameters per 'channel' or per 'layer', not per 'pixel'",
        ),
        (lambda: replace(SPEC, batch_size=1), "batch_size is 1: expected a whole number of at least 2 images"),
        (lambda: replace(SPEC, batch_size=2.5), "batch_size is 2.5: expected a whole number of at least 2 images"),
        (lambda: replace(SPEC, epochs=0), "epochs is 0: expected a whole number of at least 1"),
        (lambda: replace(SPEC, optimizer="lion"), "unknown optimizer 'lion': expected one of adam, sgd"),
        (lambda: replace(SPEC, precision="fp16"), "unknown precision 'fp16': expected one of fp32, tf32, bf16"),
        (lambda: replace(SPEC, lr=0.0), "lr is 0.0: expected a number above 0"),
        (lambda: replace(SPEC, lr=float("nan")), "lr is nan: expected a number above 0"),
        (lambda: replace(SPEC, momentum=0.9), "momentum is 0.9 with adam: expected 0, or for sgd 0 to below 1"),
        (lambda: replace(SPEC, weight_decay=-1.0), "weight_decay is -1.0: expected a number of at least 0"),
        (
            lambda: replace(SPEC, engine="eager", precision="bf16"),
            "the eager engine has no bf16: take precision 'fp32' or 'tf32', or engine 'fused'",
        ),
        (lambda: protocols.protocol("fast"), "unknown protocol 'fast': expected one of paper, quick, smoke"),
        (
            lambda: protocols.PAPER.with_seeds(1),
            "--seeds 1: an interval takes at least 2 seeds; ask for 2 or more",
        ),
    ],
)
def test_what_means_nothing_is_refused_in_one_sentence(make, said):
    with pytest.raises(SpecError) as error:
        make()

    assert str(error.value) == said


def test_every_field_has_its_part_in_the_key():
    changed = {"optimizer": {"momentum": 0.0}, "momentum": {"optimizer": "sgd"}, "engine": {"precision": "tf32"}}
    keys = {replace(SPEC, **{name: value}, **changed.get(name, {})).key for name, value in OTHER.items()}

    assert OTHER.keys() == {field.name for field in fields(RunSpec)}
    assert len(keys | {SPEC.key}) == len(OTHER) + 1
    assert len({run_key(SPEC, seed) for seed in range(3)} | {SPEC.key}) == 4


def test_key_is_the_sha256_of_sorted_json_with_the_defaults_in_it():
    text = json.dumps({"record": RECORD, "seed": 3, "spec": SPEC.to_json()}, sort_keys=True, separators=(",", ":"))

    assert run_key(SPEC, 3) == hashlib.sha256(text.encode()).hexdigest()
    assert '"epochs":15' in text
    assert CIFAR10 in text


@pytest.mark.parametrize(
    "changed", [{}, *({name: value} for name, value in OTHER.items() if name not in ("momentum",))]
)
def test_spec_survives_json(changed):
    spec = replace(SPEC, **changed)

    assert RunSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_unknown_fields_are_refused_in_words():
    with pytest.raises(SpecError, match=r"^not a RunSpec of this version \(.*'colour'\): export it again with this"):
        RunSpec.from_json(SPEC.to_json() | {"colour": "red"})


@pytest.mark.parametrize("norm", [AFFINE_LAYER, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, NONE], ids=str)
def test_specs_that_differ_in_one_of_our_norms_share_a_program(norm):
    assert replace(SPEC, norm=norm).program == SPEC.program


@pytest.mark.parametrize("norm", [AFFINE_PER_LAYER, NONE_CONV_BIAS, Norm(layer="my_norms:Own")], ids=str)
def test_a_norm_with_tensors_of_another_shape_has_a_program_of_its_own(norm):
    assert replace(SPEC, norm=norm).program == replace(SPEC, norm=norm) != SPEC.program


@pytest.mark.parametrize("field", sorted(set(OTHER) - {"norm"}))
def test_specs_that_differ_in_anything_else_share_no_program(field):
    assert replace(SPEC, **{field: OTHER[field], "optimizer": OTHER["optimizer"]}).program != SPEC.program


@pytest.mark.parametrize("other", [{"weight_decay": 1e-4}, {"engine": "eager"}], ids=str)
def test_norms_share_no_program_where_weights_decay_or_torch_trains(other):
    assert replace(SPEC, **other).program != replace(SPEC, **other, norm=NONE).program


def test_protocol_shortens_and_never_lengthens_a_training():
    assert protocols.QUICK.apply(SPEC, "1" * 64) == replace(SPEC, epochs=5, data="1" * 64)
    assert protocols.PAPER.apply(replace(SPEC, epochs=3), CIFAR10).epochs == 3


@pytest.mark.parametrize(
    ("seeds", "looks"), [(2, (2,)), (4, (4,)), (6, (4, 6)), (16, (4, 8, 16)), (20, (4, 8, 16, 20))]
)
def test_seeds_are_the_last_look(seeds, looks):
    assert protocols.PAPER.with_seeds(seeds).looks == looks
