"""The proofs that a fused replica is the solo run, as functions: tests call them, and so do tests of mutants.

Each builds what it needs, raises AssertionError where the engine departs from the reference, and gives the largest
differences it met.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from unittest import mock

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor

from bnlab import engine
from bnlab.data.images import Images
from bnlab.data.sources import Arrays
from bnlab.engine import evaluations, snapshot
from bnlab.engine.eager import EagerProgram, network
from bnlab.engine.optim import moves_dead_taps
from bnlab.engine.program import Program
from bnlab.engine.slots import Mode
from bnlab.engine.training import Training
from bnlab.parts import Norm
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import reference

STEP = reference.arrays(9, 6)
"""Images for one step of eight an epoch."""

SMALL_STEP = reference.arrays(5, 6)
"""Images for one step of four an epoch."""

FEW = reference.arrays(16, 6)
"""Images for two steps of eight, or four of four, an epoch."""


def training(
    spec: RunSpec,
    seeds: Sequence[int],
    data: Arrays,
    *,
    dtype: torch.dtype = torch.float64,
    elide: bool | None = None,
    device: str = "cpu",
    norms: Sequence[Norm] | None = None,
    probes: Sequence[str] = (),
) -> Training:
    """One program of these replicas, on images on the device; with a norm each if `norms` are given."""
    own = norms or [spec.norm] * len(seeds)
    cohort = [Replicate(replace(spec, norm=norm), seed, tuple(probes)) for norm, seed in zip(own, seeds, strict=True)]
    models = [network(member) for member in cohort]
    if spec.engine == "eager":
        return Training(cohort, EagerProgram(models[0], torch.device(device), dtype), Images.of(data, device))
    elide = not moves_dead_taps(spec, models[0]) if elide is None else elide
    program = Program(models, torch.device(device), elide=elide, dtype=dtype)
    return Training(cohort, program, Images.of(data, device))


def assert_initialisation(spec: RunSpec, seeds: Sequence[int]) -> None:
    """Proof 1: every replica unpacks to torchvision under its seed, to the bit, dead taps back in place."""
    whole = training(spec, seeds, STEP, dtype=torch.float32)
    for k, seed in enumerate(seeds):
        assert_same_bits(whole.program.state_dict(k), reference.network(spec.net, spec.norm, seed).state_dict())


def assert_data_order(spec: RunSpec, seeds: Sequence[int], data: Arrays) -> None:
    """Proof 2: every replica is shown its own seed's images in its own seed's order and augmentation."""
    whole = training(spec, seeds, data)
    shown: list[Tensor] = []
    real = Program.__call__

    def watch(program: Program, images: Tensor, mode: Mode) -> Tensor:
        shown.append(images.clone())
        return real(program, images, mode)

    epoch = 3
    with mock.patch.object(Program, "__call__", watch):
        whole.epoch(epoch)
    for k, seed in enumerate(seeds):
        index = reference.order(seed, epoch, len(data.x_train), spec.batch_size)
        assert sorted(set(index.flatten().tolist())) == sorted(index.flatten().tolist()), "an image is shown twice"
        assert np.array_equal(whole.batches[:, k].cpu().numpy(), index), f"seed {seed} has another order"
        pixels = reference.augmented(data.x_train[index], seed, epoch, spec.augmentation)
        for step, images in enumerate(shown):
            expected = reference.standardised(pixels[step], data, torch.float64).permute(0, 2, 3, 1)
            assert_near(images[k].cpu(), expected, 1e-12, f"the images of seed {seed}")


@dataclass(frozen=True, kw_only=True)
class Within:
    """How far one step may be from the reference: loss and gradients relative to their largest value."""

    loss: float = 1e-10
    gradients: float = 1e-9
    parameters: float = 1e-10
    statistics: float = 1e-11


def batches(spec: RunSpec, seed: int, epoch: int) -> list[int]:
    """The images that one replica is shown in an epoch of FEW, in order."""
    whole = training(spec, (seed,), FEW, dtype=torch.float32)
    whole.prepare(epoch)
    return whole.batches.flatten().tolist()


def assert_one_forced_step(
    spec: RunSpec,
    seeds: Sequence[int],
    slot: int,
    *,
    data: Arrays = STEP,
    within: Within | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    norms: Sequence[Norm] | None = None,
) -> Within:
    """Proof 3: from a mid-training state of the reference in `slot`, one step gives what it gives there (float64)."""
    within = within or Within()
    own = replace(spec, engine="fused", norm=norms[slot] if norms else spec.norm)
    case = reference.forced(own, seeds[slot], data)
    whole = training(spec, seeds, data, dtype=dtype, device=device, norms=norms)
    tensors = {f"model.{name}": tensor for name, tensor in case.state.items()} | case.moments
    # a gamma for the whole layer has one axis here and four there
    shapes = {name: tensor.shape for name, tensor in whole.program.state_dict(slot).items()}
    tensors = {
        name: tensor if name.startswith("step.") else tensor.view(shapes[name.partition(".")[2]])
        for name, tensor in tensors.items()
    }
    snapshot.restore(whole, slot, snapshot.pack(tensors, {}))
    whole.epoch(case.epoch)
    parameters = {name: whole.program.parameters[name] for name in whole.program.trained(slot)}
    gradients = {
        name: packed.read(slot, [leaf.grad for leaf in packed.leaves], torch.zeros(()))
        for name, packed in parameters.items()
    }
    assert set(gradients) == set(case.gradients), "other parameters are trained"
    after = whole.program.state_dict(slot)
    assert set(after) == set(case.after), "other tensors are in the state dict"
    statistics = set(after) - set(parameters)
    return Within(
        loss=assert_near(
            whole.losses[0, slot].cpu(),
            torch.tensor(case.loss, dtype=torch.float64),
            within.loss,
            "the loss",
            relative=True,
        ),
        gradients=max(
            assert_near(gradient, case.gradients[name], within.gradients, f"the gradient of {name}", relative=True)
            for name, gradient in gradients.items()
        ),
        parameters=max(assert_near(after[name], case.after[name], within.parameters, name) for name in parameters),
        statistics=max(
            (assert_near(after[name], case.after[name], within.statistics, name) for name in statistics), default=0
        ),
    )


def assert_free_steps(
    spec: RunSpec, seeds: Sequence[int], slot: int, data: Arrays, *, epochs: int, within: float, device: str = "cpu"
) -> dict[str, float]:
    """Proof 4: some epochs from the initialisation, every loss and the final state (float64)."""
    solo = reference.free(spec, seeds[slot], data, epochs)
    whole = training(spec, seeds, data, device=device)
    losses: list[Tensor] = []
    for number in range(epochs):
        whole.epoch(number)
        losses.append(whole.losses[:, slot].cpu().clone())
    after = whole.program.state_dict(slot)
    return {
        "losses": assert_near(torch.cat(losses), torch.tensor(solo.losses, dtype=torch.float64), within, "the losses"),
        "state": max(assert_near(after[name], solo.state[name], within, name) for name in after),
    }


def bits_of_slots(
    spec: RunSpec,
    seeds: Sequence[int],
    data: Arrays,
    *,
    epochs: int = 1,
    poisoned: int | None = None,
    device: str = "cpu",
    norms: Sequence[Norm] | None = None,
) -> dict[int, dict[str, Tensor]]:
    """What one fused program (fp32) makes of every seed: its state dict and the losses of its last epoch."""
    whole = training(spec, seeds, data, dtype=torch.float32, device=device, norms=norms)
    if poisoned is not None:
        k = list(seeds).index(poisoned)
        state = whole.program.state_dict(k)
        state["layer2.0.conv1.weight"][3, 1, 1, 1] = torch.nan
        whole.program.load_state_dict(k, state)
    for number in range(epochs):
        whole.epoch(number)
    return {
        seed: whole.program.state_dict(k) | {"losses": whole.losses[:, k].cpu().clone()} for k, seed in enumerate(seeds)
    }


def assert_neighbours_do_not_matter(spec: RunSpec, seed: int, cohorts: Sequence[Sequence[int]], data: Arrays) -> None:
    """Proofs 5 and 7: this seed's bits are the same in each of these programs, whatever K, slot and neighbours."""
    expected, *others = [bits_of_slots(spec, seeds, data)[seed] for seeds in cohorts]
    for got in others:
        assert_same_bits(got, expected)


