"""What a training gives beside the step itself: optimizers, schedules, curves, readings, snapshots, the record."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from bnlab import engine
from bnlab.data.images import Images
from bnlab.data.sources import Arrays
from bnlab.engine import evaluations, optim, snapshot
from bnlab.errors import DataError
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, ResNet
from bnlab.specs import RECORD, Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")
SMALL = replace(SPEC, batch_size=4, epochs=1)
FORMS = pytest.mark.parametrize(("seeds", "slot"), [((7,), 0), ((3, 7), 1)], ids=["alone", "beside another"])


@FORMS
def test_sgd_with_momentum_and_a_cosine_schedule_is_torchs(seeds, slot, record_property) -> None:
    spec = replace(SPEC, optimizer="sgd", lr=0.05, momentum=0.9, schedule="cosine", epochs=2)
    record_property("differences", proofs.assert_free_steps(spec, seeds, slot, proofs.FEW, epochs=2, within=1e-9))


def test_plain_sgd_is_torchs(record_property) -> None:
    spec = replace(SPEC, optimizer="sgd", lr=0.05, weight_decay=0.01)
    record_property("differences", proofs.assert_free_steps(spec, (7,), 0, proofs.STEP, epochs=2, within=1e-9))


def test_the_cosine_schedule_is_torchs_over_a_whole_training() -> None:
    spec = replace(SPEC, optimizer="sgd", lr=0.05, schedule="cosine", epochs=3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=spec.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * 7)
    expected = []
    for _ in range(21):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

    assert [optim.learning_rate(spec, step, 7) for step in range(21)] == pytest.approx(expected, rel=1e-12)


@FORMS
def test_training_on_augmented_images_is_eager_torchvisions(seeds, slot, record_property) -> None:
    spec = replace(SPEC, augmentation="flip+crop")
    record_property("differences", proofs.assert_free_steps(spec, seeds, slot, proofs.STEP, epochs=2, within=1e-9))


def test_curves_are_those_of_the_eager_loop() -> None:
    """Two epochs of one step: few enough that single precision stays close to the float64 reference."""
    spec = replace(SPEC, epochs=2)
    (got,) = engine.train([Replicate(spec, 7)], Images.of(proofs.STEP, "cpu"), "cpu")
    solo = reference.Solo(spec, 7, proofs.STEP)
    train_accuracy, test_accuracy = [], []
    for epoch in range(2):
        index = reference.order(7, epoch, 9, 8)[0]
        shown = copy.deepcopy(solo.model)
        train_accuracy.append(100 * right(shown.train(), proofs.STEP.x_train[index], proofs.STEP.y_train[index]) / 8)
        solo.epoch(epoch)
        test_accuracy.append(100 * right(solo.model.eval(), proofs.STEP.x_test, proofs.STEP.y_test) / 6)

    assert got.curves["train_loss"] == pytest.approx(reference.free(spec, 7, proofs.STEP, 2).losses, rel=1e-4)
    assert got.curves["train_accuracy"] == tuple(train_accuracy)
    assert got.curves["test_accuracy"] == tuple(test_accuracy)
    assert got.diverged_at is None


@pytest.mark.parametrize(
    ("norm", "seeds"),
    [(BATCHNORM, (3,)), (BATCHNORM, (3, 7)), (reference.OWN, (3, 7))],
    ids=["alone", "beside another", "a norm of one's own"],
)
def test_the_three_test_accuracies_are_eager_torchvisions(norm, seeds, monkeypatch, record_property) -> None:
    """Running statistics; the batch's own; and running ones averaged anew over the first training images."""
    monkeypatch.setattr(evaluations, "CHUNK", 10)
    monkeypatch.setattr(evaluations, "CALIBRATION", 13)
    data = reference.arrays(16, 28)
    whole = proofs.training(replace(SMALL, norm=norm), seeds, data)
    whole.epoch(0)
    states = [whole.program.state_dict(k) for k in range(len(seeds))]
    data = replace(data, y_test=telling(reference.loaded(whole.spec, states[0], torch.float64), data))
    whole.images.y_test.copy_(torch.from_numpy(data.y_test))
    got = {"eval": evaluations.running(whole), "batch": evaluations.batch(whole)}
    untouched = [whole.program.state_dict(k) for k in range(len(seeds))]
    got["recalibrated"] = evaluations.recalibrated(whole)

    test = list(zip(np.array_split(data.x_test, 3), np.array_split(data.y_test, 3), strict=True))
    for k, state in enumerate(states):
        proofs.assert_same_bits(untouched[k], state)
        model = reference.loaded(whole.spec, state, torch.float64)
        running = sum(right(model.eval(), *chunk, data=data) for chunk in test)
        own = sum(right(copy.deepcopy(model).train(), *chunk, data=data) for chunk in test)
        for module in model.modules():
            if hasattr(module, "reset_running_stats"):
                module.reset_running_stats()
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        for chunk in np.array_split(data.x_train[:13], 2):
            right(model.train(), chunk, data.y_train[: len(chunk)], data=data)
        recalibrated = sum(right(model.eval(), *chunk, data=data) for chunk in test)
        expected = {"eval": running, "batch": own, "recalibrated": recalibrated}
        assert {way: values[k] for way, values in got.items()} == {
            way: 100 * count / 28 for way, count in expected.items()
        }
        after, truth = whole.program.state_dict(k), model.state_dict()
        names = [name for name in after if name.endswith(("running_mean", "running_var", "largest"))]
        record_property("statistics", max(proofs.assert_near(after[n], truth[n], 1e-11, n) for n in names))
    assert got["eval"] not in (got["batch"], got["recalibrated"]), "the ways agree, so nothing was told apart"


