"""Unitized BatchNorm (UBN): BatchNorm, then a share of division by the length of each image.

Huang & Yu 2020, "An Internal Covariate Shift Bounding Algorithm for Deep Neural Networks by Unitizing Layers' Outputs";
the paper's section 2.4.2. A reconstruction of ours from the formula.
"""

import torch
from torch import Tensor, nn

from bnlab.norms.statistics import WithStatistics, moments


class UnitizedBatchNorm(WithStatistics):
    """y = gamma * (alpha / s + 1 - alpha) * z + beta for x [n, c, h, w], where z = (x - mean) / sqrt(var + eps).

    s = sqrt(sum over c of the mean over h and w of z^2, plus eps) is the length of the image's own z, in evaluation
    too. Mean and variance are BatchNorm's, of the batch or running. gamma, beta and alpha have the shape [c] and are
    trained; alpha starts at the option, and at 0 this is BatchNorm. At alpha = 1 and gamma = 1 each image has a length
    of 1. The authors' Keras code divides the squared length by h * w once more, so that it depends on the map's size.
    """

    def __init__(self, channels: int, *, alpha: float = 0.0, scale: bool = True, shift: bool = True) -> None:
        super().__init__(channels, scale=scale, shift=shift)
        self.alpha = nn.Parameter(torch.full((channels,), float(alpha)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w] and unitize a share of it."""
        own_mean, own_var = moments(x)  # [n, c]
        mean, var = self.over_batch(own_mean, own_var, x[0, 0].numel())
        factor = torch.rsqrt(var + self.eps)
        squares = (own_var + (own_mean - mean).square()) * factor.square()  # mean of z^2 over each map
        length = torch.sqrt(squares.sum(1, keepdim=True) + self.eps)
        factor = factor * (self.alpha / length + 1 - self.alpha)
        return self.scale_and_shift(x, mean, factor)

    def learned(self) -> dict[str, float]:
        """Mean size of alpha over the channels."""
        return {"alpha": float(self.alpha.detach().abs().mean())}
