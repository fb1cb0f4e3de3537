"""What a captured step must be, shown without a GPU: torch's fake tensors have a device and no numbers.

An operation that mixes devices fails on them, and so does one whose result the host would have to wait for.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from bnlab.engine import bench, training
from bnlab.engine.kernels import batched
from bnlab.engine.program import Program
from bnlab.engine.slots import Mode, batchnorm
from bnlab.engine.training import Training
from bnlab.nets import build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, ResNet
from bnlab.specs import Augmentation, Replicate, RunSpec

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


def fake_training(depth: int, device: str, monkeypatch: pytest.MonkeyPatch, augmentation: Augmentation) -> Training:
    """Four replicas of different norms, whose optimizer reads its learning rate from the device."""
    real = training._optimizer

    def capturable(spec, program, rate):
        # torch looks at the first learning rate itself, once, before anything is captured
        optimizer = real(spec, program, spec.lr)
        optimizer.param_groups[0] |= {"lr": torch.tensor(spec.lr, device=device), "capturable": True}
        return optimizer

    monkeypatch.setattr(training, "_optimizer", capturable)
    spec = RunSpec(net=ResNet(depth), norm=BATCHNORM, batch_size=4, augmentation=augmentation)
    cohort = [Replicate(replace(spec, norm=norm), seed) for seed, norm in enumerate(NORMS)]
    models = [build(spec.net, norm, seed) for seed, norm in enumerate(NORMS)]
    return Training(cohort, Program(models, torch.device(device)), bench.noise(16, device))


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
    whole = fake_training(depth, "cpu", monkeypatch, "flip+crop")
    whole.prepare(0)

    whole.step()
    whole.step()

    assert whole.losses.shape == (4, 4)


@pytest.mark.usefixtures("fake")
def test_a_step_that_the_host_waits_for_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fake_training(18, "cpu", monkeypatch, "none")
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
