"""Norm, Net and Part: code and options as plain values, with a digest for the code of a user."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import torchvision

from bnlab.errors import SpecError
from bnlab.parts import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Net,
    Norm,
    ResNet,
    source_digest,
)

CUSTOM = Norm(layer="my_norms:RMSNorm2d", options={"eps": 1e-6})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResNet(20), "unknown network ResNet(20): expected a depth of 18, 34, 50 or 101"),
        (
            lambda: Norm(layer="layernorm"),
            "unknown Norm 'layernorm': expected 'package.module:name', such as bnlab.norms.batchnorm:BatchNorm",
        ),
        (
            lambda: Net(build="resnet20"),
            "unknown Net 'resnet20': expected 'package.module:name', such as bnlab.nets.resnet:build",
        ),
        (
            lambda: replace(CUSTOM, options={"groups": [8]}),
            "option 'groups' of my_norms:RMSNorm2d is a list: expected a number, a text, True, False or None, since it "
            "is part of the Run's key",
        ),
    ],
)
def test_what_means_nothing_is_refused_in_one_sentence(make, said):
    with pytest.raises(SpecError) as error:
        make()

    assert str(error.value) == said


@pytest.mark.parametrize(
    ("part", "label", "text"),
    [
        (BATCHNORM, "BatchNorm", "BatchNorm"),
        (BATCHNORM_MINUS, "BatchNorm-minus", "BatchNorm-minus"),
        (GAMMA_ONLY, "gamma-only", "gamma-only"),
        (BETA_ONLY, "beta-only", "beta-only"),
        (AFFINE_LAYER, "AffineLayer", "AffineLayer"),
        (AFFINE_PER_LAYER, "AffineLayer per layer", "AffineLayer per layer"),
        (NONE, "None", "None"),
        (ResNet(50), "ResNet50", "ResNet50"),
        (ResNet(50, conv_bias=True), "ResNet50 with conv bias", "ResNet50 with conv bias"),
        (CUSTOM, "my_norms:RMSNorm2d(eps=1e-06)", "my_norms:RMSNorm2d(eps=1e-06)"),
        (replace(CUSTOM, name="RMSNorm"), "RMSNorm", "RMSNorm [my_norms:RMSNorm2d(eps=1e-06)]"),
        (replace(CUSTOM, name="BatchNorm"), "BatchNorm", "BatchNorm [my_norms:RMSNorm2d(eps=1e-06)]"),
        (replace(CUSTOM, source="ab" * 32), CUSTOM.label, "my_norms:RMSNorm2d(eps=1e-06)@abababab"),
    ],
)
def test_a_part_has_a_short_label_and_a_text_that_says_what_it_is(part, label, text):
    assert (part.label, str(part)) == (label, text)


def test_options_have_no_order_and_a_name_is_no_part_of_the_identity():
    first = Norm(layer="m:C", options={"a": 1, "b": None})

    assert first == Norm(layer="m:C", options={"b": None, "a": 1}, name="C")
    assert hash(first) == hash(replace(first, name="C"))
    assert first != replace(first, options={"a": 1})
    assert first.keywords == {"a": 1, "b": None}


@pytest.mark.parametrize("part", [BATCHNORM_MINUS, CUSTOM, ResNet(34), ResNet(34, conv_bias=True)], ids=str)
def test_a_part_survives_json(part):
    again = type(part).from_json(json.loads(json.dumps(part.to_json())))

    assert again == part
    assert again.label == part.label


def test_a_known_network_read_from_json_has_its_cost():
    again = Net.from_json(ResNet(101).to_json())

    assert (again.macs, again.layers, again.parameters) == (160e6, 101, 42.5e6)


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_a_resnet_has_as_many_parameters_as_torchvisions(depth):
    with torch.device("meta"):
        counted = sum(p.numel() for p in getattr(torchvision.models, f"resnet{depth}")(num_classes=10).parameters())

    assert ResNet(depth).parameters == pytest.approx(counted, rel=0.005)


def test_an_edited_layer_is_another_layer(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "edited_norm.py"
    norm = Norm(layer="edited_norm:Mine")
    found = []
    for text in ("class Mine:\n    a = 1\n", "class Mine:\r\n    a = 1\r\n", "class Mine:\n    a = 2\n"):
        file.write_bytes(text.encode())
        source_digest.cache_clear()
        found.append(norm.sourced())

    assert found[0] == found[1] != found[2]
    assert norm.source == ""
    assert len(found[0].source) == 64


def test_the_code_of_a_package_is_known_by_its_version():
    import torch

    assert source_digest("torch.nn:BatchNorm2d") == f"torch {torch.__version__.partition('+')[0]}"
    assert source_digest("bnlab.norms.batchnorm:BatchNorm") == ""


def test_a_layer_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"the module of 'no_such_module:Mine' cannot be found.*: put it on the Python"):
        Norm(layer="no_such_module:Mine").sourced()


def test_the_digest_of_a_layer_runs_none_of_its_code(tmp_path):
    (tmp_path / "loud_norm.py").write_text("raise SystemExit('imported')\n")
    code = "from bnlab.parts import Norm; print(len(Norm(layer='loud_norm:Mine').sourced().source))"

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert done.stdout == "64\n"
