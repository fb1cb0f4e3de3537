"""BatchNorm followed by noise whose distribution changes at every step.

Santurkar, Tsipras, Ilyas & Madry 2018, "How Does Batch Normalization Help Optimization?", section 2.2: the noise brings
internal covariate shift back, and the network trains as well. The paper's section 2.4.1.
"""

import torch
from torch import Tensor

from bnlab.norms.batchnorm import BatchNorm


class NoisyBatchNorm(BatchNorm):
    """y = s * BatchNorm(x) + m for x [n, c, h, w]; in evaluation y = BatchNorm(x).

    At every step each channel gets a distribution of its own, shared by all images and pixels (of a convolution the
    authors take height and width for part of the batch): a mean mu ~ U(-mean, mean) and a scale
    sigma ~ U(1, scale_up). Each number then draws m ~ U(mu - spread, mu + spread) and s ~ N(sigma, spread^2), after
    their algorithm 1. The defaults are theirs, strong noise: its mean reaches half a standard deviation of what
    BatchNorm gives. Running statistics are those of BatchNorm's input, which has the noise of the layers before it;
    recalibration takes them under noise as training does. The batch's statistics are no evaluation here, since that
    pass would draw noise for test images.
    """

    evaluations = ("recalibrated",)

    def __init__(
        self,
        channels: int,
        *,
        scale: bool = True,
        shift: bool = True,
        mean: float = 0.5,
        scale_up: float = 1.25,
        spread: float = 0.1,
    ) -> None:
        super().__init__(channels, scale=scale, shift=shift)
        self.mean, self.scale_up, self.spread = mean, scale_up, spread

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:  # type: ignore[override]
        """Normalise x [n, c, h, w], and add the noise while training."""
        y = super().forward(x)
        if not self.training:
            return y
        step = torch.rand(2, x.shape[1], 1, 1, generator=generator, device=x.device, dtype=x.dtype)
        mu, sigma = (2 * step[0] - 1) * self.mean, 1 + step[1] * (self.scale_up - 1)
        m = mu + (2 * torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 1) * self.spread
        s = sigma + torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype) * self.spread
        return s * y + m
