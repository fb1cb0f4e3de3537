"""Custom norms: what the engine makes of a torch module that keeps the contract, and what it says of one that does not.

The layers stand in `layers.py`; a slot is called on random maps [k, n, h, w, c].
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from bnlab import engine
from bnlab.engine import evaluations
from bnlab.engine.program import Program
from bnlab.engine.slots import CustomSlot
from bnlab.engine.slots import slot as make_slot
from bnlab.engine.training import Training
from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.norms import AffineLayer, BatchNorm, Identity
from bnlab.parts import Norm
from bnlab.specs import Replicate
from bnlab.tests.engine import reference
from bnlab.tests.engine.custom import CPU, SPEC, drawn, images, norm_of, numbers, slot, trained
from bnlab.tests.engine.layers import (
    Adapting,
    Averaging,
    AveragingByItself,
    Counter,
    Counting,
    Cropping,
    Drawing,
    Dropping,
    DroppingInEvaluation,
    Failing,
    FailingInEvaluation,
    Forgetful,
    Halving,
    Hiding,
    InDouble,
    Initialising,
    Layer,
    Listing,
    MadeLate,
    Promising,
    Replacing,
    SwitchLike,
    TrainGivesNothing,
    Unused,
    Viewing,
)
from bnlab.tests.norms.tiny import TINY

# ---- which slot a layer gets


@pytest.mark.parametrize("parent", [BatchNorm, AffineLayer, Identity])
def test_the_forward_of_a_subclass_of_ours_is_called(parent: type[nn.Module]) -> None:
    class Tripled(parent):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * super().forward(x)

    mine, plain = (make_slot([kind(5)], CPU, torch.float32) for kind in (Tripled, parent))

    assert isinstance(mine, CustomSlot)
    assert not isinstance(plain, CustomSlot)
    torch.testing.assert_close(mine(drawn(1), "train"), 3 * plain(drawn(1), "train"))


def test_a_layer_may_name_a_fused_form_of_its_own() -> None:
    class Fused(Layer):
        slot = f"{__name__}:fused_form"

    assert make_slot([Fused()], CPU, torch.float32) == "the fused form of 1 layers"
    assert isinstance(make_slot([Fused(), Layer()], CPU, torch.float32), CustomSlot)


def fused_form(layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> str:
    return f"the fused form of {len(layers)} layers"


# ---- what breaks the contract


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Dropping, "draws from torch's global generator (aten.bernoulli_.float)"),
        (DroppingInEvaluation, "draws from torch's global generator"),
        (Counting, "changes its attribute 'calls' from call to call"),
        (Initialising, "changes its attribute 'ready' from call to call"),
        (Forgetful, "remembers something that is not in its state dict"),
        (Hiding, "remembers something that is not in its state dict"),
        (Adapting, "moves its buffer 'average' in evaluation"),
        (MadeLate, "changes its state dict in its first call (gain)"),
        (Promising, "names the evaluation 'recalibrated', but nothing resets its 'running_mean'"),
        (Failing, "fails on maps of [4, 5, 3, 3] (RuntimeError: two words)"),
        (FailingInEvaluation, "fails on maps of [4, 5, 3, 3] (AssertionError: only trains)"),
        (Cropping, "gave [4, 5, 3, 2] of torch.float32 for maps of [4, 5, 3, 3] of torch.float32"),
        (Listing, "gave a tuple for maps of [4, 5, 3, 3]"),
        (Halving, "gave [4, 5, 3, 3] of torch.float16 for maps of [4, 5, 3, 3] of torch.float32"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_layer_that_breaks_the_contract_is_named_on_the_first_batch(make: type[nn.Module], said: str) -> None:
    with pytest.raises(SpecError) as caught:
        slot(make)(drawn(), "train")

    message = str(caught.value)
    assert message.startswith(f"the norm '{make.__module__}:{make.__name__}' at layer1.0.bn1 {said}")
    assert "\n" not in message


def test_instance_norm_on_1x1_maps_is_named_with_its_place() -> None:
    with pytest.raises(SpecError) as caught:
        trained(Norm(layer="torch.nn:InstanceNorm2d"))

    assert str(caught.value).startswith(
        "the norm 'torch.nn.modules.instancenorm:InstanceNorm2d' at layer1.0.1 fails on maps of [20, 16, 1, 1] "
        "(ValueError: Expected more than 1 spatial element when training"
    )


def test_memory_that_runs_out_in_a_layer_is_left_to_the_cohort() -> None:
    class Greedy(Layer):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="can't allocate memory"):
        slot(Greedy)(drawn(), "train")


@pytest.mark.parametrize("mode", ["fused", "eager"])
def test_both_engines_refuse_a_layer_that_draws_from_the_global_generator(mode: str) -> None:
    with pytest.raises(SpecError, match="draws from torch's global generator"):
        trained(norm_of(Dropping), engine=mode)


# ---- what keeps it, however it is written


@pytest.mark.parametrize("make", [Viewing, TrainGivesNothing, InDouble, Layer])
def test_a_layer_that_plain_torch_can_train_can_be_trained(make: type[nn.Module]) -> None:
    x = drawn()

    got = slot(make)(x, "train")

    expected = torch.stack([make()(one.permute(0, 3, 1, 2).contiguous()) for one in x])
    assert torch.equal(got, expected.permute(0, 1, 3, 4, 2))


@pytest.mark.parametrize(("maps", "images"), [((100, 64, 64), 2), ((100, 16, 16), 16), ((7, 8, 8), 7)])
def test_of_large_maps_a_few_images_are_tried(maps: tuple[int, int, int], images: int) -> None:
    seen: list[int] = []

    class Noting(Layer):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x

    made = slot(Noting, 1)
    made(torch.zeros(1, *maps, 5), "train")

    assert seen[:-1] == [images] * (len(seen) - 1)
    assert seen[-1] == maps[0]


def test_trying_the_first_batch_leaves_the_layer_as_it_was() -> None:
    one, other = (slot(lambda: reference.Own(5)) for _ in range(2))

    one.examine(drawn()[0].permute(0, 3, 1, 2))

    for got, expected in zip(one.statistics(), other.statistics(), strict=True):
        assert torch.equal(got, expected)
    assert all(parameter.grad is None for layer in one.layers for parameter in layer.parameters())


def test_a_parameter_that_never_has_a_gradient_survives_a_snapshot() -> None:
    taken: list[bytes] = []
    spec = replace(SPEC, norm=norm_of(Unused))

    (whole,) = engine.train(
        [Replicate(spec, 3)], images(), "cpu", after_epoch=lambda member, epoch, held: taken.append(held)
    )
    (resumed,) = engine.train([Replicate(spec, 3)], images(), "cpu", resume=taken[:1])

    assert numbers(resumed) == numbers(whole)


@pytest.mark.parametrize("mode", ["fused", "eager"])
def test_a_layer_that_draws_gives_the_same_bits_twice_in_any_cohort_and_after_a_resume(mode: str) -> None:
    norm = Norm(layer="bnlab.norms.noisy:NoisyBatchNorm")
    taken: dict[int, bytes] = {}
    cohort = [Replicate(replace(SPEC, norm=norm, engine=mode), seed) for seed in (5, 3)]

    alone = trained(norm, engine=mode)[0]
    torch.rand(7)  # the global generator is not asked
    beside = engine.train(
        cohort, images(), "cpu", after_epoch=lambda member, _, held: taken.update({member.seed: held})
    )
    resumed = engine.train(cohort[1:], images(), "cpu", resume=[taken[3]])[0]

    assert numbers(beside[1]) == numbers(alone)
    assert numbers(resumed) == numbers(alone)
    assert beside[0].weights != alone.weights


def test_a_layer_that_draws_has_the_same_bits_in_every_slot_of_a_program() -> None:
    def losses(seeds: tuple[int, ...]) -> dict[int, list[float]]:
        cohort = [Replicate(replace(SPEC, norm=norm_of(Drawing)), seed) for seed in seeds]
        program = Program([build(TINY, member.spec.norm, member.seed) for member in cohort], CPU)
        whole = Training(cohort, program, images())
        whole.epoch(0)
        return {seed: whole.losses[:, k].tolist() for k, seed in enumerate(seeds)}

    expected, *others = losses((7, 3)), losses((3, 7)), losses((1, 2, 7, 3))

    assert all(other[seed] == expected[seed] for other in others for seed in (3, 7))


def test_every_step_of_every_epoch_and_every_replica_draws_other_numbers(monkeypatch) -> None:
    seeded: list[str] = []
    real = Program.seed
    monkeypatch.setattr(Program, "seed", lambda self, moments: seeded.extend(moments) or real(self, moments))
    cohort = [Replicate(replace(SPEC, norm=norm_of(Drawing)), seed) for seed in (7, 3)]
    whole = Training(cohort, Program([build(TINY, member.spec.norm, member.seed) for member in cohort], CPU), images())

    for number in range(2):
        whole.epoch(number)

    assert len(seeded) == len(set(seeded)) == 2 * 2 * whole.steps


def test_layers_of_other_names_draw_other_numbers() -> None:
    one, other = (CustomSlot([Drawing()], CPU, torch.float32, name) for name in ("bn1", "bn2"))
    for made in (one, other):
        made.seed(["7/step 0"])

    assert not torch.equal(one(drawn(1), "train"), other(drawn(1), "train"))


@pytest.mark.parametrize("mode", ["eval", "batch", "calibrate"])
def test_a_layer_that_draws_in_evaluation_draws_the_same_in_every_evaluation(mode: str, monkeypatch) -> None:
    logits: list[Tensor] = []
    real = Program.__call__
    monkeypatch.setattr(Program, "__call__", lambda *given: logits.append(real(*given)) or logits[-1])
    whole = Training([Replicate(SPEC, 7)], Program([build(TINY, norm_of(Drawing), 7)], CPU), images())

    for _ in range(2):
        if mode == "calibrate":
            evaluations.calibrate(whole, whole.images.x_train)
        else:
            evaluations.accuracy(whole, mode)

    first, second = logits
    assert torch.equal(first, second)


# ---- running statistics


def test_statistics_that_nothing_resets_get_no_recalibrated_reading_and_one_sentence_says_so() -> None:
    made = slot(SwitchLike)
    made(drawn(), "train")

    with pytest.warns(UserWarning, match=r"SwitchLike' gets no recalibrated test accuracy, since nothing resets its"):
        asked = made.evaluations(0)

    assert asked == ("batch",)


@pytest.mark.parametrize(
    ("make", "asked"),
    [
        (Layer, ()),
        (Averaging, ("recalibrated", "batch")),
        (lambda: nn.BatchNorm2d(5), ("recalibrated", "batch")),
        (lambda: nn.BatchNorm2d(5, track_running_stats=False), ()),
    ],
    ids=["none", "a layer's own", "torch's", "not tracked"],
)
def test_the_evaluations_follow_from_the_buffers_that_training_moves(make, asked: tuple[str, ...]) -> None:
    made = slot(make)
    made(drawn(), "train")

    assert made.evaluations(1) == asked


@pytest.mark.parametrize(
    "make",
    [Averaging, AveragingByItself, lambda: nn.BatchNorm2d(5)],
    ids=["by its momentum", "by itself", "torch's"],
)
def test_recalibrated_statistics_are_the_average_over_the_batches_and_nothing_older(make) -> None:
    made = slot(make)
    for layer in made.layers:
        layer.train()(100 + torch.randn(4, 5, 3, 3))
    batches = [drawn(seed=seed) for seed in range(4)]

    made.start_calibration()
    for x in batches:
        made(x, "calibrate")

    expected = torch.stack([x.mean((1, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(torch.stack([layer.running_mean for layer in made.layers]), expected)


@pytest.mark.parametrize("make", [lambda: reference.Own(5), Replacing, Counter], ids=["in place", "replaced", "count"])
def test_an_evaluation_with_batch_statistics_moves_no_buffer(make) -> None:
    made = slot(make)
    before = [buffer.clone() for buffer in made.statistics()]
    tensors = made.statistics()

    made(drawn(), "batch")

    assert all(one is other for one, other in zip(made.statistics(), tensors, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(made.statistics(), before, strict=True))
