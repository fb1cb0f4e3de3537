"""Somebody's own norm, called for all replicas at once by torch.func, as on a GPU."""

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from bnlab.engine.slots import CustomSlot
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Looking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.max().item() > 0 else -x


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


class Exchanging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.last = x.detach().mean()
        return x


class WithoutBatchingRule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.average.lerp_(x.detach().mean(), 0.5)
        return x


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


class WithoutRule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Double.apply(x)


def slot(make: Callable[[], nn.Module], replicas: int = 3) -> CustomSlot:
    made = CustomSlot([make() for _ in range(replicas)], torch.device("cpu"), torch.float64)
    made.at_once = None  # as on a GPU: to be found out
    return made


def drawn() -> Tensor:
    return torch.randn(3, 2, 4, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Let programs on the CPU find out too; the list tells what they found."""
    found: list[bool] = []
    build, find = CustomSlot.__init__, CustomSlot._comes_to_the_same

    def as_on_a_gpu(self, layers, device, dtype):
        build(self, layers, device, dtype)
        self.at_once = None

    monkeypatch.setattr(CustomSlot, "__init__", as_on_a_gpu)
    monkeypatch.setattr(CustomSlot, "_comes_to_the_same", lambda self, x: found.append(find(self, x)) or found[-1])
    return found


@pytest.mark.parametrize("norm", [reference.OWN, reference.IN_PLACE], ids=str)
def test_one_step_of_all_replicas_at_once_is_eager_torchvisions(norm, at_once, record_property) -> None:
    got = proofs.one_forced_step(replace(SPEC, norm=norm), (3, 7), 1)
    record_property("differences", asdict(got))

    assert at_once == [True] * 20


def test_every_mode_at_once_is_that_of_each_alone() -> None:
    together, alone = (slot(lambda: reference.Own(5)) for _ in range(2))
    alone.at_once = False
    for mode in ("train", "batch", "eval", "train"):
        torch.testing.assert_close(together(drawn(), mode), alone(drawn(), mode), rtol=0, atol=1e-13)
        for got, expected in zip(together.statistics(), alone.statistics(), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
    for layers in (together, alone):
        layers.start_calibration()
    torch.testing.assert_close(together(drawn(), "calibrate"), alone(drawn(), "calibrate"), rtol=0, atol=1e-13)

    assert together.at_once


@pytest.mark.parametrize("make", [Noisy, Looking, Counting, Exchanging, WithoutBatchingRule, WithoutRule])
def test_what_cannot_be_called_at_once_is_called_for_each(make) -> None:
    one = slot(make)

    one(drawn(), "train")

    assert one.at_once is False


def test_finding_out_leaves_the_modules_as_they_were() -> None:
    one, other = (slot(lambda: reference.Own(5)) for _ in range(2))
    counting = slot(Counting)

    one._comes_to_the_same(drawn())
    counting(drawn(), "train")

    for got, expected in zip(one.statistics(), other.statistics(), strict=True):
        assert torch.equal(got, expected)
    assert [layer.calls for layer in counting.layers] == [1, 1, 1]
