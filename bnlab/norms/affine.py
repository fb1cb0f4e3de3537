"""AffineLayer: the shift and scale of BatchNorm without its normalisation (paper section 3.2)."""

import torch
from torch import Tensor, nn


class AffineLayer(nn.Module):
    """y = gamma * x + beta for x [n, c, h, w], gamma and beta of shape [channels], 1 and 0 at initialisation.

    One channel gives one gamma and one beta for the whole layer. Without buffers, training and evaluation are equal.
    """

    def __init__(self, channels: int, *, scale: bool = True, shift: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=scale)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=shift)

    def forward(self, x: Tensor) -> Tensor:
        """Scale and shift x [n, c, h, w] per channel."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]
