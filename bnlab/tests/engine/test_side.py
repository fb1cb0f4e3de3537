"""What a GPU does beside a step changes none of its numbers, whenever the device comes to do it.

Two stand-ins take the extremes of what two streams may do: all at once, and all as late as possible.
"""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnlab.engine import fallbacks, optim, program, side, training
from bnlab.engine.side import EarlySteps, Side
from bnlab.parts import AFFINE_LAYER, BATCHNORM, NONE, Net, Part
from bnlab.specs import Group, Penalty, RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=4)
SEEDS = (3, 7, 11)


class AtOnce:
    """A side that is never behind."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def begin(self) -> None: ...

    def run(self, work: Callable[[], Any], *read: Tensor) -> Any:
        self.done.append("gradient" if read else "step")
        return work()

    def join(self) -> None:
        self.done.append("join")


class Late(AtOnce):
    """A side that does everything when it is waited for; until then what it gives is NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[tuple[Tensor | None, Callable[[], Any]]] = []

    def run(self, work: Callable[[], Any], *read: Tensor) -> Any:
        self.done.append("gradient" if read else "step")
        result = work() if read else None
        # an alias, since a gradient that somebody else holds would be copied
        self.later.append((None if result is None else result.detach(), work))
        return None if result is None else result.fill_(torch.nan)

    @torch.no_grad()
    def join(self) -> None:
        for result, work in self.later:
            done = work()
            if result is not None:
                result.copy_(done)
        self.later.clear()
        super().join()


@pytest.fixture(params=[AtOnce, Late])
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AtOnce:
    """The side of every training that is made from now on; small pieces, so that there are several."""
    made: AtOnce = request.param()
    monkeypatch.setattr(training, "side", lambda program: made)
    monkeypatch.setattr(side, "PIECE", 2**14)
    return made


def bits(spec: RunSpec, **how: Any) -> list[dict[str, Tensor]]:
    whole = proofs.training(spec, SEEDS, proofs.FEW, dtype=torch.float32, **how)
    whole.epoch(0)
    return [whole.program.state_dict(k) | {"losses": whole.losses} for k in range(len(SEEDS))]


SPECS = {
    "mixed norms": (SPEC, {"norms": (NONE, BATCHNORM, AFFINE_LAYER)}),
    "a norm of one's own": (replace(SPEC, norm=reference.OWN), {}),
    "groups": (replace(SPEC, groups=(Group("norms", lr=0.5), Group("head", weight_decay=0.1)), warmup=1), {}),
    "sgd": (replace(SPEC, optimizer="sgd", lr=0.05, momentum=0.9), {}),
    "weight norm": (replace(SPEC, parametrization=Part(code="torch.nn.utils.parametrizations:weight_norm")), {}),
}


@pytest.mark.parametrize("case", SPECS)
def test_an_epoch_has_the_bits_that_it_has_without_a_side(case, beside, monkeypatch) -> None:
    spec, how = SPECS[case]
    with monkeypatch.context() as without:
        without.setattr(training, "side", lambda program: None)
        expected = bits(spec, **how)

    for got, plain in zip(bits(spec, **how), expected, strict=True):
        proofs.assert_same_bits(got, plain)
    assert beside.done.count("join") == 4, "once a step"
    assert beside.done.count("gradient") == (0 if case == "weight norm" else 4 * 9)


def test_one_step_beside_a_side_is_eager_torchvisions(beside) -> None:
    proofs.assert_one_forced_step(replace(SPEC, batch_size=8, precision="fp32"), (3, 7), 1)

    assert "gradient" in beside.done


@pytest.mark.parametrize("beside", [Late], indirect=True)
def test_a_gradient_that_is_read_too_early_would_be_seen(beside, monkeypatch) -> None:
    """A weight that is made of others, whose gradients follow from its own: the engine keeps it from the side."""
    real = program.conv
    monkeypatch.setattr(program, "conv", lambda x, weight, geometry, side: real(x, weight, geometry, beside))

    assert bits(SPECS["weight norm"][0])[0]["losses"].isnan().any()


def test_the_optimizer_steps_while_gradients_are_still_computed(beside) -> None:
    bits(SPEC)

    first = beside.done[: beside.done.index("join")]
    assert first.index("step") < len(first) - 1 - first[::-1].index("gradient")
    assert first.count("step") > 2


def test_a_penalty_keeps_the_gradients_of_weights_in_the_step(beside) -> None:
    bits(replace(SPEC, penalty=Penalty(p=2.0, strength=1e-3)))

    assert beside.done == []


