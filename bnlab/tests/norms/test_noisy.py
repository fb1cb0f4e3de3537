"""Noisy BatchNorm: BatchNorm in evaluation, and in training noise of the distribution that its docstring states."""

import pytest
import torch

from bnlab.norms import BatchNorm, layer
from bnlab.norms.noisy import NoisyBatchNorm
from bnlab.parts import Norm

NOISY = Norm(layer="bnlab.norms.noisy:NoisyBatchNorm")
X = torch.randn(64, 5, 8, 8, generator=torch.Generator().manual_seed(0))


def draws(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_evaluation_is_batchnorm() -> None:
    noisy, plain = NoisyBatchNorm(5), BatchNorm(5)
    noisy(X, draws(0))
    plain(X)

    assert torch.equal(noisy.eval()(X, draws(1)), plain.eval()(X))


def test_without_noise_training_is_batchnorm() -> None:
    silent = NoisyBatchNorm(5, mean=0.0, scale_up=1.0, spread=0.0)

    torch.testing.assert_close(silent(X, draws(0)), BatchNorm(5)(X), rtol=0, atol=1e-6)


def test_noise_has_a_mean_and_a_scale_a_channel_that_all_numbers_share_and_every_step_changes() -> None:
    """y = s * x + m, whose m and s are estimated for each channel over the images and pixels of known x."""
    made = NoisyBatchNorm(50, mean=0.5, scale_up=2.0, spread=0.01)
    ones = torch.ones(256, 50, 4, 4)
    ones[::2] = -1  # BatchNorm leaves +1 and -1 as they are
    first, second = (made(ones, draws(seed)).detach() for seed in (0, 1))

    up, down = first[1::2].mean((0, 2, 3)), first[::2].mean((0, 2, 3))
    m, s = (up + down) / 2, (up - down) / 2

    own = first[1::2] - up[:, None, None]
    assert float(own.std()) == pytest.approx((0.01**2 / 3 + 0.01**2) ** 0.5, rel=0.05)
    assert float(own.mean((2, 3)).std()) < 0.01 / 2  # pixels of one image draw apart
    assert bool((m.abs() < 0.51).all())
    assert bool(((s > 0.99) & (s < 2.01)).all())
    assert float(m.std()) == pytest.approx(1 / 12**0.5, rel=0.3)
    assert float(s.std()) == pytest.approx(1 / 12**0.5, rel=0.3)
    assert not torch.allclose(second[1::2].mean((0, 2, 3)), up, atol=0.05)


def test_a_copy_made_from_the_state_dict_goes_on_alike_under_the_same_draws() -> None:
    one, other = NoisyBatchNorm(5), NoisyBatchNorm(5)
    for seed in range(3):
        one(X + seed, draws(seed))
    other.load_state_dict(one.state_dict())

    assert torch.equal(one(X, draws(7)), other(X, draws(7)))
    assert torch.equal(one.eval()(X, draws(0)), other.eval()(X, draws(0)))


def test_gradients_are_those_of_finite_differences_under_the_same_draws() -> None:
    noisy, x = NoisyBatchNorm(5).double(), X[:3, :, :2, :2].double()
    scale, shift = (p.detach().clone().requires_grad_() for p in (noisy.weight, noisy.bias))

    def call(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(noisy, {"weight": scale, "bias": shift}, (x, draws(0)))

    assert torch.autograd.gradcheck(call, [x.requires_grad_(), scale, shift])


def test_in_a_network_of_torchs_own_it_draws_from_the_generator_that_it_was_given() -> None:
    one, other = layer(NOISY, 5), layer(NOISY, 5)

    assert torch.equal(one(X), other(X))
    assert not torch.equal(one(X), other(X, generator=draws(3)))
