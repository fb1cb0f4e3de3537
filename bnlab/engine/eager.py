"""The reference as an engine: torchvision's network, one replica, torch's default loop, nothing of ours in the step.

A claim of the suite compares it with the fused engine on the same seeds.
"""

import torch
from torch import Tensor
from torchvision.models import ResNet

from bnlab.engine.kernels.packing import Packed
from bnlab.engine.slots import CustomSlot, Mode, Slot


class EagerProgram:
    """One torchvision network behind the interface of `Program`, with k = 1."""

    replicas = 1
    captured = False

    def __init__(self, model: ResNet, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.model = model.to(device, dtype)
        self.device, self.dtype = device, dtype
        self.parameters = {
            name: Packed(name=name, leaves=[parameter], shape=parameter.shape)
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }
        self.slots: dict[str, Slot] = {
            name: CustomSlot([module], device, dtype)
            for name, module in self.model.named_modules()
            if any(True for _ in module.buffers(recurse=False)) or _frozen(module)
        }

    def leaves(self) -> list[Tensor]:
        """Every trained parameter."""
        return [leaf for packed in self.parameters.values() for leaf in packed.leaves]

    def __call__(self, images: Tensor, mode: Mode) -> Tensor:
        """Logits [1, b, classes] for standardised images [1, b, 32, 32, 3]."""
        kept = [buffer.clone() for buffer in self.model.buffers()] if mode == "batch" else []
        self.model.train(mode != "eval")
        logits: Tensor = self.model(images[0].permute(0, 3, 1, 2))
        for buffer, before in zip(self.model.buffers(), kept, strict=False):
            buffer.copy_(before)
        return logits[None]

    def has_running_statistics(self, k: int) -> bool:
        """Whether any norm keeps running statistics."""
        return any(slot.running(k) for slot in self.slots.values())

    def trained(self, k: int) -> list[str]:
        """Names of the trained parameters."""
        return list(self.parameters)

    def state_dict(self, k: int) -> dict[str, Tensor]:
        """The network's state dict; CPU copies."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}

    def load_state_dict(self, k: int, state: dict[str, Tensor]) -> None:
        """Put a state dict in torchvision's shape back."""
        self.model.load_state_dict(state)


def _frozen(module: torch.nn.Module) -> bool:
    return any(not parameter.requires_grad for parameter in module.parameters(recurse=False))
