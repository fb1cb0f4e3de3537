"""The step and the epoch of K replicas, and what is counted while evaluating them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bnlab.data.images import Images
from bnlab.engine import randomness
from bnlab.engine.eager import EagerProgram
from bnlab.engine.program import Program
from bnlab.engine.slots import Mode
from bnlab.probes import Probe, probes
from bnlab.specs import Replicate, RunSpec

CHUNK = 500
"""Images per evaluation batch, and per batch when statistics are recalibrated."""

CALIBRATION = 10_000
"""Training images over which running statistics are recalibrated, the first ones in canonical order."""


class Training:
    """K replicas with their optimizer, on images that live on the device.

    `spec` is one of theirs: they may differ in the norm, which is the program's affair. Replicas of one seed see the
    same images in the same order.
    """

    def __init__(self, cohort: Sequence[Replicate], program: Program | EagerProgram, images: Images) -> None:
        self.spec = spec = cohort[0].spec
        self.seeds = [replicate.seed for replicate in cohort]
        self.program, self.images = program, images
        self.steps = len(images.x_train) // spec.batch_size
        # a captured step reads its learning rate from the device, where the host cannot reach in between
        self.rate = torch.tensor(spec.lr, device=program.device) if program.captured else spec.lr
        self.optimizer = _optimizer(spec, program, self.rate)
        self.scale = 1 / (255 * images.std.to(program.dtype))
        self.offset = -images.mean.to(program.dtype) / images.std.to(program.dtype)
        # the epoch's plan and record live on the device and keep their addresses, as a captured step needs
        shape = (self.steps, len(self.seeds))
        on = program.device
        self.batches = torch.zeros(*shape, spec.batch_size, dtype=torch.int64, device=on)
        self.draws = torch.zeros(*shape, spec.batch_size, 3, dtype=torch.int64, device=on)
        self.rates = torch.zeros(self.steps, device=on)
        self.losses = torch.zeros(shape, dtype=program.dtype, device=on)
        self.correct = torch.zeros(shape, dtype=torch.int64, device=on)
        self.at = torch.zeros(1, dtype=torch.int64, device=on)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.number, self.taken = 0, 0
        self.schedule: list[float] = []
        self.probes: list[list[Probe]] = [probes(replicate.probes) for replicate in cohort]

    def standardise(self, images: Tensor) -> Tensor:
        """uint8 images [..., 3] as (x / 255 - mean) / std per channel of the training set."""
        return torch.addcmul(self.offset, images.to(self.program.dtype), self.scale)

    def step(self) -> None:
        """One optimizer step of every replica on the batch that the device's own counter points at."""
        index = self.batches.index_select(0, self.at)[0]
        images = self.images.x_train[index]
        if self.spec.augmentation != "none":
            images = randomness.augment(images, self.draws.index_select(0, self.at)[0])
        labels = self.images.y_train[index]
        logits = self.program(self.standardise(images), "train")
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = each.view(labels.shape).mean(1)
        if isinstance(self.rate, Tensor):
            self.rate.copy_(self.rates.index_select(0, self.at)[0])
        self.optimizer.zero_grad(set_to_none=True)
        # every replica's own mean loss; summed over k, since nothing is shared between replicas
        torch.autograd.backward(losses.sum())
        self.optimizer.step()
        self.losses.index_copy_(0, self.at, losses.detach()[None])
        self.correct.index_copy_(0, self.at, (logits.argmax(2) == labels).sum(1)[None])
        self.at += 1

    def epoch(self, number: int) -> None:
        """Train one epoch; `losses` and `correct` [steps, k] then hold its record."""
        self.prepare(number)
        self.advance(self.steps)

    def prepare(self, number: int) -> None:
        """Put the epoch's batches, augmentation and learning rates on the device, and its counter to the start."""
        spec, count = self.spec, len(self.images.x_train)
        orders = {seed: randomness.order(seed, number, count, spec.batch_size) for seed in set(self.seeds)}
        self.batches.copy_(torch.stack([orders[seed] for seed in self.seeds], dim=1))
        if spec.augmentation != "none":
            shape = (self.steps, spec.batch_size)
            drawn = {seed: randomness.offsets(seed, number, *shape, spec.augmentation) for seed in set(self.seeds)}
            self.draws.copy_(torch.stack([drawn[seed] for seed in self.seeds], dim=1))
        first = number * self.steps
        self.schedule = [learning_rate(spec, first + step, self.steps) for step in range(self.steps)]
        self.rates.copy_(torch.tensor(self.schedule))
        self.at.zero_()
        self.number, self.taken = number, 0

    def advance(self, steps: int) -> None:
        """Take the next steps of the epoch; on a GPU as replays of one graph, with no word from the host between.

        The host waits only for steps that a probe wants: a step's gradients lie where the next one will put its own.
        """
        if self.program.captured and self.graph is None and self._capturable():
            self.graph = self._capture()
        for step in range(self.taken, self.taken + steps):
            self._seed(f"step {self.number * self.steps + step}")
            if self.graph is not None:
                self.graph.replay()
            else:
                self.optimizer.param_groups[0]["lr"] = self.schedule[step]
                self.step()
            self._probe(step)
        self.taken += steps

    def _probe(self, step: int) -> None:
        for k, own in enumerate(self.probes):
            for probe in own:
                if probe.wants(self.number, step, self.steps):
                    probe.read(self.number, step, self.steps, Replica(self, k))

    def _seed(self, moment: str) -> None:
        """Make what norms draw next a function of the seed and of this moment of the training."""
        self.program.seed([f"{seed}/{moment}" for seed in self.seeds])

    def _capturable(self) -> bool:
        """Whether every norm can be captured, which a pass over the first batch shows; the pass moves nothing."""
        assert isinstance(self.program, Program)
        with torch.no_grad():
            self.program(self.standardise(self.images.x_train[self.batches[self.taken]]), "batch")
        return not self.program.uncapturable()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """One whole step as a CUDA graph.

        Warming up and capturing take steps of their own, so everything they touch is put back afterwards.
        """
        held = [self.at, *self._everything()]
        before = [tensor.detach().clone() for tensor in held]
        stream = torch.cuda.Stream(self.program.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.program.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.at.zero_()
                self.step()
        torch.cuda.current_stream(self.program.device).wait_stream(stream)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        for generator in self.program.generators() if isinstance(self.program, Program) else ():
            graph.register_generator_state(generator)
        self.at.zero_()
        # on the stream of the warm-up: a gradient's accumulation keeps to the stream that it was first made on
        with torch.cuda.graph(graph, stream=stream):
            self.step()
        with torch.no_grad():
            for tensor in self._everything():
                if all(tensor is not known for known in held):
                    tensor.zero_()  # optimizer state that did not exist yet
            for tensor, value in zip(held, before, strict=True):
                tensor.copy_(value)
        return graph

    def _everything(self) -> list[Tensor]:
        """Every tensor that a step changes and the next step reads."""
        state = [value for held in self.optimizer.state.values() for value in held.values() if torch.is_tensor(value)]
        moved = [tensor for layer in self.program.slots.values() for tensor in layer.statistics()]
        return [*self.program.leaves(), *state, *moved]

    @torch.no_grad()
    def test_accuracy(self, mode: Mode) -> list[float]:
        """Test accuracy of every replica in percent, in chunks of about CHUNK images."""
        correct = torch.zeros(len(self.seeds), dtype=torch.int64, device=self.program.device)
        for i, (x, y) in enumerate(zip(_chunks(self.images.x_test), _chunks(self.images.y_test), strict=True)):
            self._seed(f"{mode} {i}")
            shared = self.standardise(x)[None].expand(len(self.seeds), *x.shape)
            correct += (self.program(shared, mode).argmax(2) == y).sum(1)
        return [100 * int(count) / len(self.images.y_test) for count in correct.cpu()]

    @torch.no_grad()
    def recalibrate(self) -> None:
        """Take the running statistics anew: the average over batches of training images, weights unchanged."""
        for slot in self.program.slots.values():
            slot.start_calibration()
        for i, x in enumerate(_chunks(self.images.x_train[:CALIBRATION])):
            self._seed(f"calibrate {i}")
            self.program(self.standardise(x)[None].expand(len(self.seeds), *x.shape), "calibrate")


@dataclass(frozen=True)
class Replica:
    """One replica as a probe sees it, whatever trains beside it."""

    training: Training
    k: int

    def weight(self, name: str) -> Tensor:
        """The parameter in torchvision's shape; taps that never meet data are shown as zero."""
        packed = self.training.program.parameters[name]
        return packed.read(self.k, packed.leaves, torch.zeros(()))

    def gradient(self, name: str) -> Tensor:
        """The gradient of the step just taken, in torchvision's shape."""
        packed = self.training.program.parameters[name]
        gradients = [leaf.grad for leaf in packed.leaves if leaf.grad is not None]
        return packed.read(self.k, gradients, torch.zeros(()))


def learning_rate(spec: RunSpec, step: int, steps: int) -> float:
    """The learning rate of one optimizer step, `steps` being those of an epoch."""
    if spec.schedule == "constant":
        return spec.lr
    return spec.lr * 0.5 * (1 + math.cos(math.pi * step / (spec.epochs * steps)))


def _optimizer(spec: RunSpec, program: Program | EagerProgram, rate: Tensor | float) -> torch.optim.Optimizer:
    """torch's own: fused, and elementwise, so that stacked replicas are updated as if alone; its default for eager."""
    fused = True if spec.engine == "fused" else None
    if spec.optimizer == "adam":
        capturable = isinstance(rate, Tensor)
        return torch.optim.Adam(
            program.leaves(), lr=rate, weight_decay=spec.weight_decay, fused=fused, capturable=capturable
        )
    return torch.optim.SGD(
        program.leaves(), lr=rate, momentum=spec.momentum, weight_decay=spec.weight_decay, fused=fused
    )


def _chunks(images: Tensor) -> tuple[Tensor, ...]:
    """Equal parts of at most CHUNK images, give or take one."""
    return torch.tensor_split(images, math.ceil(len(images) / CHUNK))
