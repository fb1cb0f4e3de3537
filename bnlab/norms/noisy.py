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
        mu, sigma = torch.rand(2, x.shape[1], 1, 1, generator=generator, device=x.device, dtype=x.dtype)
        # drawn with channels last, as the engine's maps lie in memory, and in one piece, which torch draws fastest
        m, s = x.new_empty(2, *x.permute(0, 2, 3, 1).shape)
        m.uniform_(-self.spread, self.spread, generator=generator)
        s.normal_(1, self.spread, generator=generator)
        shift, scale = (part.permute(0, 3, 1, 2) for part in (m, s))
        return torch.addcmul(shift + (2 * mu - 1) * self.mean, scale + sigma * (self.scale_up - 1), y)
