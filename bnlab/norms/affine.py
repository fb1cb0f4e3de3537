"""AffineLayer: the shift and scale of BatchNorm without its normalisation (paper section 3.2)."""

import torch
from torch import Tensor, nn


class AffineLayer(nn.Module):
    """y = gamma * x + beta for x [n, c, h, w], gamma and beta of shape [channels], 1 and 0 at initialisation.

    `per="layer"` keeps one gamma and one beta for all channels. Without buffers, training and evaluation are equal.
    """

    slot = "bnlab.engine.slots.batchnorm:fused"

    def __init__(self, channels: int, *, scale: bool = True, shift: bool = True, per: str = "channel") -> None:
        super().__init__()
        if per not in ("channel", "layer"):
            raise ValueError(f"per is {per!r}: expected 'channel' or 'layer'")
        if not (scale or shift):
            raise ValueError("neither scale nor shift is trained: use bnlab.norms.none:Identity")
        n = channels if per == "channel" else 1
        self.weight = nn.Parameter(torch.ones(n), requires_grad=scale)
        self.bias = nn.Parameter(torch.zeros(n), requires_grad=shift)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift x [n, c, h, w] per channel."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]