@pytest.mark.parametrize("engine_of_it", ["fused", "eager"])
def test_a_network_has_an_output_for_each_class_of_the_images(engine_of_it) -> None:
    """Images of more than ten classes: the step is that of torchvision's network with so many outputs."""
    many = replace(proofs.STEP, y_train=(11 * proofs.STEP.y_train).astype(np.uint8))
    images = Images.of(many, "cpu")
    spec = replace(SPEC, engine=engine_of_it)
    torch.manual_seed(7)
    model = resnet18(num_classes=89)
    index = reference.order(7, 0, 9, 8)[0]
    shown = (torch.from_numpy(many.x_train[index]) / 255 - images.mean) / images.std
    expected = nn.functional.cross_entropy(model(shown.permute(0, 3, 1, 2)), images.y_train[torch.from_numpy(index)])

    (got,) = engine.train([Replicate(replace(spec, epochs=1), 7)], images, "cpu")

    assert images.classes == 89
    assert got.curves["train_loss"] == pytest.approx([expected.item()], rel=1e-5)


def test_readings_are_the_two_other_accuracies_of_norms_that_keep_statistics() -> None:
    runs = {
        norm: engine.train([Replicate(replace(SPEC, norm=norm, epochs=1), 7)], Images.of(proofs.STEP, "cpu"), "cpu")[0]
        for norm in (BATCHNORM, NONE)
    }
    whole = proofs.training(SPEC, (7,), proofs.STEP, dtype=torch.float32)
    whole.epoch(0)
    (batch,) = evaluations.batch(whole)
    (recalibrated,) = evaluations.recalibrated(whole)

    assert runs[BATCHNORM].readings == {"test_accuracy_batch": batch, "test_accuracy_recalibrated": recalibrated}
    assert runs[NONE].readings == {}


def test_the_same_spec_and_seed_give_the_same_bits_on_any_number_of_threads() -> None:
    images = Images.of(proofs.FEW, "cpu")
    runs = []
    for threads in (1, 1, 2):
        torch.set_num_threads(threads)
        runs.append(
            [proofs.numbers(run) for run in engine.train([Replicate(SMALL, 3), Replicate(SMALL, 7)], images, "cpu")]
        )
        assert torch.get_num_threads() == threads

    assert runs[0] == runs[1] == runs[2]


def test_training_leaves_the_ambient_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    engine.train(
        [Replicate(replace(SPEC, epochs=1, augmentation="flip+crop"), 7)], Images.of(proofs.STEP, "cpu"), "cpu"
    )

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "cosine", "augmentation": "flip+crop"},
        {"norm": reference.OWN, "optimizer": "sgd", "momentum": 0.9, "lr": 0.05},
    ],
    ids=["adam", "sgd and a norm of one's own"],
)
def test_a_resumed_run_is_the_run(change) -> None:
    """Alone, in its cohort, and in another slot of it."""
    proofs.assert_resumed(replace(SPEC, epochs=3, **change), (3, 7), proofs.STEP, after=1)


def test_a_fused_program_goes_on_from_a_snapshot_in_another_slot() -> None:
    spec, seeds = SPEC, (3, 7)
    whole = proofs.training(spec, seeds, proofs.STEP, dtype=torch.float32)
    whole.epoch(0)
    held = {seed: snapshot.take(whole, k, {"epoch": 1}) for k, seed in enumerate(seeds)}
    whole.epoch(1)
    again = proofs.training(spec, (7, 3), proofs.STEP, dtype=torch.float32)
    for k, seed in enumerate((7, 3)):
        snapshot.restore(again, k, held[seed])
    again.epoch(1)

    for k, seed in enumerate(seeds):
        proofs.assert_same_bits(again.program.state_dict(1 - k), whole.program.state_dict(k))
        assert engine.snapshot_epoch(held[seed]) == 1


