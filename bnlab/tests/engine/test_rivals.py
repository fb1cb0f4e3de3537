"""The bench's rivals train the network that they say, on the steps that they are given."""

import gc
import multiprocessing
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import MagicMock

import pytest
import torch

from bnlab.engine import bench, rivals
from bnlab.nets import build
from bnlab.parts import BATCHNORM, Net
from bnlab.specs import RunSpec

SPEC = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=4)


@pytest.fixture
def made(monkeypatch):
    """The networks that rivals build; compiling takes half a minute, so here it only says that it was asked to."""
    networks = []
    monkeypatch.setattr(rivals, "build", lambda *how: networks.append(build(*how)) or networks[-1])
    monkeypatch.setattr(torch, "compile", lambda model: networks.append("compiled") or model)
    return networks


@pytest.mark.parametrize("name", ["eager", "channels-last", "compiled"])
def test_every_loop_trains_the_same_network_as_torchs_adam_does(name, made):
    images, (reference,) = bench.noise(8, "cpu"), [build(SPEC.net, BATCHNORM, 0)]
    torch.manual_seed(5)
    with rivals.rival(name, SPEC, images, "cpu", 1) as advance:
        advance(2)

    torch.manual_seed(5)
    order = torch.randperm(8).view(2, 4)
    adam = torch.optim.Adam(reference.parameters(), lr=SPEC.lr)
    for index in order:
        x = ((images.x_train[index] / 255 - images.mean) / images.std).permute(0, 3, 1, 2)
        adam.zero_grad()
        torch.nn.functional.cross_entropy(reference(x), images.y_train[index]).backward()
        adam.step()
    assert made[1:] == (["compiled"] if name == "compiled" else [])
    for name_, expected in reference.state_dict().items():
        torch.testing.assert_close(made[0].state_dict()[name_], expected, rtol=0, atol=1e-3)
    assert made[0].conv1.weight.is_contiguous(memory_format=torch.channels_last) is (name != "eager")


def test_a_loop_has_the_threads_that_the_bench_was_given_and_puts_back_those_of_the_cohort(made, monkeypatch):
    seen = []
    monkeypatch.setattr(rivals, "_step", lambda *how, **more: lambda at: seen.append(torch.get_num_threads()))
    with rivals.rival("eager", SPEC, bench.noise(8, "cpu"), "cpu", 2) as advance:
        advance(3)

    assert seen == [2, 2, 2]
    assert torch.get_num_threads() == 1


def test_processes_take_their_steps_and_end_with_the_bench():
    with rivals._processes("channels-last", SPEC, bench.noise(8, "cpu"), 2) as advance:
        advance(1)
        assert len(multiprocessing.active_children()) == 2

    assert multiprocessing.active_children() == []
    assert [rivals.replicas(name, 2) for name in ("processes", "compiled")] == [2, 1]


def test_a_process_that_dies_is_an_error_and_no_wait():
    with rivals._processes("no such rival", "no spec", None, 1) as advance, pytest.raises((EOFError, OSError)):
        advance(1)


def test_what_a_graph_replays_lives_as_long_as_its_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[weakref.ref[object]] = []

    def captured_step(*_: object, **__: object) -> Callable[[torch.Tensor], None]:
        def step(at: torch.Tensor) -> None: ...

        steps.append(weakref.ref(step))
        return step

    monkeypatch.setattr(rivals, "_step", captured_step)
    for name in ("Stream", "CUDAGraph", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda *_, **__: nullcontext())

    advance = rivals._graphed(SPEC, bench.noise(4, "cpu"), "cpu")
    gc.collect()

    assert steps[0]() is not None
    del advance
    gc.collect()
    assert steps[0]() is None
