"""Mean-only BatchNorm: what stands beside weight normalisation.

Salimans & Kingma 2016, "Weight Normalization", section 4; the paper's section 2.4.4.
"""

import torch
from torch import Tensor, nn


class MeanOnlyBatchNorm(nn.Module):
    """y = x - mean + beta, per channel of x [n, c, h, w]; nothing is divided, so the variance stays what it is.

    Training subtracts the batch's mean and moves the running one by `momentum`; evaluation subtracts the running one.
    beta has shape [c] and starts at 0; `shift=False` keeps it there. The gradient of x has mean 0 over the batch in
    each channel. The scale of BatchNorm is the length g of the weight, where the convolution is weight-normalised.
    """

    evaluations = ("recalibrated", "batch")
    running_mean: Tensor

    def __init__(self, channels: int, *, shift: bool = True, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=shift)
        self.register_buffer("running_mean", torch.zeros(channels))

    def reset_running_stats(self) -> None:
        """Forget the running mean."""
        self.running_mean.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """Centre x [n, c, h, w] in every channel, then shift it."""
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running_mean.add_((mean.detach() - self.running_mean) * self.momentum)
        return x + (self.bias - mean)[:, None, None]