@pytest.mark.parametrize("unused", [0, 1, 2])
def test_a_parameter_without_a_gradient_keeps_its_group_waiting_and_no_longer(beside, unused) -> None:
    def steps(early: bool) -> list[Tensor]:
        leaves = [torch.full((3,), float(i + 1), requires_grad=True) for i in range(3)]
        adam = torch.optim.Adam([{"params": leaves[:2]}, {"params": leaves[2:]}], fused=True)
        beside_it = EarlySteps(adam, beside) if early else None
        for _ in range(3):
            adam.zero_grad()
            sum((leaf**2).sum() for i, leaf in enumerate(leaves) if i != unused).backward()
            beside_it.finish() if beside_it else adam.step()
        return leaves

    for got, expected in zip(steps(True), steps(False), strict=True):
        assert torch.equal(got, expected)


def test_a_step_that_failed_leaves_nothing_to_the_next(beside) -> None:
    leaves = [torch.ones(3, requires_grad=True) for _ in range(2)]
    early = EarlySteps(torch.optim.Adam(leaves, fused=True), beside)
    leaves[0].sum().backward()

    early.begin()
    leaves[1].sum().backward()

    assert beside.done == [], "one gradient of two, and not two"


def test_a_training_that_is_over_leaves_no_cycle_that_would_keep_its_weights(beside) -> None:
    gc.collect()
    gc.disable()
    try:
        over = proofs.training(SPEC, SEEDS, proofs.SMALL_STEP)
        over.epoch(0)
        assert over.early is not None
        kept = {weakref.ref(held) for held in (over, over.program, over.optimizer, over.program.leaves()[0])}
        kept |= {weakref.ref(module) for module in over.program.network.modules()}
        del over

        assert [type(held()).__name__ for held in kept if held() is not None] == []
    finally:
        gc.enable()


def test_pieces_hold_every_leaf_once_the_last_first_and_are_as_large_as_asked(monkeypatch) -> None:
    monkeypatch.setattr(side, "PIECE", 10)
    leaves = [torch.zeros(size) for size in (3, 8, 2, 9, 4, 7, 30)]

    cut = side.pieces(leaves)

    assert [[one.numel() for one in piece] for piece in cut] == [[30], [7, 4], [9, 2], [8, 3]]
    assert [id(one) for piece in cut for one in piece] == [id(one) for one in reversed(leaves)]


def test_pieces_of_a_treatment_read_one_learning_rate(beside) -> None:
    whole = proofs.training(SPECS["groups"][0], SEEDS, proofs.FEW, dtype=torch.float32)
    whole.program.captured = True
    groups = optim._groups(whole.spec, whole.program)

    assert len({id(group["lr"]) for group in groups}) == 3 < len(groups)


class Stream:
    """A stream that writes down for whom it waits."""

    device = torch.device("cuda:1")

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def wait_stream(self, other: "Stream") -> None:
        self.log.append(f"{self.name} waits for {other.name}")

    def __enter__(self) -> None:
        self.log.append(f"on {self.name}")

    def __exit__(self, *error: object) -> None:
        self.log.append(f"off {self.name}")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A side of streams that write down for whom they wait, in the middle of a step."""
    log: list[str] = []
    current = [Stream("built", log)]
    monkeypatch.setattr(fallbacks, "_failed", set())
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side", log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    beside = Side(torch.device("cuda:1"))
    current.append(Stream("step", log))
    beside.begin()
    current.append(Stream("backward thread's", log))
    return SimpleNamespace(side=beside, log=log)


def test_the_side_waits_for_what_it_reads_and_the_step_for_the_side(streams) -> None:
    read = torch.zeros(1)

    assert streams.side.run(lambda: streams.log.append("work") or 5, read) == 5
    assert streams.side._read == [read]
    streams.side.join()

    assert streams.log == ["side waits for step", "on side", "work", "off side", "step waits for side"]
    assert streams.side._read == [], "held until the step has waited, and no longer"


def test_a_side_that_was_given_up_does_its_work_in_the_step(streams) -> None:
    fallbacks.give_up("side", RuntimeError())

    assert streams.side.run(lambda: streams.log.append("work") or 5, torch.zeros(1)) == 5
    streams.side.join()

    assert (streams.log, streams.side._read) == (["work"], [])


def test_a_step_that_failed_holds_no_memory_in_the_next(streams) -> None:
    streams.side.run(lambda: None, torch.zeros(1))

    streams.side.begin()
    streams.log.clear()
    streams.side.join()

    assert (streams.log, streams.side._read) == ([], [])