def assert_poison_stays(spec: RunSpec, seeds: Sequence[int], poisoned: int, data: Arrays) -> None:
    """Proof 6: a NaN in one replica's weights changes no bit of the others."""
    clean = bits_of_slots(spec, seeds, data)
    ill = bits_of_slots(spec, seeds, data, poisoned=poisoned)
    assert ill[poisoned]["losses"].isnan().all(), "the poison had no effect, so nothing was shown"
    for seed in seeds:
        if seed != poisoned:
            assert_same_bits(ill[seed], clean[seed])


def assert_export(spec: RunSpec, seeds: Sequence[int], data: Arrays, *, epochs: int, device: str = "cpu") -> float:
    """Proof 8: an exported state dict in plain torchvision has the same logits and the same correct count."""
    whole = training(spec, seeds, data, dtype=torch.float32, device=device)
    for number in range(epochs):
        whole.epoch(number)
    images = whole.standardise(whole.images.x_test)
    with torch.no_grad():
        logits = whole.program(images[None].expand(len(seeds), *images.shape), "eval")
    accuracies = evaluations.running(whole)
    differences = []
    for k in range(len(seeds)):
        model = reference.loaded(spec, whole.program.state_dict(k), torch.float32).eval()
        with torch.no_grad():
            expected = model(reference.standardised(data.x_test, data, torch.float32))
        differences.append(assert_near(logits[k].cpu(), expected, 2e-5, "the logits", relative=True))
        correct = int((expected.argmax(1).numpy() == data.y_test).sum())
        assert accuracies[k] == 100 * correct / len(data.y_test), "another number of test images is classified well"
    return max(differences)


