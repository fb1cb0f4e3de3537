"""What a captured step must be, shown without a GPU: torch's fake tensors have a device and no numbers.

An operation that mixes devices fails on them, and so does one whose result the host would have to wait for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from bnlab.engine import bench, optim, training
from bnlab.engine.kernels import batched
from bnlab.engine.program import Program
from bnlab.engine.slots import Mode, batchnorm
from bnlab.engine.training import Training
from bnlab.nets import build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Norm, ResNet
from bnlab.specs import Group, Penalty, Replicate, RunSpec

NORMS = (NONE, BATCHNORM_MINUS, BATCHNORM, AFFINE_LAYER)


@pytest.fixture(autouse=True)
def _torchs_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (batched, batchnorm):
        monkeypatch.setattr(module, "fused_kernels", lambda x, of: None)


@pytest.fixture(params=[18, 50])
def depth(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    batched._meetings.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode
    batched._meetings.cache_clear()  # a tensor without numbers is nothing to keep


def fake_training(
    depth: int, device: str, monkeypatch: pytest.MonkeyPatch, *, norms: Sequence[Norm] = NORMS, **changes: Any
) -> Training:
    """Four replicas whose optimizer reads its learning rates from the device."""
    real = optim.optimizer

    def capturable(spec, program):
        # torch looks at the first learning rate itself, once, before anything is captured
        optimizer = real(spec, program)
        for group in optimizer.param_groups:
            group |= {"lr": torch.tensor(group["lr"], device=device), "capturable": True}
        return optimizer

    monkeypatch.setattr(optim, "optimizer", capturable)
    spec = RunSpec(net=ResNet(depth), norm=BATCHNORM, batch_size=4, **changes)
    cohort = [Replicate(replace(spec, norm=norm), seed) for seed, norm in enumerate(norms)]
    models = [build(spec.net, norm, seed) for seed, norm in enumerate(norms)]
    elide = not optim.moves_dead_taps(spec, models[0])
    return Training(cohort, Program(models, torch.device(device), elide=elide), bench.noise(18, device))


@pytest.mark.parametrize("mode", ["train", "eval", "batch", "calibrate"])
@pytest.mark.usefixtures("fake")
def test_everything_that_the_forward_pass_reads_lies_on_the_device(depth: int, mode: Mode) -> None:
    models = [build(ResNet(depth), norm, seed) for seed, norm in enumerate(NORMS)]
    program = Program(models, torch.device("cuda"))
    images = bench.noise(4, "cuda").x_train.float().expand(4, -1, -1, -1, -1)

    logits = program(images, mode)

    assert (logits.device.type, logits.shape) == ("cuda", (4, 4, 10))


@pytest.mark.usefixtures("fake")
def test_the_host_waits_for_nothing_in_a_step(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fake_training(depth, "cpu", monkeypatch, augmentation="flip+crop")
    whole.prepare(0)

    whole.step()
    whole.step()

    assert whole.losses.shape == (4, 4)


@pytest.mark.usefixtures("fake")
def test_the_host_waits_for_nothing_with_groups_a_penalty_and_a_smaller_last_batch(monkeypatch) -> None:
    whole = fake_training(
        18,
        "cpu",
        monkeypatch,
        norms=[BATCHNORM] * 4,
        groups=(Group("norms", weight_decay=0.1), Group("head", lr=0.25)),
        penalty=Penalty(p=1.5, strength=1e-3),
        schedule="onecycle",
        warmup=1,
        last_batch="keep",
    )
    whole.prepare(0)

    whole.step()
    whole.step(whole.rest)

    assert whole.rates.shape == (5, 3), "a rate for every step and group"
    assert all(group["lr"].device == whole.rates.device for group in whole.optimizer.param_groups)
    assert (whole.steps, whole.rest) == (5, 2)


@pytest.mark.usefixtures("fake")
def test_a_step_that_the_host_waits_for_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fake_training(18, "cpu", monkeypatch)
    whole.prepare(0)
    monkeypatch.setattr(
        training.F, "cross_entropy", lambda logits, labels, reduction: logits.sum(1) / labels.max().item()
    )

    with pytest.raises(DataDependentOutputException):
        whole.step()


@pytest.mark.usefixtures("fake")
def test_a_tensor_left_on_the_host_would_be_seen() -> None:
    program = Program([build(ResNet(18), BATCHNORM, 0)] * 2, torch.device("cuda"))
    program.slots["bn1"].running.mean = torch.zeros(2, 64)

    with pytest.raises(RuntimeError, match="device"):
        program(bench.noise(4, "cuda").x_train.float().expand(2, -1, -1, -1, -1), "eval")
