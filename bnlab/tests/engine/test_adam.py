"""Adam of one launch is torch's own, for leaves of any size and number; interpreted where there is no GPU."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from bnlab.engine import adam, fallbacks
from bnlab.engine.adam import Adam
from bnlab.engine.optim import optimizer
from bnlab.tests.engine import proofs
from bnlab.tests.engine.test_triton import DEVICE, DOUBLE, SMALL, bits, drawn, kernels

pytestmark = pytest.mark.usefixtures("kernels")
assert kernels, "a fixture of another file"

SIZES = [(3, 16, 48), (1, 4096), (2, 4100), (5,), (2, 3, 3)]
"""Leaves of some programs, of exactly one, of one and a bit, and of addresses and sizes that divide by nothing."""
HOW = {"lr": 3e-3, "betas": (0.8, 0.95), "eps": 1e-6}


@pytest.fixture(autouse=True)
def _on_kernels(kernels: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallbacks, "_failed", set())
    monkeypatch.setattr(adam, "fused_kernels", lambda leaf, of: kernels.adam)


def stepped(kind: type, leaves: list[Tensor], steps: int, *, without: int = -1, **options: float) -> list[Tensor]:
    """Weights and moments after steps on gradients that are drawn; one leaf may have none in every second step."""
    mine = [leaf.clone().to(DEVICE).requires_grad_() for leaf in leaves]
    half = len(mine) // 2
    # torch's own takes a rate of float32 alone on a GPU
    rate = torch.tensor(HOW["lr"], dtype=DOUBLE if DEVICE.type == "cpu" else torch.float32, device=DEVICE)
    groups = [{"params": mine[:half], "weight_decay": 0.1}, {"params": mine[half:], "weight_decay": 0.0}]
    made = kind(groups, **{**HOW, **options, "lr": rate}, fused=True, capturable=DEVICE.type == "cuda")
    for number in range(steps):
        for place, leaf in enumerate(mine):
            gone = place == without and number % 2
            leaf.grad = None if gone else drawn(*leaf.shape, dtype=leaf.dtype, seed=100 * number + place).to(DEVICE)
        made.step()
    kept = [made.state[leaf][name] for leaf in mine for name in ("step", "exp_avg", "exp_avg_sq")]
    return [tensor.detach().cpu() for tensor in (*mine, *kept)]


@pytest.mark.parametrize("without", [-1, 0, 3])
@pytest.mark.parametrize(("dtype", "within"), [(DOUBLE, 1e-13), (torch.float32, 1e-6)], ids=["64", "32"])
def test_steps_are_those_of_torch(dtype, within, without) -> None:
    leaves = [drawn(*size, dtype=dtype, seed=7 + place) for place, size in enumerate(SIZES)]

    got, expected = (stepped(kind, leaves, 4, without=without) for kind in (Adam, torch.optim.Adam))

    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=within, atol=within)


def test_a_replica_has_the_same_bits_alone_and_in_another_slot() -> None:
    leaves = [drawn(3, 16, 300, dtype=torch.float32), drawn(3, 16, dtype=torch.float32)]
    gradients = [drawn(*leaf.shape, dtype=torch.float32, seed=5) for leaf in leaves]

    def step(slots: list[int]) -> list[Tensor]:
        mine = [leaf[slots].clone().to(DEVICE).requires_grad_() for leaf in leaves]
        for leaf, gradient in zip(mine, gradients, strict=True):
            leaf.grad = gradient[slots].to(DEVICE)
        made = Adam(mine, **{**HOW, "lr": torch.tensor(1e-3, device=DEVICE)}, fused=True)
        for _ in range(2):
            made.step()
        return [leaf.detach().cpu() for leaf in mine]

    together, turned = step([0, 1, 2]), step([2, 0, 1])
    for k in range(3):
        for whole, other, alone in zip(together, turned, step([k]), strict=True):
            assert torch.equal(bits(whole[k]), bits(alone[0]))
            assert torch.equal(bits(whole[k]), bits(other[[1, 2, 0][k]]))


def test_a_replica_that_is_not_finite_changes_no_bit_of_its_neighbours() -> None:
    sane = [drawn(2, 4100, dtype=torch.float32)]
    sick = [sane[0].clone()]
    sick[0][0] = torch.nan

    (well, *_), (ill, *_) = (stepped(Adam, leaves, 2) for leaves in (sane, sick))

    assert torch.equal(bits(well[1]), bits(ill[1]))
    assert ill[0].isnan().all()


@pytest.mark.parametrize("reason", ["switched off", "a rate of the host", "two types", "a gradient with gaps"])
def test_torchs_own_steps_where_one_launch_cannot(reason, kernels, monkeypatch) -> None:
    monkeypatch.setattr(kernels.adam, "step", None)
    leaves = [drawn(4, 4).requires_grad_(), drawn(3).requires_grad_()]
    leaves[0].grad, leaves[1].grad = drawn(4, 4, seed=2), drawn(3, seed=3)
    rate: float | Tensor = torch.tensor(1e-3)
    match reason:
        case "switched off":
            monkeypatch.setenv("BNLAB_ADAM", "0")
        case "a rate of the host":
            rate = 1e-3
        case "two types":
            leaves[1] = drawn(3, dtype=torch.float32).requires_grad_()
            leaves[1].grad = drawn(3, dtype=torch.float32)
        case _:
            leaves[0].grad = drawn(4, 4, seed=2).t()
    before = [leaf.detach().clone() for leaf in leaves]

    Adam(leaves, lr=rate, fused=True).step()

    assert all(not torch.equal(leaf, was) for leaf, was in zip(leaves, before, strict=True))


def test_a_captured_step_reads_the_addresses_that_it_was_captured_with(kernels, monkeypatch) -> None:
    """A capture launches nothing; steps without the graph may come before and after it, with gradients elsewhere."""
    launched = []
    real = kernels.adam.step
    leaf, other = (drawn(20, seed=1).requires_grad_() for _ in range(2))
    ours, theirs = (
        kind([one], **{**HOW, "lr": torch.tensor(1e-3, dtype=DOUBLE)}, fused=True)
        for kind, one in ((Adam, leaf), (torch.optim.Adam, other))
    )

    def step(seed: int, gradient: Tensor | None = None) -> Tensor:
        leaf.grad = torch.empty(20, dtype=DOUBLE) if gradient is None else gradient
        leaf.grad.copy_(drawn(20, seed=seed))
        other.grad = leaf.grad.clone()
        return leaf.grad

    step(1)
    ours.step(), theirs.step()
    with monkeypatch.context() as capturing:
        capturing.setattr(adam, "_capturing", lambda device: True)
        capturing.setattr(torch, "_foreach_add_", lambda counts, one: None)
        capturing.setattr(kernels.adam, "step", lambda *given: launched.append(given))
        fixed = step(2)
        ours.step()
    ours.settle()
    step(3)
    ours.step(), theirs.step()
    for seed in (4, 5):
        step(seed, fixed)
        ours.state[leaf]["step"] += 1
        real(*launched[0])
        theirs.step()

    torch.testing.assert_close(leaf, other, rtol=1e-13, atol=1e-13)


def test_a_capture_takes_no_memory_for_its_table(kernels, monkeypatch) -> None:
    """What a capture allocates may lie where an earlier part of the same step writes in every replay."""
    leaf = drawn(20).requires_grad_()
    made = Adam([leaf], lr=torch.tensor(1e-3), fused=True)
    monkeypatch.setattr(kernels.adam, "step", lambda *given: None)

    def captured_step() -> None:
        with monkeypatch.context() as capturing:
            capturing.setattr(adam, "_capturing", lambda device: True)
            made.step()

    leaf.grad = drawn(20, seed=1)
    with pytest.raises(RuntimeError, match="captured before it took a step"):
        captured_step()
    made.step()
    monkeypatch.setattr(torch, "empty", None)
    captured_step()


def test_a_fused_program_on_a_gpu_is_stepped_so_and_one_on_a_cpu_as_before() -> None:
    program = proofs.training(SMALL, (3,), proofs.STEP).program

    assert type(optimizer(SMALL, program)) is torch.optim.Adam
    program.captured = True
    assert type(optimizer(SMALL, program)) is Adam
