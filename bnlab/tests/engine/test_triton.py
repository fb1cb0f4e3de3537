"""The Triton kernels against torch's own operations, replica by replica: interpreted where there is no GPU."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnlab.engine.kernels import batched, taps
from bnlab.engine.kernels.taps import ConvGeometry
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import RunSpec
from bnlab.tests.engine.test_ops import GEOMETRIES

triton = pytest.importorskip("triton")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DOUBLE = torch.float64
# a learning rate that single precision holds exactly, since a captured step reads it from the device
SMALL = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=4, precision="fp32", lr=2**-10)


def slow(parameter: Any) -> Any:
    return pytest.param(parameter, marks=pytest.mark.slow)


both_dtypes = pytest.mark.parametrize(("dtype", "within"), [(DOUBLE, 1e-12), (torch.float32, 2e-5)], ids=["64", "32"])
# m, c: one tile; odd; one tile of many rows; several tiles, the last a ragged one; several blocks of channels
SIZES = [(6, 4), (37, 5), (300, 3), (1500, 5), (50, 33)]


def together(load: Callable[[str], ModuleType]) -> SimpleNamespace:
    """The kernels of all modules under one name; those of Adam as they are looked for."""
    maps, norm, adam = (load(f"bnlab.engine.kernels.triton_{name}") for name in ("maps", "norm", "adam"))
    return SimpleNamespace(patches=maps.patches, fold=maps.fold, max_pool=maps.max_pool, norm=norm.norm, adam=adam)


@cache
def interpreted() -> SimpleNamespace:
    """Copies of the kernel modules for the interpreter, which is chosen where a kernel is defined."""
    return together(copied)


def copied(name: str) -> ModuleType:
    real = importlib.util.find_spec(name)
    assert real is not None
    assert real.origin is not None
    spec = importlib.util.spec_from_file_location(f"interpreted_{name.rpartition('.')[2]}", real.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    if DEVICE.type == "cuda":
        yield together(importlib.import_module)
        return
    tl = triton.language
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    # Triton's own functions were defined when something imported Triton, most often torchvision, and not for this
    monkeypatch.setattr(tl, "sum", lambda value, axis: tl.reduce(value, axis, tl.standard._sum_combine))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # between them the interpreter works alone, and threads that wait would take its time
    yield interpreted()
    torch.set_num_threads(threads)


def drawn(*shape: int, dtype: torch.dtype = DOUBLE, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def planned(geometry: tuple[int, int, int, int], channels: int, *, elide: bool) -> ConvGeometry:
    kernel, stride, padding, size = geometry
    return taps.geometry_of(nn.Conv2d(channels, 6, kernel, stride, padding, bias=False), size, elide=elide)


def unfolded(x: Tensor, where: ConvGeometry) -> Tensor:
    """torch's patches of one replica [b, h, w, c], cut down to the live taps."""
    live = slice(where.first, where.last)
    rows = F.unfold(x.permute(0, 3, 1, 2), where.kernel, padding=where.padding, stride=where.stride)
    rows = rows.view(len(x), where.c_in, where.kernel, where.kernel, -1)[:, :, live, live]
    return rows.permute(0, 4, 2, 3, 1).reshape(-1, where.taps**2 * where.c_in)


def bits(x: Tensor) -> Tensor:
    return x.contiguous().view({8: torch.int64, 4: torch.int32, 2: torch.int16}[x.element_size()])


