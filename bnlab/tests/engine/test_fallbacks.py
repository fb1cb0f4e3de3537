"""A kernel, a capture or memory that fails: the engine goes on the slower way and says so; fakes on a CPU show it."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from bnlab import engine
from bnlab.engine import bench, cohort, fallbacks, loop
from bnlab.engine.adam import Adam
from bnlab.engine.kernels import batched
from bnlab.engine.side import EarlySteps
from bnlab.engine.training import Training
from bnlab.errors import DeviceError
from bnlab.parts import BATCHNORM, Net
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs

SPEC = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=4)
SHORTAGE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

STAGES = ("compiling kernels", "capturing a step", "training")
"""What a training says as well, whatever becomes of it."""


@pytest.fixture(autouse=True)
def _nothing_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallbacks, "_failed", set())
    for faster in fallbacks._SLOWER:
        monkeypatch.delenv(f"BNLAB_{faster.upper()}", raising=False)


class Graph:
    """A CUDA graph that replays by taking the step again."""

    captured: ClassVar[list["Graph"]] = []
    failing: Exception | None = None

    def __init__(self) -> None:
        self.replays = 0

    @classmethod
    @contextmanager
    def capture(cls, graph, stream):
        yield
        if cls.failing is not None:
            raise RuntimeError("capture ended unjoined") from cls.failing
        cls.captured.append(graph)

    def replay(self) -> None:
        self.replays += 1
        whole.step()


whole: Training


@pytest.fixture
def training(streams: None, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A training on the CPU that believes itself on a GPU whose streams do nothing."""
    global whole
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Graph.capture)
    monkeypatch.setattr(Graph, "captured", [])
    monkeypatch.setattr(Graph, "failing", None)
    whole = proofs.training(SPEC, (3, 7), proofs.FEW, dtype=torch.float32)
    whole.said = []
    whole.say = lambda line: whole.said.append(line) if line not in STAGES else None
    whole.started = False
    return whole


def bits(trained: Training) -> list[dict[str, torch.Tensor]]:
    return [trained.program.state_dict(k) | {"losses": trained.losses} for k in range(2)]


@pytest.fixture(scope="module")
def undisturbed() -> list[dict[str, torch.Tensor]]:
    plain = proofs.training(SPEC, (3, 7), proofs.FEW, dtype=torch.float32)
    plain.epoch(0)
    return bits(plain)


def same(trained: Training, undisturbed: list[dict[str, torch.Tensor]]) -> None:
    for got, expected in zip(bits(trained), undisturbed, strict=True):
        proofs.assert_same_bits(got, expected)


def test_a_step_is_captured_once_and_replayed(training: Training, undisturbed) -> None:
    training.epoch(0)

    (graph,) = Graph.captured
    assert graph.replays == training.steps
    assert training.said == []
    same(training, undisturbed)


def test_adams_tables_are_filled_between_the_capture_and_the_first_replay(training, undisturbed, monkeypatch) -> None:
    settled = []
    monkeypatch.setattr(Adam, "settle", lambda self: settled.append(Graph.captured[-1].replays))
    training.optimizer = Adam(training.optimizer.param_groups, fused=True)

    training.epoch(0)

    assert settled == [0]
    assert Graph.captured[0].replays > 0
    same(training, undisturbed)


def test_a_capture_that_fails_is_told_once_and_the_steps_are_taken_one_by_one(training: Training, undisturbed) -> None:
    Graph.failing = RuntimeError("operation not permitted when stream is capturing")

    training.epoch(0)

    assert training.said == [
        "capture failed (RuntimeError: capture ended unjoined): going on without a CUDA graph",
    ]
    assert training.graph is None
    assert fallbacks.slower_ways() == "capture"
    same(training, undisturbed)


def test_a_capture_of_two_streams_that_fails_is_tried_with_one_before_none(training: Training, undisturbed) -> None:
    beside = SimpleNamespace(begin=lambda: None, run=lambda work, *read: work(), join=lambda: None)
    training.early = EarlySteps(training.optimizer, beside)
    Graph.failing = RuntimeError("operation not permitted when stream is capturing")

    training.epoch(0)

    assert training.said == [
        "side failed (RuntimeError: capture ended unjoined): going on with one stream",
        "capture failed (RuntimeError: capture ended unjoined): going on without a CUDA graph",
    ]
    same(training, undisturbed)


@pytest.mark.parametrize("failing", [["adam"], ["adam", "triton"]], ids=" and ".join)
def test_a_kernel_that_fails_is_told_once_and_torchs_own_take_its_place(
    training: Training, undisturbed, monkeypatch: pytest.MonkeyPatch, failing: list[fallbacks.Faster]
) -> None:
    step = training.step

    def broken(size=None):
        step(size)
        if fallbacks.uses(failing[-1]):
            raise ValueError("at 12:8: unsupported\nmore words")

    monkeypatch.setattr(training, "step", broken)

    training.epoch(0)

    why = "failed (ValueError: at 12:8: unsupported): going on with torch's own"
    said = [f"adam {why} Adam", f"triton {why} kernels"]
    assert training.said == said[: len(failing)]
    assert fallbacks.slower_ways() == ", ".join(failing)
    assert len(Graph.captured) == 1
    same(training, undisturbed)


