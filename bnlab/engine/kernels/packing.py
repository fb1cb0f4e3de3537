"""Between torchvision's state dict of one network and the stacked leaves of K replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnlab.engine.kernels.taps import ConvGeometry


@dataclass(frozen=True, kw_only=True)
class Packed:
    """One trained parameter of K replicas under its torchvision name.

    `leaves` is one stacked leaf with a leading k, or one leaf a replica; `replicas` are those a stacked leaf has rows
    for, where not all of them train this parameter. `shape` is torchvision's; `geometry` is given
    for kernels, `classes` for the head. `read` and `write` work on the leaves and on anything shaped like them, such as
    an optimizer's moments.
    """

    name: str
    leaves: list[Tensor]
    shape: torch.Size
    geometry: ConvGeometry | None = None
    classes: int | None = None
    replicas: range | None = None

    def rows(self, k: int, like: list[Tensor]) -> Tensor:
        """Replica k's part of tensors shaped like the leaves, as a live view."""
        if not self.shared:
            return like[k]
        return like[0][k if self.replicas is None else self.replicas.index(k)]

    @property
    def shared(self) -> bool:
        """Whether the replicas share one leaf."""
        return len(self.leaves) == 1 and self.leaves[0].shape != self.shape

    def read(self, k: int, like: list[Tensor], dead: Tensor) -> Tensor:
        """Replica k in torchvision's shape, on the CPU; dead taps are taken from `dead`, of that shape or a scalar."""
        rows = self.rows(k, like).detach().cpu()
        if self.geometry is not None:
            full = dead.to(rows.dtype).expand(self.shape).clone()
            taps, channels = self.geometry.taps, self.geometry.c_in // self.geometry.groups
            kernel = rows[:, : taps**2 * channels].view(-1, taps, taps, channels)
            self._live(full).copy_(kernel.permute(0, 3, 1, 2))
            return full
        if self.classes is not None:
            return rows[: self.classes].reshape(self.shape).clone()
        return rows.flatten()[: self.shape.numel()].view(self.shape).clone()

    @torch.no_grad()
    def write(self, k: int, like: list[Tensor], value: Tensor) -> None:
        """Put a tensor of torchvision's shape into replica k; what it holds in dead taps is left out."""
        rows = self.rows(k, like)
        if self.geometry is not None:
            kernel = self._live(value).permute(0, 2, 3, 1).flatten(1)
            rows[:, : kernel.shape[1]].copy_(kernel)
        elif self.classes is not None:
            rows[: self.classes].copy_(value)
        else:
            rows.flatten()[: self.shape.numel()].copy_(value.flatten())

    def _live(self, full: Tensor) -> Tensor:
        assert self.geometry is not None
        return full[:, :, self.geometry.first : self.geometry.last, self.geometry.first : self.geometry.last]


def kernels(weights: list[Tensor], geometry: ConvGeometry, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The live taps of kernels [o, c, h, w], one a replica, as a leaf [k, o, t*c], with zeros up to `row_length`."""
    live = rows([weight.detach() for weight in weights], geometry)
    padding = row_length(live.shape[2], device) - live.shape[2]
    return torch.nn.functional.pad(live, (0, padding)).to(device, dtype).contiguous().requires_grad_()


def row_length(width: int, device: torch.device) -> int:
    """Numbers in a row of patches and weights of this width: on a GPU whole 16 bytes, which its products in TF32 need.

    A ResNet's stem has rows of 7 * 7 * 3 = 147. The zeros meet zeros, so they stay and change no number.
    """
    return width + (-width % 4 if device.type == "cuda" else 0)


def rows(weights: Sequence[Tensor], geometry: ConvGeometry) -> Tensor:
    """Kernels [o, c, h, w], one a replica, as the rows [k, o, t*c] of a product with patches; only live taps.

    The result is contiguous: on a CPU oneDNN multiplies strided rows 15 times slower.
    """
    first, last = geometry.first, geometry.last
    live = [weight[:, :, first:last, first:last].permute(0, 2, 3, 1) for weight in weights]
    return torch.stack(live).reshape(len(weights), geometry.c_out, -1)


def head(weights: list[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Linear weights [classes, c], one a replica, as a leaf [k, classes, c], classes padded to whole registers."""
    rows = torch.stack([weight.detach() for weight in weights]).to(device, dtype)
    return torch.nn.functional.pad(rows, (0, 0, 0, -rows.shape[1] % 16)).requires_grad_()


def padded_rows(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> Tensor:
    """One parameter vector a replica as [k, n], n padded to whole SIMD registers.

    The padding (zeros that receive zero gradients) keeps a replica's numbers away from the scalar tail of vectorised
    loops, whose last bit may differ: the tail would sit elsewhere for another K.
    """
    rows = torch.stack([tensor.detach().flatten() for tensor in tensors]).to(device, dtype)
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % 16))
