"""The products and norms of K replicas against torch's own convolution and batch norm, replica by replica."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.engine.kernels import taps
from bnlab.engine.kernels.batched import batch_norm, conv, max_pool
from bnlab.engine.kernels.weight_norm import weight_norm

# every geometry of the four networks at 32x32, and one with an odd map: kernel, stride, padding, map
GEOMETRIES = [
    (7, 2, 3, 32),
    *[(3, 1, 1, size) for size in (1, 2, 4, 8)],
    *[(3, 2, 1, size) for size in (2, 4, 5, 8)],
    *[(1, 1, 0, size) for size in (1, 2, 8)],
    *[(1, 2, 0, size) for size in (2, 4, 8)],
]


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("elide", [True, False], ids=["live taps", "all taps"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-12), (torch.float32, 1e-4)], ids=["fp64", "fp32"])
def test_every_replica_is_convolved_as_torch_convolves_it(geometry, elide, replicas, dtype, within) -> None:
    kernel, stride, padding, size = geometry
    layer = nn.Conv2d(5, 6, kernel, stride, padding, bias=False)
    where = taps.geometry_of(layer, size, elide=elide)
    live = slice(where.first, where.last)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(replicas, 2, size, size, 5, generator=draw, dtype=dtype, requires_grad=True)
    full = torch.randn(replicas, 6, 5, kernel, kernel, generator=draw, dtype=dtype, requires_grad=True)
    rows = full[..., live, live].permute(0, 1, 3, 4, 2).reshape(replicas, 6, -1)

    got = conv(x, rows, where)
    upstream = torch.randn(got.shape, generator=draw, dtype=dtype)
    got_grads = torch.autograd.grad(got, (x, full), upstream)

    for k in range(replicas):
        one = x[k].detach().permute(0, 3, 1, 2).requires_grad_()
        weight = full[k].detach().requires_grad_()
        expected = F.conv2d(one, weight, stride=stride, padding=padding)
        dx, dw = torch.autograd.grad(expected, (one, weight), upstream[k].permute(0, 3, 1, 2))
        torch.testing.assert_close(got[k], expected.permute(0, 2, 3, 1), rtol=0, atol=within)
        torch.testing.assert_close(got_grads[0][k], dx.permute(0, 2, 3, 1), rtol=0, atol=within)
        torch.testing.assert_close(got_grads[1][k], dw, rtol=0, atol=within)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize(
    "geometry", [(3, 1, 1, 1), (3, 1, 1, 8), (3, 2, 1, 2), (3, 2, 1, 5), (1, 1, 1, 4), (2, 3, 0, 8)]
)
def test_every_group_of_every_replica_is_convolved_as_torch_convolves_it(geometry, groups, replicas) -> None:
    kernel, stride, padding, size = geometry
    layer = nn.Conv2d(4, 8, kernel, stride, padding, groups=groups, bias=False)
    where = taps.geometry_of(layer, size, elide=True)
    live = slice(where.first, where.last)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(replicas, 2, size, size, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    full = torch.randn(replicas, *layer.weight.shape, generator=draw, dtype=torch.float64, requires_grad=True)
    got = conv(x, full[..., live, live].permute(0, 1, 3, 4, 2).reshape(replicas, 8, -1), where)
    upstream = torch.randn(got.shape, generator=draw, dtype=torch.float64)
    got_grads = torch.autograd.grad(got, (x, full), upstream)

    for k in range(replicas):
        one = x[k].detach().permute(0, 3, 1, 2).requires_grad_()
        weight = full[k].detach().requires_grad_()
        expected = F.conv2d(one, weight, stride=stride, padding=padding, groups=groups)
        dx, dw = torch.autograd.grad(expected, (one, weight), upstream[k].permute(0, 3, 1, 2))
        torch.testing.assert_close(got[k], expected.permute(0, 2, 3, 1), rtol=0, atol=1e-12)
        torch.testing.assert_close(got_grads[0][k], dx.permute(0, 2, 3, 1), rtol=0, atol=1e-12)
        torch.testing.assert_close(got_grads[1][k], dw, rtol=0, atol=1e-12)


@pytest.mark.parametrize("elide", [True, False], ids=["live taps", "all taps"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_every_filter_is_normalised_with_the_taps_that_meet_no_data_as_torch_does_it(geometry, elide) -> None:
    kernel, stride, padding, size = geometry
    where = taps.geometry_of(nn.Conv2d(5, 6, kernel, stride, padding, bias=False), size, elide=elide)
    live = slice(where.first, where.last)
    draw = torch.Generator().manual_seed(1)
    full = torch.randn(3, 6, kernel, kernel, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    lengths = torch.randn(3, 6, generator=draw, dtype=torch.float64, requires_grad=True)

    got = weight_norm(full.flatten(2), lengths, where)
    upstream = torch.randn(got.shape, generator=draw, dtype=torch.float64)
    got_grads = torch.autograd.grad(got, (full, lengths), upstream)

    whole = torch._weight_norm(full.flatten(0, 1), lengths.flatten()[:, None, None, None]).unflatten(0, (3, 6))
    expected = whole[:, :, live, live].flatten(2)
    expected_grads = torch.autograd.grad(expected, (full, lengths), upstream)
    for ours, theirs in zip((got, *got_grads), (expected, *expected_grads), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("replicas", [1, 3])
def test_every_replica_is_normalised_over_its_own_batch_as_torch_does_it(replicas) -> None:
    draw = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> torch.Tensor:
        return (5 + 3 * torch.randn(*shape, generator=draw, dtype=torch.float64)).requires_grad_()

    x, scale, shift = drawn(replicas, 6, 4), drawn(replicas, 4), drawn(replicas, 4)
    mean, var = torch.zeros(replicas, 4, dtype=torch.float64), torch.ones(replicas, 4, dtype=torch.float64)
    upstream = torch.randn(x.shape, generator=draw, dtype=torch.float64)

    got = batch_norm(x, scale, shift, 1e-5, (mean, var), 0.1)
    grads = torch.autograd.grad(got, (x, scale, shift), upstream)

    for k in range(replicas):
        ones = [part[k].detach().requires_grad_() for part in (x, scale, shift)]
        running = [torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)]
        expected = F.batch_norm(ones[0], *running, ones[1], ones[2], training=True, momentum=0.1, eps=1e-5)
        torch.testing.assert_close(got[k], expected, rtol=0, atol=1e-12)
        for part, whole in zip(torch.autograd.grad(expected, ones, upstream[k]), grads, strict=True):
            torch.testing.assert_close(whole[k], part, rtol=0, atol=1e-11)
        torch.testing.assert_close(mean[k], running[0], rtol=0, atol=1e-14)
        torch.testing.assert_close(var[k], running[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("window", [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1)], ids=str)
def test_every_replica_is_pooled_as_torch_pools_it(window, replicas) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(replicas, 2, 16, 16, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    got = max_pool(x, *window)
    upstream = torch.randn(got.shape, generator=draw, dtype=torch.float64)
    (got_grad,) = torch.autograd.grad(got, x, upstream)

    for k in range(replicas):
        one = x[k].detach().permute(0, 3, 1, 2).requires_grad_()
        expected = F.max_pool2d(one, *window)
        (dx,) = torch.autograd.grad(expected, one, upstream[k].permute(0, 3, 1, 2))
        assert torch.equal(got[k], expected.permute(0, 2, 3, 1))
        torch.testing.assert_close(got_grad[k], dx.permute(0, 2, 3, 1), rtol=0, atol=1e-14)


def test_pooling_lets_nan_through_in_its_own_replica_only() -> None:
    x = torch.randn(2, 1, 4, 4, 3)
    x[1, 0, 1, 1, 0] = torch.nan

    got = max_pool(x)

    assert got[0].isfinite().all()
    assert got[1, 0, :, :, 0].isnan().all()
    assert got[1, 0, :, :, 1:].isfinite().all()
