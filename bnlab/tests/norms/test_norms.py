"""The norm layers against torch's own, and what is said of one that does not work."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.norms import AffineLayer, Place, layer
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
)

GROUPNORM = Norm(layer="bnlab.norms.groupnorm:GroupNorm")


@pytest.mark.parametrize("norm", [BATCHNORM, BATCHNORM_MINUS, GAMMA_ONLY, BETA_ONLY], ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_batchnorm_is_torchs_whatever_is_frozen(norm, training) -> None:
    x = 2 + 3 * torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    got, expected = layer(norm, 5).train(training), nn.BatchNorm2d(5).train(training)

    assert torch.equal(got(x), expected(x))
    assert torch.equal(got.running_var, expected.running_var)
    assert torch.equal(got.running_mean, expected.running_mean)


@pytest.mark.parametrize(
    ("norm", "trained"),
    [
        (BATCHNORM, ("bias", "weight")),
        (BATCHNORM_MINUS, ()),
        (GAMMA_ONLY, ("weight",)),
        (BETA_ONLY, ("bias",)),
        (AFFINE_LAYER, ("bias", "weight")),
        (Norm(layer=AFFINE_LAYER.layer, options={"shift": False}), ("weight",)),
        (Norm(layer=AFFINE_LAYER.layer, options={"scale": False}), ("bias",)),
        (NONE, ()),
    ],
    ids=str,
)
def test_a_norm_trains_the_parameters_its_spec_names(norm, trained) -> None:
    made = layer(norm, 5)

    assert sorted(name for name, parameter in made.named_parameters() if parameter.requires_grad) == list(trained)


def test_an_affine_layer_behind_a_convolution_is_that_convolution_with_other_weights_and_a_bias() -> None:
    """The paper's section 3.2: what AffineLayer adds could be folded into the convolution before it."""
    draw = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(2, 3, 8, 8, generator=draw).double(), torch.randn(5, 3, 3, 3, generator=draw).double()
    affine = AffineLayer(5).double()
    with torch.no_grad():
        affine.weight.copy_(torch.randn(5, generator=draw))
        affine.bias.copy_(torch.randn(5, generator=draw))

    got = affine(F.conv2d(x, kernel, padding=1))

    folded = kernel * affine.weight[:, None, None, None]
    torch.testing.assert_close(got, F.conv2d(x, folded, affine.bias, padding=1), rtol=0, atol=1e-12)
    assert not torch.allclose(got, F.conv2d(x, kernel, padding=1))


def test_an_affine_layer_starts_as_the_identity() -> None:
    x = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))

    assert torch.equal(layer(AFFINE_LAYER, 5)(x), x)


def test_an_affine_norm_per_layer_has_one_gamma_and_one_beta_for_all_channels() -> None:
    made = layer(AFFINE_PER_LAYER, 5)
    with torch.no_grad():
        made.weight.fill_(2)
        made.bias.fill_(3)
    x = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))

    assert [parameter.shape for parameter in made.parameters()] == [(1,), (1,)]
    assert torch.equal(made(x), 2 * x + 3)


def test_a_custom_norm_is_called_with_the_number_of_channels() -> None:
    assert layer(Norm(layer="bnlab.tests.engine.reference:Own"), 5).inner.num_features == 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no.such.module:Own", "cannot be imported"),
        ("bnlab.tests.engine.reference:NoSuchClass", "cannot be imported"),
        ("builtins:bytes", "gave a bytes: expected a torch.nn.Module"),
        ("torch.nn:GroupNorm", "cannot be made with 5 channels and the options {} (TypeError: "),
    ],
)
def test_a_norm_that_does_not_work_is_named_in_one_sentence(name: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        layer(Norm(layer=name), 5)

    message = str(caught.value)
    assert name in message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("norm", "said"),
    [
        (
            replace(AFFINE_LAYER, options={"scail": False}),
            "the norm 'bnlab.norms.affine:AffineLayer' has no option 'scail': it has scale, shift, per; "
            "did you mean 'scale'?",
        ),
        (
            replace(GROUPNORM, options={"epsilon": 1.0, "groups": 5}),
            "the norm 'bnlab.norms.groupnorm:GroupNorm' has no option 'epsilon': it has groups, eps, scale, shift; "
            "did you mean 'eps'?",
        ),
        (
            replace(NONE, options={"groups": 8}),
            "the norm 'bnlab.norms.none:Identity' has no option 'groups': it has none",
        ),
        (
            replace(GROUPNORM, options={"place": "layer1"}),
            "the norm 'bnlab.norms.groupnorm:GroupNorm' has no option 'place': it has groups, eps, scale, shift",
        ),
    ],
    ids=["near miss", "near miss beside a right one", "no options", "the place is not an option"],
)
def test_an_option_that_the_layer_does_not_have_is_named_with_those_it_has(norm: Norm, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        layer(norm, 5)

    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("bn1", Place(name="bn1", size=16, stage=0, block=0, position="bn1")),
        ("layer1.0.bn1", Place(name="layer1.0.bn1", size=8, stage=1, block=0, position="bn1")),
        ("layer3.1.bn2", Place(name="layer3.1.bn2", size=2, stage=3, block=1, position="bn2")),
        (
            "layer4.0.downsample.1",
            Place(name="layer4.0.downsample.1", size=1, stage=4, block=0, position="downsample.1"),
        ),
    ],
)
def test_a_layer_that_asks_for_its_place_gets_it(name: str, place: Place) -> None:
    model = build(ResNet(18), Norm(layer=f"{__name__}:Placed"), seed=0)

    assert model.get_submodule(name).place == place


@pytest.mark.parametrize(("name", "place"), [("blocks.4.bn2", (0, 4, "bn2")), ("features.1", (0, 0, "features.1"))])
def test_a_network_without_stages_has_places_too(name: str, place: tuple[int, int, str]) -> None:
    found = Place.of(name, size=8)

    assert (found.stage, found.block, found.position) == place


class Placed(nn.Module):
    """Keeps the place that it is told."""

    def __init__(self, channels: int, place: Place) -> None:
        super().__init__()
        self.channels, self.place = channels, place


def test_a_norm_that_asks_for_its_place_changes_no_initial_weight() -> None:
    placed, plain = (build(ResNet(18), norm, 3) for norm in (Norm(layer=f"{__name__}:Placed"), NONE))

    for name, weight in plain.state_dict().items():
        assert torch.equal(placed.state_dict()[name], weight)


def test_a_network_that_asks_for_a_norm_and_drops_it_has_no_place_for_it() -> None:
    with pytest.raises(SpecError, match="asks for a norm layer that it does not use"):
        build(Net(build=f"{__name__}:wasteful"), Norm(layer=f"{__name__}:Placed"), seed=0)


def wasteful(*, norm, classes: int) -> nn.Module:
    """Makes two norms and uses one."""
    norm(3)
    return nn.Sequential(norm(3), nn.Flatten(), nn.LazyLinear(classes))
