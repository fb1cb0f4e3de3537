"""Weight normalisation by torch's parametrization, and the initialisation from data that belongs to it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.data.images import Images
from bnlab.data.sources import load
from bnlab.engine.eager import network
from bnlab.errors import SpecError
from bnlab.nets import apply_part, build
from bnlab.parts import BATCHNORM, NONE, Net, Part
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.norms.tiny import TINY

WEIGHT_NORM = Part(code="torch.nn.utils.parametrizations:weight_norm")
FROM_DATA = Part(code="bnlab.nets.from_data:initialise")
VGG = Net(build="bnlab.nets.vgg:build")
X = torch.randn(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def normalised() -> tuple[nn.Conv2d, torch.Tensor]:
    conv = nn.Conv2d(3, 5, 3, bias=False).double()
    nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(0))
    before = conv.weight.detach().clone()
    apply_part(WEIGHT_NORM, conv)
    return conv, before


def test_a_weight_normalised_filter_starts_as_it_was_and_has_the_length_g() -> None:
    conv, before = normalised()
    g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1

    torch.testing.assert_close(conv.weight, before, rtol=0, atol=1e-12)
    with torch.no_grad():
        g.copy_(torch.arange(1.0, 6.0)[:, None, None, None])
        v.mul_(7)
    torch.testing.assert_close(conv.weight.flatten(1).norm(dim=1), torch.arange(1.0, 6.0).double())


def test_its_gradients_are_those_of_the_paper_and_orthogonal_to_v() -> None:
    """Salimans & Kingma 2016, equation 3, from the gradient of the plain weight."""
    conv, plain = normalised()
    g, v = conv.parametrizations.weight.original0, conv.parametrizations.weight.original1
    x, plain = X[:2].double(), plain.requires_grad_()
    F.conv2d(x, plain).cos().sum().backward()
    conv(x).cos().sum().backward()

    rows, upstream, length = v.flatten(1), plain.grad.flatten(1), v.flatten(1).norm(dim=1, keepdim=True)
    of_g = (upstream * rows).sum(1, keepdim=True) / length
    of_v = g.flatten(1) / length * upstream - g.flatten(1) * of_g / length**2 * rows
    torch.testing.assert_close(g.grad.flatten(1), of_g, rtol=0, atol=1e-10)
    torch.testing.assert_close(v.grad.flatten(1), of_v, rtol=0, atol=1e-10)
    torch.testing.assert_close((v.grad.flatten(1) * rows).sum(1), torch.zeros(5).double(), rtol=0, atol=1e-10)


def test_an_initialisation_from_data_gives_every_layer_outputs_of_mean_zero_and_variance_one() -> None:
    model = build(VGG, NONE, seed=0, init=FROM_DATA, images=X)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    outputs: list[torch.Tensor] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, y: outputs.append(y.clone()))
    model(X)

    assert len(outputs) == len(layers) == 9
    for y in outputs:
        rows = y.transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(len(rows)), rtol=0, atol=1e-3)
        torch.testing.assert_close(rows.var(1, correction=0), torch.ones(len(rows)), rtol=0, atol=1e-2)


def test_it_leaves_the_norms_as_they_were_and_follows_the_seed() -> None:
    one, same, other = (build(VGG, BATCHNORM, seed=seed, init=FROM_DATA, images=X) for seed in (0, 0, 1))

    fresh = build(VGG, BATCHNORM, seed=0).state_dict()
    kept = {name: value for name, value in one.state_dict().items() if "running" in name or "num_batches" in name}
    assert len(kept) == 3 * 8
    assert all(torch.equal(value, fresh[name]) for name, value in kept.items())
    assert torch.equal(one.classifier.weight, same.classifier.weight)
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_a_layer_whose_outputs_are_all_alike_keeps_its_scale() -> None:
    model = build(VGG, NONE, seed=0, init=FROM_DATA, images=torch.zeros(4, 3, 32, 32))

    assert bool(model.features[0].weight.isfinite().all())


def test_without_images_it_is_refused_in_one_sentence() -> None:
    with pytest.raises(SpecError) as caught:
        build(VGG, NONE, seed=0, init=FROM_DATA)

    assert str(caught.value) == f"the initialisation {FROM_DATA.code!r} looks at images: build the network with some"


def seen(model: nn.Module, *, images: torch.Tensor) -> None:
    model.seen = images


@pytest.mark.parametrize("standardize", [True, False])
def test_a_run_shows_it_its_first_training_images(tmp_path: Path, standardize: bool) -> None:
    images = Images.of(load("synthetic:600+10", tmp_path), "cpu")
    spec = RunSpec(net=TINY, norm=NONE, batch_size=20, init=Part(code=f"{__name__}:seen"), standardize=standardize)

    shown = network(Replicate(spec, 0), images).seen
    x = images.x_train[:500].permute(0, 3, 1, 2) / 255
    std, mean = images.std[:, None, None], images.mean[:, None, None]
    torch.testing.assert_close(shown, (x - mean) / std if standardize else x, rtol=0, atol=1e-5)


def test_a_norm_behind_the_activation_gets_what_the_relu_gives() -> None:
    model = build(Net(build="bnlab.nets.vgg:build", options={"order": "after"}), BATCHNORM, seed=0)
    given: dict[str, torch.Tensor] = {}
    for name in model.norm_slots:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, at=name: given.update({at: args[0].clone()})
        )
    model(X)

    plain = build(VGG, BATCHNORM, seed=0)
    assert len(given) == 8
    assert all(bool((x >= 0).all()) and bool((x > 0).any()) for x in given.values())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())


def test_another_order_is_refused_in_one_sentence() -> None:
    with pytest.raises(SpecError, match="order is 'around': expected 'before' or 'after'"):
        build(Net(build="bnlab.nets.vgg:build", options={"order": "around"}), BATCHNORM, seed=0)
