"""AutoDIAL against torch's BatchNorm at its two ends and against its formula in numpy between; mean-only BatchNorm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.errors import SpecError
from bnlab.norms.autodial import AutoDial
from bnlab.norms.mean_only import MeanOnlyBatchNorm
from bnlab.tests.norms.families import CHANNELS, batch

SOURCE, TARGET = batch(0), 2 * batch(1) + 5
X = torch.cat([SOURCE, TARGET])


def test_at_alpha_one_each_domain_has_a_batchnorm_of_its_own() -> None:
    made, own = AutoDial(CHANNELS).double(), [nn.BatchNorm2d(CHANNELS).double() for _ in range(2)]

    expected = torch.cat([norm(x) for norm, x in zip(own, (SOURCE, TARGET), strict=True)])
    torch.testing.assert_close(made(X), expected, rtol=0, atol=1e-12)
    for name in ("running_mean", "running_var"):
        both = torch.stack([norm.get_buffer(name) for norm in own])
        torch.testing.assert_close(made.get_buffer(name), both, rtol=0, atol=1e-12)


def test_at_alpha_one_half_both_domains_go_through_one_batchnorm() -> None:
    made = AutoDial(CHANNELS, alpha=0.5).double()

    torch.testing.assert_close(made(X), F.batch_norm(X, None, None, training=True), rtol=0, atol=1e-12)


def test_between_them_the_variance_is_taken_about_the_mixed_mean() -> None:
    """Carlucci et al. 2017, equations 1 to 4; a blend of the two variances would be smaller."""
    made, alpha = AutoDial(CHANNELS, alpha=0.75).double(), 0.75
    parts = [part.transpose(0, 1).flatten(1).numpy() for part in (SOURCE, TARGET)]
    expected = []
    for own, other in (parts, parts[::-1]):
        mean = alpha * own.mean(1) + (1 - alpha) * other.mean(1)
        squares = [((part - mean[:, None]) ** 2).mean(1) for part in (own, other)]
        var = alpha * squares[0] + (1 - alpha) * squares[1]
        expected.append((own - mean[:, None]) / np.sqrt(var + 1e-5)[:, None])

    got = made(X).detach().transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(got, np.concatenate(expected, axis=1), atol=1e-12)


@pytest.mark.parametrize(("domain", "x"), [("source", SOURCE), ("target", TARGET)])
def test_evaluation_takes_the_running_statistics_of_its_domain(domain: str, x: torch.Tensor) -> None:
    made = AutoDial(CHANNELS, domain=domain, momentum=1.0).double()
    made(X)

    statistics = x.mean((0, 2, 3)), x.transpose(0, 1).flatten(1).var(1)
    torch.testing.assert_close(made.eval()(X), F.batch_norm(X, *statistics), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("alpha", "counts_as"), [(1.5, 1.0), (0.2, 0.5)])
def test_alpha_counts_as_the_nearest_number_in_its_range_and_can_come_back(alpha: float, counts_as: float) -> None:
    limited, made = AutoDial(CHANNELS, alpha=counts_as).double(), AutoDial(CHANNELS).double()
    nn.init.constant_(made.alpha, alpha)
    outputs = [one(X) for one in (limited, made)]
    for y in outputs:
        (y * X.cos()).sum().backward()

    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    torch.testing.assert_close(limited.alpha.grad, made.alpha.grad, rtol=0, atol=1e-12)
    assert float(made.alpha.grad) != 0


def test_an_odd_batch_is_refused_in_one_sentence() -> None:
    with pytest.raises(SpecError) as caught:
        AutoDial(CHANNELS).double()(X[:3])

    assert str(caught.value) == "AutoDial gets 3 images: expected as many of the source as of the target"


def test_mean_only_batchnorm_centres_outputs_and_gradients_and_keeps_the_variance() -> None:
    made, x = MeanOnlyBatchNorm(CHANNELS).double(), batch(0).requires_grad_()
    nn.init.constant_(made.bias, 0.5)
    y = made(x)
    (y * batch(1)).sum().backward()

    torch.testing.assert_close(y, x - x.mean((0, 2, 3), keepdim=True) + 0.5, rtol=0, atol=1e-12)
    torch.testing.assert_close(y.var((0, 2, 3)), x.var((0, 2, 3)), rtol=0, atol=1e-12)
    torch.testing.assert_close(x.grad.mean((0, 2, 3)), torch.zeros(CHANNELS).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(x.grad, batch(1) - batch(1).mean((0, 2, 3), keepdim=True), rtol=0, atol=1e-12)


def test_mean_only_batchnorm_evaluates_with_a_running_mean() -> None:
    made = MeanOnlyBatchNorm(CHANNELS, shift=False).double()
    torchs = nn.BatchNorm2d(CHANNELS).double()
    for seed in range(3):
        made(batch(seed))
        torchs(batch(seed))

    torch.testing.assert_close(made.running_mean, torchs.running_mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(made.eval()(batch(5)), batch(5) - torchs.running_mean[:, None, None], rtol=0, atol=1e-12)
    assert not made.bias.requires_grad