@pytest.mark.parametrize("pair", [(BATCHNORM, BATCHNORM_MINUS), (AFFINE_LAYER, NONE)], ids=["BatchNorm", "AffineLayer"])
@pytest.mark.parametrize("seeds", [(7,), (3, 7)], ids=["alone", "beside another"])
def test_gamma_one_and_beta_zero_change_no_bit_of_the_first_step(pair, seeds) -> None:
    """Neither of the first logits nor of what the first step makes of any other weight."""
    logits, steps = [], []
    for norm in pair:
        whole = proofs.training(replace(SPEC, norm=norm), seeds, proofs.STEP, dtype=torch.float32)
        images = whole.standardise(whole.images.x_train)[None].expand(len(seeds), 9, 32, 32, 3)
        logits.append(whole.program(images, "batch").detach())
        whole.epoch(0)
        steps.append([whole.program.state_dict(k) for k in range(len(seeds))])

    assert torch.equal(*logits)
    for full, bare in zip(*steps, strict=True):
        affine = [name for name in full if "bn" in name or "downsample.1" in name]
        assert affine
        for name in set(full) - set(affine):
            assert torch.equal(full[name], bare[name]), name


@pytest.mark.parametrize("pair", [(BATCHNORM, BATCHNORM_MINUS), (AFFINE_LAYER, NONE)], ids=["BatchNorm", "AffineLayer"])
def test_eager_torchvision_agrees_that_the_first_logits_do_not_know_gamma_and_beta(pair) -> None:
    x = reference.standardised(proofs.STEP.x_train, proofs.STEP, torch.float32)

    assert torch.equal(*[reference.network(ResNet(18), norm, 7)(x) for norm in pair])


def test_a_batch_larger_than_the_training_set_is_refused_in_words() -> None:
    with pytest.raises(DataError, match=r"^batch size 20 is larger than the 9 training images: take a smaller one$"):
        engine.train([Replicate(replace(SPEC, batch_size=20), 0)], Images.of(proofs.STEP, "cpu"), "cpu")


def test_a_test_set_of_one_image_is_refused_in_words() -> None:
    one = replace(proofs.STEP, x_test=proofs.STEP.x_test[:1], y_test=proofs.STEP.y_test[:1])

    with pytest.raises(DataError, match=r"^the test set has a single image, which has no batch statistics: take 2"):
        engine.train([Replicate(SPEC, 0)], Images.of(one, "cpu"), "cpu")


def test_numbers_do_not_change_without_a_new_version_of_the_record() -> None:
    """Three steps of one RunSpec, pinned: if these losses move, stored Runs are of another record: raise RECORD."""
    draw = np.random.RandomState(0)  # its stream is frozen for good
    data = Arrays(
        x_train=draw.randint(0, 256, (24, 32, 32, 3)).astype(np.uint8),
        y_train=draw.randint(0, 10, 24).astype(np.uint8),
        x_test=draw.randint(0, 256, (4, 32, 32, 3)).astype(np.uint8),
        y_test=draw.randint(0, 10, 4).astype(np.uint8),
        digest="noise",
        label="noise",
    )
    spec = replace(SPEC, augmentation="flip+crop", schedule="cosine", epochs=2)
    whole = proofs.training(spec, (7,), data)
    whole.epoch(0)

    # other processors' products differ by 1e-12; another epsilon, crop or learning rate by more than 1e-6
    assert whole.losses[:, 0].tolist() == pytest.approx(GOLDEN[RECORD], rel=1e-10)


NUMBERS = [2.1813798046845605, 2.6858680457598174, 2.24910559305096]
GOLDEN = {1: NUMBERS, 2: NUMBERS}  # record 2 describes the same trainings with more fields


def telling(model: nn.Module, data: Arrays) -> np.ndarray:
    """Labels that tell the ways of evaluating apart: two parts in three as one way predicts, the rest as another."""
    x = reference.standardised(data.x_test, data, torch.float64)
    with torch.no_grad():
        running, own = (copy.deepcopy(model).train(mode)(x).argmax(1).numpy() for mode in (False, True))
    return np.where(np.arange(len(x)) % 3 < 2, running, own).astype(np.uint8)


def right(model: nn.Module, x: np.ndarray, y: np.ndarray, *, data: Arrays = proofs.STEP) -> int:
    """How many of these images are classified well, with the model as it is set."""
    with torch.no_grad():
        predicted = model(reference.standardised(x, data, torch.float64)).argmax(1).numpy()
    return int((predicted == y).sum())
