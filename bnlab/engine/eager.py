"""The reference as an engine: torchvision's network, one replica, torch's default loop, nothing of ours in the step.

A claim of the suite compares it with the fused engine on the same seeds.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bnlab.data.images import Images
from bnlab.engine.kernels.packing import Packed
from bnlab.engine.slots import CustomSlot, Mode
from bnlab.nets import CLASSES, build, norm_slots
from bnlab.specs import Replicate

FIRST = 500
"""Training images that an initialisation is shown, if it looks at any."""


def network(replicate: Replicate, images: Images | None = None) -> torch.nn.Module:
    """The network of a Replicate in torch's own modules, as it begins.

    It has an output for each class of these images, at which an initialisation may look.
    """
    spec, shown = replicate.spec, None
    if images is not None and spec.init is not None:
        first = images.x_train[:FIRST].float() / 255
        shown = ((first - images.mean) / images.std if spec.standardize else first).permute(0, 3, 1, 2).cpu()
    return build(
        spec.net,
        spec.norm,
        replicate.seed,
        init=spec.init,
        parametrization=spec.parametrization,
        images=shown,
        classes=CLASSES if images is None else images.classes,
    )


class EagerProgram:
    """One network of torch's own modules behind the interface of `Program`, with k = 1."""

    replicas = 1
    captured = False
    side: None = None

    def __init__(self, model: torch.nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.model = model.to(device, dtype)
        self.device, self.dtype = device, dtype
        self.parameters = {
            name: Packed(name=name, leaves=[parameter], shape=parameter.shape)
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        self.slots: dict[str, CustomSlot] = {}
        norms = norm_slots(model)
        for name, module in self.model.named_modules():
            inside = any(name.startswith(f"{outer}.") for outer in self.slots)
            if not inside and (name in norms or any(True for _ in module.buffers(recurse=False))):
                self.slots[name] = CustomSlot([module], device, dtype, name)
                self.slots[name].examine_when_called()

    @property
    def network(self) -> torch.nn.Module:
        """The network as a torch module."""
        return self.model

    def leaves(self) -> list[Tensor]:
        """Every trained parameter."""
        return [leaf for packed in self.parameters.values() for leaf in packed.leaves]

    def __call__(self, images: Tensor, mode: Mode) -> Tensor:
        """Logits [1, b, classes] for standardised images [1, b, 32, 32, 3]."""
        kept = [buffer.clone() for buffer in self.model.buffers()] if mode == "batch" else []
        self.model.train(mode != "eval")
        for slot in self.slots.values() if mode == "calibrate" else ():
            slot.next_calibration_batch()
        logits: Tensor = self.model(images[0].permute(0, 3, 1, 2))
        for buffer, before in zip(self.model.buffers(), kept, strict=False):
            buffer.copy_(before)
        return logits[None]

    def evaluations(self, k: int) -> tuple[str, ...]:
        """Tests that the norms ask for beside the one with running statistics, each once."""
        return tuple(dict.fromkeys(name for slot in self.slots.values() for name in slot.evaluations(k)))

    def seed(self, moments: Sequence[str]) -> None:
        """Say what the random numbers of the coming pass are a function of: a text for the replica."""
        for slot in self.slots.values():
            slot.seed(moments)

    def trained(self, k: int) -> list[str]:
        """Names of the trained parameters."""
        return list(self.parameters)

    def state_dict(self, k: int) -> dict[str, Tensor]:
        """The network's state dict; CPU copies."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def load_state_dict(self, k: int, state: dict[str, Tensor]) -> None:
        """Put a state dict in torchvision's shape back."""
        self.model.load_state_dict(state)
