"""Custom norms as a GPU calls them, in captured steps and by vmap; shown on the CPU."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from bnlab.engine.program import Program
from bnlab.engine.slots import trial
from bnlab.engine.training import Training
from bnlab.nets import build
from bnlab.parts import Norm
from bnlab.specs import Replicate
from bnlab.tests.engine import reference
from bnlab.tests.engine.custom import CPU, SPEC, drawn, images, norm_of, slot
from bnlab.tests.engine.layers import (
    Counter,
    Drawing,
    Layer,
    Looking,
    LookingInEvaluation,
    OtherGradient,
    Replacing,
    WithoutRule,
)
from bnlab.tests.norms.tiny import TINY


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: reference.Own(5), ""),
        (Counter, ""),
        (Drawing, ""),
        (Replacing, "replaces its buffer 'last'"),
        (Looking, "looks at numbers (aten._local_scalar_dense.default)"),
    ],
    ids=["in place", "count", "draws", "replaces", "looks"],
)
def test_a_step_is_captured_only_if_the_first_batch_shows_that_it_can_be(make, reason: str) -> None:
    made = slot(make)

    made(drawn(), "batch")

    assert made.uncapturable().endswith(reason)
    assert bool(made.uncapturable()) == bool(reason)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that do nothing, and graphs that replay by taking the step again."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("Stream", "current_stream", "set_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda device: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=None))


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("norm", "captured"), [(norm_of(Counter), True), (norm_of(Replacing), False)], ids=str)
def test_a_layer_that_cannot_be_captured_steps_from_the_host(norm: Norm, captured: bool) -> None:
    runs = []
    for as_on_a_gpu in (False, True):
        whole = Training([Replicate(replace(SPEC, norm=norm), 3)], Program([build(TINY, norm, 3)], CPU), images())
        whole.prepare(0)
        if as_on_a_gpu:
            whole._start()
            assert (whole.graph is not None) is captured
            whole.graph = None
        whole.advance(whole.steps)
        runs.append([*whole.losses.flatten().tolist(), *map(float, whole.program.state_dict(0)["bn1.gain"])])

    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    "make",
    [
        Drawing,
        Looking,
        LookingInEvaluation,
        Replacing,
        WithoutRule,
        OtherGradient,
    ],
)
def test_what_vmap_would_make_another_layer_of_is_called_for_each(make) -> None:
    one = slot(make, as_on_a_gpu=True)

    one(drawn(), "train")

    assert one.vmapped is False


def test_copies_with_other_plain_values_are_called_for_each() -> None:
    slopes = iter([1.0, 2.0])

    class Sloped(Layer):
        def __init__(self) -> None:
            super().__init__()
            self.slope = next(slopes)

        def forward(self, x: Tensor) -> Tensor:
            return self.slope * x

    one = slot(Sloped, as_on_a_gpu=True)

    assert torch.equal(one(drawn(), "train")[1], 2 * drawn()[1])


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_whether_vmap_is_taken_does_not_depend_on_the_number_of_replicas(replicas: int) -> None:
    one = slot(lambda: reference.Own(5), replicas, as_on_a_gpu=True)

    one(drawn(replicas), "train")

    assert one.vmapped


def test_every_mode_in_one_call_is_that_of_each_alone() -> None:
    together, alone = (slot(lambda: reference.Own(5), as_on_a_gpu=gpu) for gpu in (True, False))
    for mode in ("train", "batch", "eval", "train"):
        torch.testing.assert_close(together(drawn(), mode), alone(drawn(), mode))
        for got, expected in zip(together.statistics(), alone.statistics(), strict=True):
            torch.testing.assert_close(got, expected)
    for one in (together, alone):
        one.start_calibration()
    torch.testing.assert_close(together(drawn(), "calibrate"), alone(drawn(), "calibrate"))

    assert together.vmapped


@pytest.mark.parametrize("norm", [reference.OWN, reference.IN_PLACE], ids=str)
def test_a_program_trains_the_same_in_one_call_as_with_a_call_for_each(norm: Norm) -> None:
    def losses(*, as_on_a_gpu: bool) -> Tensor:
        cohort = [Replicate(replace(SPEC, norm=norm), seed) for seed in (3, 7)]
        program = Program([build(TINY, norm, 3), build(TINY, norm, 7)], CPU, dtype=torch.float64)
        for one in program.slots.values():
            one.can_vmap = as_on_a_gpu
        whole = Training(cohort, program, images())
        whole.epoch(0)
        assert all(one.vmapped is as_on_a_gpu for one in program.slots.values())
        return whole.losses

    torch.testing.assert_close(losses(as_on_a_gpu=True), losses(as_on_a_gpu=False), rtol=0, atol=1e-10)


def test_a_warning_of_a_layer_is_no_error() -> None:
    class Warns(Layer):
        def forward(self, x: Tensor) -> Tensor:
            warnings.warn("old", DeprecationWarning, stacklevel=1)
            return x

    with pytest.warns(DeprecationWarning, match="old"):
        assert torch.equal(slot(Warns)(drawn(), "train"), drawn())


@pytest.mark.parametrize("waits", [True, False])
def test_what_torch_calls_a_wait_on_a_gpu_is_noted_and_its_mode_put_back(monkeypatch, waits) -> None:
    modes, watch = [0], trial._Watch()

    def switch(mode: str | int) -> None:
        modes.append({"warn": 1}.get(mode, mode))
        if len(modes) == 2:
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", switch)

    with watch.on(torch.device("cuda")):
        if waits:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)

    assert modes == [0, 1, 0]
    assert watch.waits == ["called a synchronizing CUDA operation"] * waits
