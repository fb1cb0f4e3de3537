"""The norm slots of K replicas: each holds the parameters and statistics of one layer for every replica.

A slot maps x [k, b, h, w, c] to the same shape in one of four modes: `train` (batch statistics, running ones move),
`eval` (running statistics), `batch` (batch statistics, nothing moves) and `calibrate` (batch statistics, which become
the running ones by cumulative average).
"""

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from bnlab.engine.ops import batch_norm
from bnlab.norms import AffineLayer, BatchNorm

Mode = Literal["train", "eval", "batch", "calibrate"]
State = dict[str, Tensor]


class Slot(Protocol):
    """One norm layer of K replicas."""

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Apply the layer of replica k to x[k] [b, h, w, c]."""

    def parameters(self) -> dict[str, list[Tensor]]:
        """Trained leaves by the layer's own parameter name: one stacked leaf, or one leaf a replica."""

    def buffers(self, k: int) -> State:
        """What replica k's layer holds beside its trained parameters, under torchvision's names; live views."""

    def statistics(self) -> list[Tensor]:
        """The tensors that a training step moves beside the parameters, for all replicas."""

    def start_calibration(self) -> None:
        """Forget the running statistics and average the coming batches with equal weights."""

    def running(self) -> bool:
        """Whether the layer keeps running statistics."""


