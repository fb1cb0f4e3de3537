"""Decorrelated BatchNorm and IterNorm against scipy's matrix square root, torch's BatchNorm and Newton's iteration."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn

from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.norms import layer
from bnlab.norms.batchnorm import BatchNorm
from bnlab.norms.whitening import DecorrelatedBatchNorm, IterNorm
from bnlab.parts import Net, ResNet
from bnlab.tests.norms.families import CHANNELS, batch, norm


def correlated(seed: int) -> torch.Tensor:
    """Images whose channels are mixed."""
    mix = torch.randn(CHANNELS, CHANNELS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return torch.einsum("dc,nchw->ndhw", mix, batch(seed, n=8))


def rows(x: torch.Tensor) -> np.ndarray:
    return x.detach().transpose(0, 1).flatten(1).numpy()


def groups(size: int, matrix: np.ndarray) -> list[np.ndarray]:
    return [matrix[i : i + size, i : i + size] for i in range(0, CHANNELS, size)]


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize(("made", "within"), [(DecorrelatedBatchNorm, 1e-9), (IterNorm, 1e-3)])
def test_the_covariance_of_every_group_becomes_the_identity(made: type, within: float, size: int) -> None:
    options = {"iterations": 12} if made is IterNorm else {}
    y = made(CHANNELS, group_size=size, eps=1e-12, **options).double()(correlated(0))

    covariance = np.cov(rows(y), bias=True)
    for block in groups(size, covariance):
        np.testing.assert_allclose(block, np.eye(size), atol=within)
    assert (np.abs(covariance - np.eye(CHANNELS)).max() > 0.01) == (size < CHANNELS)


def test_the_projection_is_the_symmetric_inverse_square_root_of_scipy() -> None:
    whiten, x = DecorrelatedBatchNorm(CHANNELS, group_size=3, momentum=1.0).double(), correlated(0)
    whiten(x)

    sigma = groups(3, np.cov(rows(x), bias=True) + 1e-5 * np.eye(CHANNELS))
    expected = np.stack([scipy.linalg.inv(scipy.linalg.sqrtm(block)) for block in sigma])
    np.testing.assert_allclose(whiten.running_projection.numpy(), expected, atol=1e-10)
    np.testing.assert_allclose(expected, expected.transpose(0, 2, 1), atol=1e-10)


def test_a_group_of_one_channel_is_torchs_batchnorm() -> None:
    torch.testing.assert_close(
        DecorrelatedBatchNorm(CHANNELS, group_size=1).double()(batch(0)),
        nn.BatchNorm2d(CHANNELS).double()(batch(0)),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_iter_norm_takes_so_many_newton_steps(iterations: int) -> None:
    x = correlated(0)
    sigma = np.cov(rows(x), bias=True) + 1e-5 * np.eye(CHANNELS)
    p = np.eye(CHANNELS)
    for _ in range(iterations):
        p = (3 * p - np.linalg.matrix_power(p, 3) @ sigma / np.trace(sigma)) / 2
    centred = rows(x) - rows(x).mean(1, keepdims=True)

    got = IterNorm(CHANNELS, group_size=CHANNELS, iterations=iterations).double()(x)
    np.testing.assert_allclose(rows(got), p @ centred / np.sqrt(np.trace(sigma)), atol=1e-9)


@pytest.mark.parametrize("made", [DecorrelatedBatchNorm, IterNorm])
def test_evaluation_with_the_statistics_of_a_batch_is_training_on_it(made: type) -> None:
    whiten, x = made(CHANNELS, group_size=3, momentum=1.0).double(), correlated(0)

    torch.testing.assert_close(whiten(x), whiten.eval()(x), rtol=0, atol=1e-12)


def test_the_gradient_is_right_where_all_eigenvalues_are_equal() -> None:
    """There the derivative of torch.linalg.eigh is not a number."""
    x = DecorrelatedBatchNorm(4, group_size=4, eps=1e-12).double()(batch(0, n=6, size=2)[:, :4]).detach()

    assert torch.autograd.gradcheck(DecorrelatedBatchNorm(4, group_size=4).double(), [x.requires_grad_()])


def test_a_batch_with_too_few_numbers_for_a_group_is_refused_in_one_sentence() -> None:
    with pytest.raises(SpecError) as caught:
        DecorrelatedBatchNorm(CHANNELS, group_size=6)(batch(0, n=6, size=1).float())

    assert str(caught.value) == (
        "DecorrelatedBatchNorm gets 6 numbers per channel for groups of 6 channels: take smaller groups, or a larger "
        "batch"
    )


@pytest.mark.parametrize(("net", "others"), [(ResNet(18), 19), (Net(build="bnlab.nets.cifar_resnet:build"), 20)])
def test_a_decorrelated_stem_leaves_batchnorm_elsewhere(net: Net, others: int) -> None:
    model = build(net, norm("whitening:decorrelated_stem", scale=False), seed=0)

    kinds = [type(model.get_submodule(name)) for name in model.norm_slots]
    assert kinds == [DecorrelatedBatchNorm, *others * [BatchNorm]]
    assert not any(model.get_submodule(name).weight.requires_grad for name in model.norm_slots)


@pytest.mark.parametrize("left_out", ["weight", "bias"])
def test_what_is_left_out_is_frozen(left_out: str) -> None:
    options = {"weight": "scale", "bias": "shift"}
    made = layer(norm("whitening:DecorrelatedBatchNorm", group_size=2, **{options[left_out]: False}), CHANNELS)

    assert [name for name, p in made.named_parameters() if not p.requires_grad] == [left_out]