@pytest.mark.parametrize("dtype", [DOUBLE, slow(torch.float32), slow(torch.bfloat16)], ids=["64", "32", "bf16"])
@pytest.mark.parametrize("elide", [True, slow(False)], ids=["live taps", "all taps"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_patches_and_their_adjoint_are_those_of_torch(kernels, geometry, elide, dtype) -> None:
    where = planned(geometry, 5, elide=elide)
    x = drawn(2, 2, where.size_in, where.size_in, 5, dtype=dtype)

    width = where.taps**2 * 5
    wide = kernels.patches(x.to(DEVICE), where, width + 3).cpu()
    got = wide[:, :, :width]
    assert not wide[:, :, width:].any(), "rows of 16 bytes end in zeros"
    assert torch.equal(kernels.patches(x.to(DEVICE), where, width).cpu(), got)
    upstream = drawn(*got.shape, dtype=dtype, seed=2)
    folded = kernels.fold(upstream.to(DEVICE), where, 2).cpu()

    for k in range(2):
        one = x[k].double().requires_grad_()
        expected = unfolded(one, where)
        (adjoint,) = torch.autograd.grad(expected, one, upstream[k].double())
        assert torch.equal(got[k].double(), expected)
        # the interpreter cuts bf16 off where a GPU rounds
        within = {DOUBLE: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-7}[dtype]
        torch.testing.assert_close(folded[k].double(), adjoint, rtol=within, atol=within)


@pytest.mark.parametrize("channels", [3, 16, 72])
def test_patches_times_weights_is_the_convolution_at_any_number_of_channels(kernels, channels) -> None:
    where = planned((3, 2, 1, 5), channels, elide=True)
    x, weight = drawn(1, 3, 5, 5, channels), drawn(6, channels, 3, 3, seed=2)

    got = kernels.patches(x.to(DEVICE), where, 9 * channels).cpu()[0] @ weight.permute(2, 3, 1, 0).reshape(-1, 6)

    expected = F.conv2d(x[0].permute(0, 3, 1, 2), weight, stride=2, padding=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(got.view_as(expected), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [16, 5])
@pytest.mark.parametrize("content", ["distinct", "ties", "no data", "nan"])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32], ids=["64", "32"])
def test_pooling_is_that_of_torch_to_the_bit(kernels, dtype, content, size) -> None:
    x = drawn(3, 2, size, size, 5, dtype=dtype)
    if content == "ties":
        x = x.sign()
    if content == "no data":
        x[:, :, :3] = -torch.inf
    if content == "nan":
        x[0, :, 1:3, 1:4, :2] = torch.nan
    x.requires_grad_()
    upstream = drawn(3, 2, (size + 1) // 2, (size + 1) // 2, 5, dtype=dtype, seed=2).mul(8).round()

    got = kernels.max_pool(x.to(DEVICE)).cpu()
    (got_grad,) = torch.autograd.grad(got, x, upstream)

    for k in range(3):
        one = x[k].detach().permute(0, 3, 1, 2).contiguous().requires_grad_()
        expected = F.max_pool2d(one, kernel_size=3, stride=2, padding=1)
        (dx,) = torch.autograd.grad(expected, one, upstream[k].permute(0, 3, 1, 2))
        torch.testing.assert_close(got[k], expected.permute(0, 2, 3, 1), rtol=0, atol=0, equal_nan=True)
        assert torch.equal(got_grad[k], dx.permute(0, 2, 3, 1))
    if content in ("distinct", "ties"):
        largest = batched._MaxPool.apply(x, 3, 2, 1)
        assert torch.equal(got, largest)
        assert torch.equal(got_grad, torch.autograd.grad(largest, x, upstream)[0])


def one_norm(kernels: SimpleNamespace, *arguments: Any) -> Tensor:
    (y,) = kernels.norm(*arguments)
    return y


class Norm:
    """One call of norm on K replicas, with gradients; drawn by slot, so that any slot can be asked for alone."""

    def __init__(
        self, m: int, c: int, flags: list[int], *, dtype: torch.dtype = DOUBLE, residual: bool = True, relu: bool = True
    ) -> None:
        k = len(flags)
        self.flags, self.relu, self.beside = flags, relu, residual
        self.x = 2 + 3 * drawn(k, m, c, dtype=dtype)
        self.residual = drawn(k, m, c, dtype=dtype, seed=2)
        self.scale, self.shift = 1 + drawn(k, c, dtype=dtype, seed=3) / 4, drawn(k, c, dtype=dtype, seed=4)
        self.upstream = drawn(k, m, c, dtype=dtype, seed=5)
        self.mean, self.var = drawn(k, c, dtype=dtype, seed=6), drawn(k, c, dtype=dtype, seed=7).abs()

    def inputs(self, slots: list[int]) -> list[Tensor]:
        parts = [self.x, self.scale, self.shift, *([self.residual] if self.beside else [])]
        return [part[slots].detach().requires_grad_() for part in parts]

    def __call__(self, kernels: SimpleNamespace, slots: list[int] | None = None) -> list[Tensor]:
        """y, the gradients of x, scale, shift and the residual, and running mean and variance, of these slots."""
        slots = list(range(len(self.flags))) if slots is None else slots
        inputs = self.inputs(slots)
        x, scale, shift, *residual = [part.to(DEVICE) for part in inputs]
        running = self.mean[slots].to(DEVICE), self.var[slots].to(DEVICE)
        flags = torch.tensor(self.flags, dtype=torch.int32)[slots].to(DEVICE)
        beside = residual[0] if residual else None
        y = one_norm(kernels, x, scale, shift, flags, 1e-5, running, 0.1, beside, self.relu).cpu()
        return [y.detach(), *torch.autograd.grad(y, inputs, self.upstream[slots]), *(part.cpu() for part in running)]

    def torch(self, k: int) -> list[Tensor]:
        """The same of replica k by torch's own batch norm."""
        inputs = [part[0].detach().requires_grad_() for part in self.inputs([k])]
        x, scale, shift, *residual = inputs
        mean, var = self.mean[k].clone(), self.var[k].clone()
        y = F.batch_norm(x, mean, var, scale, shift, True, 0.1, 1e-5) if self.flags[k] else x * scale + shift
        y = y + residual[0] if residual else y
        y = torch.relu(y) if self.relu else y
        return [y.detach(), *torch.autograd.grad(y, inputs, self.upstream[k]), mean, var]


def assert_replicas_are_those_of_torch(norm: Norm, kernels: SimpleNamespace, within: float) -> None:
    got = norm(kernels)
    for k, flag in enumerate(norm.flags):
        for mine, expected in zip((part[k] for part in got), norm.torch(k), strict=True):
            largest = expected.abs().max().clamp(min=1)
            torch.testing.assert_close(mine / largest, expected / largest, rtol=0, atol=within)
        if not flag:
            assert torch.equal(got[-2][k], norm.mean[k])
            assert torch.equal(got[-1][k], norm.var[k])


@both_dtypes
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize(("m", "c"), SIZES)
def test_every_replica_is_normalised_or_scaled_as_torch_does_it(kernels, m, c, residual, relu, dtype, within) -> None:
    assert_replicas_are_those_of_torch(
        Norm(m, c, [1, 0, 1], dtype=dtype, residual=residual, relu=relu), kernels, within
    )


@pytest.mark.slow
@both_dtypes
@pytest.mark.parametrize(("m", "c"), [(17000, 3), (12800, 40), (1024, 16), (1025, 33), (2, 1)])
def test_every_size_of_tile_normalises_as_torch_does(kernels, m, c, dtype, within) -> None:
    assert_replicas_are_those_of_torch(Norm(m, c, [1, 0], dtype=dtype), kernels, within)


@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
@pytest.mark.parametrize("m", [37, 1500])
def test_gradients_of_two_readers_are_added_to_the_bit(kernels, m, residual, relu) -> None:
    norm = Norm(m, 5, [1, 0], dtype=torch.float32, residual=residual, relu=relu)
    expected = norm(kernels)[1:-2]
    inputs, flags = norm.inputs([0, 1]), torch.tensor(norm.flags, dtype=torch.int32, device=DEVICE)
    on = [part.to(DEVICE) for part in inputs]
    half = (norm.upstream / 2).to(DEVICE)

    first, second = kernels.norm(*on[:3], flags, 1e-5, None, 0.0, on[3] if residual else None, relu, 2)

    assert torch.equal(first, second)
    got = torch.autograd.grad([first, second], inputs, [half, half])
    for mine, of_one in zip(got, expected, strict=True):
        assert torch.equal(mine, of_one)


def test_no_running_statistics_and_flags_of_truth_values_are_taken_too(kernels) -> None:
    norm = Norm(6, 4, [1, 0], residual=False)
    flags = torch.tensor([True, False], device=DEVICE)

    y = one_norm(kernels, *(part.to(DEVICE) for part in norm.inputs([0, 1])), flags, 1e-5, None, 0.0, None, True)

    assert torch.equal(y.cpu(), norm(kernels)[0])


@pytest.mark.parametrize("m", [37, 1100])
def test_a_norm_of_the_affine_kind_with_scale_1_and_shift_0_gives_x_back_to_the_bit(kernels, m) -> None:
    x = drawn(2, m, 5, dtype=torch.float32)
    x[:, :4] = torch.tensor([0.0, -0.0, 1e-42, torch.inf])[None, :, None]
    flags = torch.zeros(2, dtype=torch.int32)
    scale, shift = torch.ones(2, 5), torch.zeros(2, 5)

    y = one_norm(kernels, *(part.to(DEVICE) for part in (x, scale, shift, flags)), 1e-5, None, 0.0, None, False).cpu()

    assert torch.equal(bits(y), bits(x))


@pytest.mark.parametrize("m", [37, 1100])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
def test_a_replica_has_the_same_bits_alone_and_in_another_slot(kernels, m, residual) -> None:
    norm = Norm(m, 5, [1, 0, 1], dtype=torch.float32, residual=residual)

    together, turned = norm(kernels), norm(kernels, [2, 0, 1])

    for k in range(3):
        for part, other, alone in zip(together, turned, norm(kernels, [k]), strict=True):
            assert torch.equal(bits(part[k]), bits(alone[0]))
            assert torch.equal(bits(part[k]), bits(other[[1, 2, 0][k]]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("m", [37, 1100])
@pytest.mark.parametrize("value", [torch.nan, slow(torch.inf)], ids=["nan", "inf"])
@pytest.mark.parametrize("poisoned", [0, 1])
def test_a_replica_that_is_not_finite_changes_no_bit_of_its_neighbours(kernels, poisoned, value, m) -> None:
    norm = Norm(m, 5, [1, 0, 1, 0], dtype=torch.float32)
    sane = norm(kernels)
    norm.x[poisoned, 3, 2] = norm.upstream[poisoned, 5, 1] = norm.residual[poisoned, 7, 3] = value
    norm.scale[poisoned, 4] = value

    sick = norm(kernels)

    for before, after in zip(sane, sick, strict=True):
        for k in {0, 1, 2, 3} - {poisoned}:
            assert torch.equal(bits(before[k]), bits(after[k]))
    assert not sick[1][poisoned].isfinite().all()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
def test_nan_goes_through_the_relu_and_its_gradient_as_in_torch(kernels, residual) -> None:
    norm = Norm(37, 5, [1, 0], residual=residual)
    norm.x[:, 3, 2] = torch.nan

    got = norm(kernels)

    for k in range(2):
        for mine, expected in zip((part[k] for part in got), norm.torch(k), strict=True):
            torch.testing.assert_close(mine, expected, rtol=0, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("m", [800, 2000])
def test_a_large_mean_costs_little_more_than_its_own_rounding(kernels, m) -> None:
    norm = Norm(m, 5, [1], dtype=torch.float32, residual=False, relu=False)
    norm.x = norm.x / 3 + 1000  # where one unit in the last place is 6e-5
    expected = F.batch_norm(norm.x[0].double(), None, None, norm.scale[0].double(), norm.shift[0].double(), True)

    torch.testing.assert_close(norm(kernels)[0][0].double(), expected, rtol=0, atol=1e-4)


def test_an_upstream_gradient_of_any_strides_is_taken(kernels) -> None:
    norm = Norm(37, 5, [1, 0])
    wanted = norm(kernels)
    norm.upstream = norm.upstream.transpose(1, 2).contiguous().transpose(1, 2)

    for got, expected in zip(norm(kernels), wanted, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("relu", [True, False], ids=["relu", "linear"])
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "alone"])
def test_gradients_are_those_of_finite_differences(kernels, residual, relu) -> None:
    norm = Norm(5, 2, [1, 0], residual=residual, relu=relu)
    flags = torch.tensor(norm.flags, dtype=torch.int32, device=DEVICE)

    def call(x: Tensor, scale: Tensor, shift: Tensor, *residual: Tensor) -> Any:
        return one_norm(kernels, x, scale, shift, flags, 1e-5, None, 0.0, residual[0] if residual else None, relu)

    inputs = [part.detach().to(DEVICE).requires_grad_() for part in norm.inputs([0, 1])]
    assert torch.autograd.gradcheck(call, inputs)
