"""What a probe sees of one replica of a program."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bnlab.engine.eager import network
from bnlab.engine.kernels.packing import Packed
from bnlab.errors import SpecError
from bnlab.nets import norm_slots
from bnlab.norms import use_generator
from bnlab.probes import Batch, Moment, Probe

if TYPE_CHECKING:
    from bnlab.engine.training import Training


class Replica:
    """Replica k of a training at one step: `bnlab.probes.View`.

    Extra passes run on a network of its own, so that parameters, gradients and buffers of the Run stay as they are.
    """

    def __init__(self, training: "Training", k: int, moment: Moment, probes: Sequence[Probe]) -> None:
        self.training, self.k, self.moment, self.probes = training, k, moment, probes

    def before(self) -> None:
        """Let the probes look before the step."""
        with _random_state_kept(self.training.program.device):
            for probe in self.probes:
                probe.before(self.moment, self)

    def read(self) -> None:
        """Let the probes look after the step."""
        with _random_state_kept(self.training.program.device):
            for probe in self.probes:
                probe.read(self.moment, self)

    @property
    def layers(self) -> list[str]:
        """Convolutions and linear layers outside the norms."""
        return _layers(self.training.program.network)

    @property
    def batch(self) -> Batch:
        """Standardised images [b, 3, 32, 32], labels [b] and indices [b]."""
        images, labels, indices = self.training.batch(self.moment.step, self.k)
        return Batch(images=images.permute(0, 3, 1, 2), labels=labels, indices=indices)

    @property
    def loss(self) -> float:
        """Mean cross-entropy of the batch."""
        return float(self.training.losses[self.moment.step, self.k])

    def weight(self, name: str) -> Tensor:
        """The parameter in torch's shape; taps that never meet data are shown as zero."""
        packed = self._parameter(name)
        return packed.read(self.k, packed.leaves, torch.zeros(()))

    def gradient(self, name: str) -> Tensor:
        """The gradient of the step just taken, in torch's shape."""
        packed = self._parameter(name)
        gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in packed.leaves]
        return packed.read(self.k, gradients, torch.zeros(()))

    def network(self) -> nn.Module:
        """The network built anew, with this replica's weights and statistics."""
        program = self.training.program
        copy = network(self.training.cohort[self.k], self.training.images).to(program.device, program.dtype).train()
        copy.load_state_dict(program.state_dict(self.k))
        # layers that draw begin with the numbers that they draw in this step
        for name, slot in program.slots.items():
            if generators := slot.generators():
                own = torch.Generator(program.device).manual_seed(generators[self.k].initial_seed())
                use_generator(copy.get_submodule(name), own)
        return copy

    @torch.no_grad()
    def logits(self, mode: str, images: Tensor) -> Tensor:
        """Logits with batch statistics (`train`) or running ones (`eval`)."""
        logits: Tensor = self.network().train(mode == "train")(images)
        return logits

    @torch.no_grad()
    def activations(self, names: Sequence[str]) -> dict[str, Tensor]:
        """What these modules give for the batch."""
        copy, seen = self.network(), dict[str, Tensor]()

        def note(name: str, module: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
            if name not in seen:
                seen[name] = gave.clone()  # the next module may change it in place

        for name in names:
            _module(copy, name).register_forward_hook(partial(note, name))
        copy(self.batch.images)
        return seen

    @torch.no_grad()
    def inputs(self, names: Sequence[str]) -> dict[str, Tensor]:
        """What these modules are given for the batch."""
        copy, seen = self.network(), dict[str, Tensor]()

        def note(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
            if name not in seen:
                seen[name] = given[0].clone()

        for name in names:
            _module(copy, name).register_forward_pre_hook(partial(note, name))
        copy(self.batch.images)
        return seen

    def _parameter(self, name: str) -> Packed:
        parameters = self.training.program.parameters
        if name not in self.training.program.trained(self.k):
            raise SpecError(f"a probe asks for the parameter {name!r}: expected one of {', '.join(parameters)}")
        return parameters[name]


def _module(whole: nn.Module, name: str) -> nn.Module:
    try:
        return whole.get_submodule(name)
    except AttributeError:
        names = ", ".join(path for path, _ in whole.named_modules() if path)
        raise SpecError(f"a probe asks for the module {name!r}: expected one of {names}") from None


def _layers(whole: nn.Module) -> list[str]:
    norms = tuple(f"{name}." for name in norm_slots(whole))
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    return [name for name, module in whole.named_modules() if isinstance(module, kinds) and not name.startswith(norms)]


@contextmanager
def _random_state_kept(device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
