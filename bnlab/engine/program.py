"""The network of K replicas as one program: torchvision's ResNet, read off its modules, with a leading k everywhere."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import ResNet

from bnlab.engine.kernels.batched import conv, max_pool
from bnlab.engine.kernels.packing import Packed, head, kernels, stacked
from bnlab.engine.kernels.taps import plan
from bnlab.engine.slots import Mode, Slot, slot


class _Unit:
    """A convolution and the norm behind it, in every replica."""

    def __init__(self, program: "Program", conv_name: str, norm_name: str, size: int) -> None:
        convs = cast(list[nn.Conv2d], [model.get_submodule(conv_name) for model in program.models])
        self.plan = plan(convs[0], size, elide=program.elide)
        self.weight = kernels([conv.weight for conv in convs], self.plan, program.device, program.dtype)
        self.compute = program.compute
        program.add(f"{conv_name}.weight", [self.weight], plan=self.plan)
        biases = [conv.bias for conv in convs if conv.bias is not None]
        self.bias = None
        if biases:
            self.bias = stacked(list(biases), program.device, program.dtype).requires_grad_()
            program.add(f"{conv_name}.bias", [self.bias])
        layers = [model.get_submodule(norm_name) for model in program.models]
        self.slot: Slot = slot(layers, program.device, program.dtype)
        program.slots[norm_name] = self.slot
        for name, leaves in self.slot.parameters().items():
            rows = self.slot.rows(name)
            program.add(f"{norm_name}.{name}", leaves, replicas=rows if len(leaves) == 1 and rows else None)

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = True) -> Tensor:
        y = conv(x.to(self.compute), self.weight.to(self.compute), self.plan).to(self.weight.dtype)
        if self.bias is not None:
            y = y + self.bias[:, None, None, None]
        return self.slot(y, mode, residual, relu=relu)


class _Block:
    """A residual block, basic or bottleneck (paper figure 2)."""

    def __init__(self, program: "Program", name: str, size: int) -> None:
        block = program.models[0].get_submodule(name)
        self.units: list[_Unit] = []
        at = size
        for i in range(1, 4 if hasattr(block, "conv3") else 3):
            self.units.append(_Unit(program, f"{name}.conv{i}", f"{name}.bn{i}", at))
            at = self.units[-1].plan.size_out
        self.size_out = at
        self.shortcut = None
        if block.downsample is not None:
            self.shortcut = _Unit(program, f"{name}.downsample.0", f"{name}.downsample.1", size)

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        y = x
        for unit in self.units[:-1]:
            y = unit(y, mode)
        return self.units[-1](y, mode, x if self.shortcut is None else self.shortcut(x, mode, relu=False))


class Program:
    """K networks, alike but for their norms, with weights, statistics and activations stacked along a leading k.

    Built from torchvision models, one a replica; those that train a norm's scale stand together, and those that train
    its shift. `elide` leaves taps that never meet data out of compute and optimizer; `compute` is the dtype of the
    convolutions, `dtype` that of everything else.
    """

    def __init__(
        self,
        models: Sequence[ResNet],
        device: torch.device,
        *,
        size: int = 32,
        elide: bool = True,
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
    ) -> None:
        self.models: list[ResNet] = list(models)
        self.device, self.dtype, self.elide = device, dtype, elide
        self.compute = compute or dtype
        self.captured = device.type == "cuda"
        self.parameters: dict[str, Packed] = {}
        self.slots: dict[str, Slot] = {}
        first = self.models[0]
        self.orders = [list(model.state_dict()) for model in self.models]
        self.initial = [{name: p.detach().clone() for name, p in model.named_parameters()} for model in self.models]
        self.stem = _Unit(self, "conv1", "bn1", size)
        at = (self.stem.plan.size_out - 1) // 2 + 1
        self.blocks: list[_Block] = []
        for stage in range(1, 5):
            for i in range(len(first.get_submodule(f"layer{stage}")._modules)):
                self.blocks.append(_Block(self, f"layer{stage}.{i}", at))
                at = self.blocks[-1].size_out
        self.counters = [counter for layer in self.slots.values() for counter in layer.counters()]
        self.classes = first.fc.out_features
        self.head_weight = head([model.fc.weight for model in self.models], device, dtype)
        self.head_bias = stacked([model.fc.bias for model in self.models], device, dtype).requires_grad_()
        self.add("fc.weight", [self.head_weight], classes=self.classes)
        self.add("fc.bias", [self.head_bias])
        if not elide or all(packed.plan is None or packed.plan.taps == packed.plan.kernel for packed in self.packed):
            self.initial = []

    @property
    def replicas(self) -> int:
        """How many networks there are."""
        return len(self.models)

    @property
    def packed(self) -> list[Packed]:
        """The trained parameters."""
        return list(self.parameters.values())

    def add(self, name: str, leaves: list[Tensor], **how: object) -> None:
        """Register a trained parameter under its torchvision name."""
        shape = next(held[name].shape for held in self.initial if name in held)
        self.parameters[name] = Packed(name=name, leaves=leaves, shape=shape, **how)  # type: ignore[arg-type]

    def leaves(self) -> list[Tensor]:
        """Every trained leaf, in a fixed order."""
        return [leaf for packed in self.packed for leaf in packed.leaves]

    def __call__(self, images: Tensor, mode: Mode) -> Tensor:
        """Logits [k, b, classes] for standardised images [k, b, 32, 32, 3]."""
        if mode == "train" and self.counters:
            torch._foreach_add_(self.counters, 1)
        x = max_pool(self.stem(images, mode))
        for block in self.blocks:
            x = block(x, mode)
        features = x.mean((2, 3))
        return torch.baddbmm(self.head_bias[:, None], features, self.head_weight.transpose(1, 2))[:, :, : self.classes]

    def has_running_statistics(self, k: int) -> bool:
        """Whether any norm of replica k keeps running statistics."""
        return any(layer.running(k) for layer in self.slots.values())

    def trained(self, k: int) -> list[str]:
        """Names of the parameters that replica k trains."""
        return [name for name, packed in self.parameters.items() if packed.replicas is None or k in packed.replicas]

    def state_dict(self, k: int) -> dict[str, Tensor]:
        """Replica k's state dict as torchvision has it: full kernels, its own names and order; CPU copies."""
        state = {
            name: self.parameters[name].read(
                k, self.parameters[name].leaves, self.initial[k][name] if self.initial else torch.zeros(())
            )
            for name in self.trained(k)
        }
        for norm_name, layer in self.slots.items():
            state |= {f"{norm_name}.{name}": t.detach().cpu().clone() for name, t in layer.buffers(k).items()}
        return {name: state[name] for name in self.orders[k]}

    @torch.no_grad()
    def load_state_dict(self, k: int, state: dict[str, Tensor]) -> None:
        """Put a state dict in torchvision's shape into replica k; dead taps keep what `state` holds."""
        for name in self.trained(k):
            self.parameters[name].write(k, self.parameters[name].leaves, state[name])
        for norm_name, layer in self.slots.items():
            for name, buffer in layer.buffers(k).items():
                buffer.copy_(state[f"{norm_name}.{name}"])
        if self.initial:
            self.initial[k] = {name: state[name].clone() for name in self.trained(k)}