def test_an_error_that_has_another_cause_is_raised(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(size=None):
        raise ValueError("no kernel's fault")

    monkeypatch.setattr(training, "step", broken)

    with pytest.raises(ValueError, match="no kernel's fault"):
        training.epoch(0)


def test_memory_that_runs_out_in_a_capture_is_no_reason_to_do_without_one(training: Training) -> None:
    Graph.failing = SHORTAGE

    with pytest.raises(RuntimeError, match="capture ended unjoined") as caught:
        training.epoch(0)

    assert fallbacks.out_of_memory(caught.value)
    assert fallbacks.slower_ways() == ""


def test_capture_is_switched_off_by_its_variable(training: Training, undisturbed, monkeypatch) -> None:
    monkeypatch.setenv("BNLAB_CAPTURE", "0")

    training.epoch(0)

    assert (training.graph, Graph.captured, training.said) == (None, [], [])
    same(training, undisturbed)


def test_kernels_are_switched_off_by_their_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "_triton", lambda of: of)
    on_a_gpu = SimpleNamespace(is_cuda=True)

    assert batched.fused_kernels(on_a_gpu, "maps") == "maps"
    monkeypatch.setenv("BNLAB_TRITON", "0")
    assert batched.fused_kernels(on_a_gpu, "maps") is None


def test_provenance_names_what_a_gpu_did_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")

    assert "without" not in engine.environment("cuda:0")
    for faster in ("ADAM", "TRITON", "SIDE", "CAPTURE"):
        monkeypatch.setenv(f"BNLAB_{faster}", "0")
    assert engine.environment("cuda:0")["without"] == "adam, triton, side, capture"
    assert "without" not in engine.environment("cpu")


def test_a_cohort_is_halved_when_memory_runs_out_inside_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def full(members, *args, **kwargs):
        done.append(len(members))
        try:
            raise SHORTAGE
        except torch.OutOfMemoryError:
            raise RuntimeError("capture was invalidated")  # noqa: B904  # as torch leaves a capture

    monkeypatch.setattr(loop, "train", full)
    monkeypatch.setattr(cohort.gc, "collect", lambda: done.append("cycles"))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("cache"))

    with pytest.raises(DeviceError, match="does not fit on cuda:0"):
        engine.train([Replicate(SPEC, 0), Replicate(SPEC, 1)], bench.noise(8, "cpu"), "cuda:0")

    assert done == [2, "cycles", "cache", 1, "cycles", "cache"]


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (SHORTAGE, True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (None, False),
    ],
)
def test_memory_that_ran_out_is_known_by_its_error(error, short) -> None:
    assert fallbacks.out_of_memory(error) is short


def test_errors_that_name_each_other_come_to_an_end() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__context__, second.__context__ = second, first

    assert not fallbacks.out_of_memory(first)


class TestKeeping:
    """Which epochs are kept where keeping takes its time, as on a GPU."""

    COHORT: ClassVar[list[Replicate]] = [Replicate(replace(SPEC, epochs=3), seed) for seed in (0, 1)]

    def kept(self, monkeypatch: pytest.MonkeyPatch, bytes_per_s: float) -> tuple[list[int], list[tuple[int, int]]]:
        monkeypatch.setattr(loop, "KEPT_BYTES_PER_S", bytes_per_s)
        epochs, passed = [], []
        images = proofs.Images.of(proofs.FEW, "cpu")
        loop.train(
            self.COHORT,
            images,
            "cpu",
            after_epoch=lambda member, epoch, snapshot: epochs.append(epoch),
            snapshot_every=1e-9,
            passed=lambda epoch, images: passed.append((epoch, images)),
        )
        return epochs, passed

    def test_a_snapshot_that_costs_more_than_a_twentieth_of_what_is_left_is_left_out(self, monkeypatch) -> None:
        epochs, passed = self.kept(monkeypatch, bytes_per_s=1.0)

        assert epochs == []
        shown = 2 * len(proofs.FEW.x_train) // SPEC.batch_size * SPEC.batch_size
        assert passed == [(1, shown), (2, shown), (3, shown)], "both replicas' images, whether or not it is kept"

    def test_a_cheap_one_is_taken(self, monkeypatch) -> None:
        epochs, _ = self.kept(monkeypatch, bytes_per_s=1e18)

        assert epochs[:2] == [1, 1]

    def test_its_bytes_are_known_before_it_is_taken(self) -> None:
        sizes = []
        loop.train(
            self.COHORT,
            proofs.Images.of(proofs.FEW, "cpu"),
            "cpu",
            after_epoch=lambda member, epoch, snapshot: sizes.append(len(snapshot)),
        )
        program = proofs.training(SPEC, (0,), proofs.FEW, dtype=torch.float32)
        program.epoch(0)

        assert loop.snapshot.size(program) == pytest.approx(sizes[0], rel=0.02)