def assert_resumed(spec: RunSpec, seeds: Sequence[int], data: Arrays, *, after: int) -> None:
    """Training that is cut after some epochs and resumed gives the curves, readings and weights of training at once."""
    kept: dict[tuple[int, int], bytes] = {}
    images = Images.of(data, "cpu")

    def keep(member: Replicate, epoch: int, held: bytes) -> None:
        kept[member.seed, epoch] = held

    whole = engine.train([Replicate(spec, seed) for seed in seeds], images, "cpu", after_epoch=keep)
    assert sorted(kept) == sorted((s, e) for s in seeds for e in range(1, spec.epochs)), "other snapshots were taken"
    expected = dict(zip(seeds, whole, strict=True))
    for part in (seeds, list(reversed(seeds)), seeds[1:2]):
        held = [kept[seed, after] for seed in part]
        again = engine.train([Replicate(spec, seed) for seed in part], images, "cpu", resume=held)
        for seed, got in zip(part, again, strict=True):
            assert numbers(got) == numbers(expected[seed]), f"seed {seed} resumed in {part} is another Run"


def numbers(trained: engine.Trained) -> tuple[object, ...]:
    """What a Run is made of, without the effort it took."""
    return trained.curves, trained.readings, trained.weights, trained.diverged_at


def weights_in(held: bytes) -> dict[str, Tensor]:
    """The state dict in a snapshot."""
    return {name.removeprefix("model."): tensor for name, tensor in load(held).items() if name.startswith("model.")}


def assert_near(got: Tensor, expected: Tensor, within: float, what: str, *, relative: bool = False) -> float:
    """The largest difference, divided by the largest expected value if `relative`; too large fails.

    A value that is zero but for rounding, such as the gradient of a bias before BatchNorm, is compared as it is.
    """
    got, expected = got.detach().double(), expected.detach().double().view(got.shape)
    difference = float((got - expected).abs().max())
    if relative:
        largest = float(expected.abs().max())
        difference /= largest if largest > 1e-12 else 1.0
    assert difference <= within, f"{what} differs by {difference:.3g}, more than {within:g}"
    return difference


def assert_same_bits(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Two sets of tensors are equal to the bit, in names, order, shapes and types."""
    assert list(got) == list(expected), "other names or another order"
    for name, tensor in expected.items():
        assert (got[name].shape, got[name].dtype) == (tensor.shape, tensor.dtype), f"{name} has another shape or type"
        assert got[name].numpy().tobytes() == tensor.numpy().tobytes(), f"{name} differs"