def slot(layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> Slot:
    """The fused slot for the same layer of every replica; a layer of somebody's own runs replica by replica."""
    first = layers[0]
    if isinstance(first, nn.Identity):
        return IdentitySlot()
    if isinstance(first, BatchNorm):
        return BatchNormSlot([layer for layer in layers if isinstance(layer, BatchNorm)], device, dtype)
    if isinstance(first, AffineLayer):
        return AffineSlot([layer for layer in layers if isinstance(layer, AffineLayer)], device, dtype)
    return OwnSlot(layers, device, dtype)


def stacked(tensors: list[Tensor], device: torch.device, dtype: torch.dtype, *, trained: bool) -> Tensor:
    """A leaf [k, n] of one parameter vector a replica, n padded to whole SIMD registers.

    The padding (zeros that receive zero gradients) keeps a replica's numbers away from the scalar tail of vectorised
    loops, whose last bit may differ: the tail would sit elsewhere for another K.
    """
    rows = torch.stack([tensor.detach().flatten() for tensor in tensors]).to(device, dtype)
    short = -rows.shape[1] % 16
    return torch.nn.functional.pad(rows, (0, short)).requires_grad_(trained)


class IdentitySlot:
    """No normalisation."""

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Give x back."""
        return x

    def parameters(self) -> dict[str, list[Tensor]]:
        """None."""
        return {}

    def buffers(self, k: int) -> State:
        """None."""
        return {}

    def statistics(self) -> list[Tensor]:
        """None."""
        return []

    def start_calibration(self) -> None:
        """Nothing to calibrate."""

    def running(self) -> bool:
        """No statistics."""
        return False


class AffineSlot(IdentitySlot):
    """y = gamma * x + beta with gamma and beta of each replica, per channel or one for the layer."""

    def __init__(self, layers: list[AffineLayer], device: torch.device, dtype: torch.dtype) -> None:
        self.n = layers[0].weight.numel()
        self.leaves = _affine(layers, device, dtype)

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Scale and shift x [k, b, h, w, c] per replica and channel."""
        scale, shift = (leaf[:, None, None, None, : self.n] for leaf in self.leaves.values())
        return torch.addcmul(shift, x, scale)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Gamma and beta where they are trained."""
        return {name: [leaf] for name, leaf in self.leaves.items() if leaf.requires_grad}

    def buffers(self, k: int) -> State:
        """Gamma and beta where they are frozen."""
        return {name: leaf[k, : self.n] for name, leaf in self.leaves.items() if not leaf.requires_grad}


class BatchNormSlot(IdentitySlot):
    """BatchNorm of each replica over its own batch, with any of gamma and beta frozen."""

    def __init__(self, layers: list[BatchNorm], device: torch.device, dtype: torch.dtype) -> None:
        first = layers[0]
        assert first.momentum is not None, "torch's BatchNorm2d sets a momentum unless it is told otherwise"
        self.eps, self.momentum = first.eps, first.momentum
        self.leaves = _affine(layers, device, dtype)
        self.mean = torch.stack([layer.running_mean for layer in layers if layer.running_mean is not None])
        self.var = torch.stack([layer.running_var for layer in layers if layer.running_var is not None])
        self.mean, self.var = self.mean.to(device, dtype), self.var.to(device, dtype)
        counts = [layer.num_batches_tracked for layer in layers if layer.num_batches_tracked is not None]
        self.batches = torch.stack(counts).to(device)
        self.calibrated = 0

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Normalise x [k, b, h, w, c] over b, h and w of each replica."""
        scale, shift = self.leaves["weight"], self.leaves["bias"]
        if mode == "eval":
            factor = scale * torch.rsqrt(self.var + self.eps)
            rest = shift - self.mean * factor
            return torch.addcmul(rest[:, None, None, None], x, factor[:, None, None, None])
        weight = 0.0
        if mode == "train":
            weight = self.momentum
            self.batches += 1
        elif mode == "calibrate":
            self.calibrated += 1
            weight = 1 / self.calibrated
        running = (self.mean, self.var) if weight else None
        return batch_norm(x.flatten(1, 3), scale, shift, self.eps, running, weight).view_as(x)

    def parameters(self) -> dict[str, list[Tensor]]:
        """Gamma and beta where they are trained."""
        return {name: [leaf] for name, leaf in self.leaves.items() if leaf.requires_grad}

    def buffers(self, k: int) -> State:
        """Running mean and variance, the batch count, and gamma and beta where they are frozen."""
        frozen = {name: leaf[k] for name, leaf in self.leaves.items() if not leaf.requires_grad}
        moving = {"running_mean": self.mean[k], "running_var": self.var[k], "num_batches_tracked": self.batches[k]}
        return frozen | moving

    def statistics(self) -> list[Tensor]:
        """Running mean and variance [k, c] and the batch counts [k]."""
        return [self.mean, self.var, self.batches]

    def start_calibration(self) -> None:
        """Forget the running statistics."""
        self.calibrated = 0

    def running(self) -> bool:
        """BatchNorm keeps running statistics."""
        return True


class OwnSlot(IdentitySlot):
    """Somebody's own torch module, one copy a replica, called replica by replica on [b, c, h, w].

    Slower than a fused layer, and right for whatever the module does, since every replica is alone in its copy.
    """

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
        self.layers = [layer.to(device, dtype) for layer in layers]

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """Call each replica's module on its own x[k]."""
        outs = []
        for k, layer in enumerate(self.layers):
            kept = [buffer.clone() for buffer in layer.buffers()] if mode == "batch" else []
            # x[k] and not a loop over x, whose parts no module may change in place
            outs.append(layer.train(mode != "eval")(x[k].permute(0, 3, 1, 2)))
            for buffer, before in zip(layer.buffers(), kept, strict=False):
                buffer.copy_(before)
        return torch.stack(outs).permute(0, 1, 3, 4, 2)

    def parameters(self) -> dict[str, list[Tensor]]:
        """The module's trained parameters, one leaf a replica."""
        names = [name for name, parameter in self.layers[0].named_parameters() if parameter.requires_grad]
        return {name: [layer.get_parameter(name) for layer in self.layers] for name in names}

    def buffers(self, k: int) -> State:
        """The rest of the module's state dict."""
        trained = self.parameters()
        return {name: tensor for name, tensor in self.layers[k].state_dict().items() if name not in trained}

    def statistics(self) -> list[Tensor]:
        """The modules' buffers."""
        return [buffer for layer in self.layers for buffer in layer.buffers()]

    def start_calibration(self) -> None:
        """Forget running statistics where the module keeps torch's kind."""
        for layer in self.layers:
            for module in layer.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
                    module.momentum = None

    def running(self) -> bool:
        """Whether any part of the module keeps torch's kind of running statistics."""
        return any(name.endswith("running_mean") for name, _ in self.layers[0].named_buffers())


def _affine(layers: list[BatchNorm] | list[AffineLayer], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Gamma and beta of every replica as leaves [k, c]."""
    return {
        name: stacked(
            [layer.get_parameter(name) for layer in layers],
            device,
            dtype,
            trained=layers[0].get_parameter(name).requires_grad,
        )
        for name in ("weight", "bias")
    }
