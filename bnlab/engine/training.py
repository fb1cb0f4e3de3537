"""The step and the epoch of K replicas."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor

from bnlab.data.images import Images
from bnlab.engine import optim, randomness
from bnlab.engine.eager import EagerProgram
from bnlab.engine.fallbacks import Faster, give_up, out_of_memory, uses
from bnlab.engine.optim import learning_rate
from bnlab.engine.program import Program
from bnlab.engine.side import EarlySteps, Side
from bnlab.engine.view import Replica
from bnlab.probes import Moment, probes
from bnlab.specs import Replicate, RunSpec


class Training:
    """K replicas with their optimizer, on images that live on the device.

    `spec` is one of theirs: they may differ in the norm, which is the program's affair. Replicas of one seed see the
    same images in the same order. An epoch has `steps` steps; the last shows `rest` images, the others a whole batch.
    """

    def __init__(
        self,
        cohort: Sequence[Replicate],
        program: Program | EagerProgram,
        images: Images,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.cohort = list(cohort)
        self.spec = spec = cohort[0].spec
        self.seeds = [replicate.seed for replicate in cohort]
        self.program, self.images = program, images
        self.steps, self.rest = batches(spec, len(images.x_train))
        self.penalised = optim.penalised(spec, program)
        if isinstance(program, Program) and not self.penalised:  # a penalty's gradient is added to the product's
            program.side = side(program)
        self.optimizer = optim.optimizer(spec, program)
        self.early = None if program.side is None else EarlySteps(self.optimizer, program.side)
        std, mean = (images.std, images.mean) if spec.standardize else (torch.ones_like(images.std), 0 * images.mean)
        self.scale = 1 / (255 * std.to(program.dtype))
        self.offset = -mean.to(program.dtype) / std.to(program.dtype)
        # the epoch's batches and record live on the device and keep their addresses, as a captured step needs
        shape = (self.steps, len(self.seeds))
        on = program.device
        self.batches = torch.zeros(*shape, spec.batch_size, dtype=torch.int64, device=on)
        self.draws = torch.zeros(*shape, spec.batch_size, 3, dtype=torch.int64, device=on)
        self.rates = torch.zeros(self.steps, len(self.optimizer.param_groups), device=on)
        self.losses = torch.zeros(shape, dtype=program.dtype, device=on)
        self.correct = torch.zeros(shape, dtype=torch.int64, device=on)
        self.at = torch.zeros(1, dtype=torch.int64, device=on)
        self.say = say
        self.graph: torch.cuda.CUDAGraph | None = None
        self.started = not program.captured
        self.captured_gradients: list[Tensor | None] = []
        self.number, self.taken = 0, 0
        self.schedule: list[list[float]] = []
        self.probes = [probes(replicate.probes) for replicate in cohort]

    @property
    def shown(self) -> int:
        """Images that a replica is shown in an epoch."""
        return (self.steps - 1) * self.spec.batch_size + self.rest

    def standardise(self, images: Tensor) -> Tensor:
        """uint8 images [..., 3] as (x / 255 - mean) / std per channel of the training set; x / 255 if so specified."""
        return torch.addcmul(self.offset, images.to(self.program.dtype), self.scale)

    def batch(self, step: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """What a step of this epoch shows replica k: standardised images [b, h, w, c], labels [b] and indices [b]."""
        at, part = torch.tensor([step], device=self.at.device), (k, slice(self._size(step)))
        return *self._images(at, part), self.batches[step, *part].clone()

    def step(self, size: int | None = None) -> None:
        """One optimizer step of every replica on the batch that the device's own counter points at.

        `size` is given where that batch has fewer images than the others.
        """
        if self.early is not None:
            self.early.begin()
        images, labels = self._images(self.at, (slice(None), slice(size)))
        logits = self.program(images, "train")
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = each.view(labels.shape).mean(1)
        self._set_rates(self.rates.index_select(0, self.at)[0])
        self.optimizer.zero_grad(set_to_none=True)
        # every replica's own mean loss; summed over k, since nothing is shared between replicas
        total = losses.sum()
        if self.penalised:
            total = total + optim.penalty(self.spec, self.penalised)
        torch.autograd.backward(total)
        if self.early is None:
            self.optimizer.step()
        else:
            self.early.finish()
        self.losses.index_copy_(0, self.at, losses.detach()[None])
        self.correct.index_copy_(0, self.at, (logits.argmax(2) == labels).sum(1)[None])
        self.at += 1

    def _size(self, step: int) -> int:
        """Images in the batch of a step."""
        return self.rest if step + 1 == self.steps else self.spec.batch_size

    def _images(self, at: Tensor, part: tuple[int | slice, slice]) -> tuple[Tensor, Tensor]:
        """Standardised, augmented images and labels of part [k, b] of the batch number `at` [1]."""
        index = self.batches.index_select(0, at)[0][part]
        images = self.images.x_train[index]
        if self.spec.augmentation != "none":
            images = randomness.augment(images, self.draws.index_select(0, at)[0][part])
        return self.standardise(images), self.images.y_train[index]

    def _set_rates(self, rates: Tensor) -> None:
        """Give every group that reads its rate from the device the rate of this step."""
        given: list[Tensor] = []
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor) and all(group["lr"] is not one for one in given):
                group["lr"].copy_(rate)
                given.append(group["lr"])

    def epoch(self, number: int) -> None:
        """Train one epoch; `losses` and `correct` [steps, k] then hold its record."""
        self.prepare(number)
        self.advance(self.steps)

    def prepare(self, number: int) -> None:
        """Put the epoch's batches, augmentation and learning rates on the device, and its counter to the start."""
        spec, keep = self.spec, self.spec.last_batch == "keep"
        count, size = len(self.images.x_train), spec.batch_size
        orders = {seed: randomness.order(seed, number, count, size, keep) for seed in set(self.seeds)}
        self.batches.copy_(torch.stack([orders[seed] for seed in self.seeds], dim=1))
        if spec.augmentation != "none":
            shape = (self.steps, size)
            drawn = {seed: randomness.offsets(seed, number, *shape, spec.augmentation) for seed in set(self.seeds)}
            self.draws.copy_(torch.stack([drawn[seed] for seed in self.seeds], dim=1))
        first = number * self.steps
        rates = [learning_rate(spec, first + step, self.steps) for step in range(self.steps)]
        shares = [group["multiplier"] for group in self.optimizer.param_groups]
        self.schedule = [[rate * share for share in shares] for rate in rates]
        self.rates.copy_(torch.tensor(self.schedule))
        self.at.zero_()
        self.number, self.taken = number, 0
        # a replay writes its gradients where it was captured, and a smaller batch has put its own in their place
        for leaf, gradient in zip(self.program.leaves(), self.captured_gradients, strict=False):
            leaf.grad = gradient

    def advance(self, steps: int) -> None:
        """Take the next steps of the epoch; on a GPU as replays of one graph, with no word from the host between.

        The host waits only for steps that a probe wants: a step's gradients lie where the next one will put its own.
        """
        if not self.started:
            self._start()
        for step in range(self.taken, self.taken + steps):
            self.seed(f"step {self.number * self.steps + step}")
            views = self._views(step)
            for view in views:
                view.before()
            self._take(step)
            for view in views:
                view.read()
        self.taken += steps

    def _take(self, step: int) -> None:
        """One step, as a replay where it was captured; a smaller last batch never is."""
        size = self._size(step)
        if self.graph is not None and size == self.spec.batch_size:
            self.graph.replay()
            return
        for group, rate in zip(self.optimizer.param_groups, self.schedule[step], strict=True):
            if not isinstance(group["lr"], Tensor):
                group["lr"] = rate
        self.step(size)

    def _views(self, step: int) -> list[Replica]:
        """The replicas of which a probe wants this step."""
        moment = Moment(epoch=self.number, step=step, epochs=self.spec.epochs, steps=self.steps)
        wanting = [[probe for probe in own.values() if probe.wants(moment)] for own in self.probes]
        return [Replica(self, k, moment, own) for k, own in enumerate(wanting) if own]

    def seed(self, moment: str) -> None:
        """Make what norms draw in the next pass a function of the seed and of this moment of the training."""
        self.program.seed([f"{seed}/{moment}" for seed in self.seeds])

    def _start(self) -> None:
        """Warm a GPU up and capture a step; where a kernel or the capture fails, say so and take the slower way."""
        stream = torch.cuda.Stream(self.program.device)  # type: ignore[no-untyped-call]
        capturing: list[Faster] = ["capture"] if self.early is None else ["side", "capture"]
        ways: list[tuple[Callable[[torch.cuda.Stream], None], list[Faster]]]
        ways = [(self._warm_up, ["triton"]), (self._capture, capturing)]
        for (work, faster), what in zip(ways, ("compiling kernels", "capturing a step"), strict=True):
            self.say(what)
            left = [one for one in faster if uses(one)]
            while (error := self._attempt(work, stream)) is not None:
                if out_of_memory(error) or not left:
                    raise error
                self.say(give_up(left.pop(0), error))
        self.say("training")
        self.started = True

    def _attempt(self, work: Callable[[torch.cuda.Stream], None], stream: torch.cuda.Stream) -> Exception | None:
        """Do what takes steps of its own on this stream, and put back all that they touched; what failed, or None."""
        known = [self.at, *self._everything()]
        before = [tensor.detach().clone() for tensor in known]
        buffers = ExitStack()
        for slot in self.program.slots.values():
            buffers.enter_context(slot.buffers_kept())
        outside, failed = torch.cuda.current_stream(self.program.device), None
        stream.wait_stream(outside)
        try:
            work(stream)
        except Exception as error:
            failed = error
        torch.cuda.set_stream(outside)  # a capture that failed leaves its own behind
        outside.wait_stream(stream)
        try:
            buffers.close()
            self._put_back(known, before)
        except Exception as error:
            raise error from failed
        return failed

    @torch.no_grad()
    def _put_back(self, known: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        for tensor in self._everything():
            if all(tensor is not other for other in known):
                tensor.zero_()  # optimizer state that did not exist yet
        for tensor, value in zip(known, before, strict=True):
            tensor.copy_(value)

    def _warm_up(self, stream: torch.cuda.Stream) -> None:
        """A pass that tells whether the norms can be captured, and steps that compile kernels and set libraries up."""
        with torch.cuda.stream(stream):
            with torch.no_grad():
                self.program(self._images(self.at, (slice(None), slice(None)))[0], "batch")
            for _ in range(3):
                self.at.zero_()
                self.step()
            self.optimizer.zero_grad(set_to_none=True)

    def _capture(self, stream: torch.cuda.Stream) -> None:
        """One whole step as a CUDA graph, where that is wanted and the norms allow it."""
        if not uses("capture") or not isinstance(self.program, Program) or self.program.uncapturable():
            return
        graph = torch.cuda.CUDAGraph()
        for slot in self.program.slots.values():
            for generator in slot.generators():
                graph.register_generator_state(generator)
        self.at.zero_()
        # on the stream of the warm-up: a gradient's accumulation keeps to the stream that it was first made on
        with torch.cuda.graph(graph, stream=stream):
            self.step()
        self.graph = graph
        self.captured_gradients = [leaf.grad for leaf in self.program.leaves()]

    def _everything(self) -> list[Tensor]:
        """Every tensor that a step changes and the next step reads."""
        state = [value for kept in self.optimizer.state.values() for value in kept.values() if torch.is_tensor(value)]
        moved = [tensor for layer in self.program.slots.values() for tensor in layer.statistics()]
        return [*self.program.leaves(), *state, *moved]


def side(program: Program) -> Side | None:
    """Where a step of this program does what can wait: on a GPU."""
    return Side(program.device) if program.captured and uses("side") else None


def batches(spec: RunSpec, images: int) -> tuple[int, int]:
    """Steps of an epoch, and how many images the last of them shows."""
    steps, over = divmod(images, spec.batch_size)
    return (steps + 1, over) if over and spec.last_batch == "keep" else (steps, spec.batch_size)
