"""BatchNorm with another norm in place of the standard deviation.

Santurkar, Tsipras, Ilyas & Madry 2018, "How Does Batch Normalization Help Optimization?", section 3.3, which states the
idea in a sentence and gives no code: a reconstruction of ours. The paper's section 2.4.1.
"""

import torch
from torch import Tensor

from bnlab.norms.statistics import WithStatistics, several


class LpNorm(WithStatistics):
    """y = gamma * (x - mean) / (mean of |x - mean|^p, plus eps)^(1/p) + beta, per channel of x [n, c, h, w].

    p is 1 or more; for p = "inf" the largest |x - mean| of a channel stands in place of the root. Kept are the running
    mean and, in `running_var`, the running mean of |x - mean|^p, or the running largest one; evaluation uses both.
    Unlike BatchNorm's variance the power is not made unbiased.
    """

    def __init__(self, channels: int, *, p: float | str = 1.0, scale: bool = True, shift: bool = True) -> None:
        if not float(p) >= 1:
            raise ValueError(f"p is {p!r}: expected a number of at least 1, or 'inf'")
        super().__init__(channels, scale=scale, shift=shift)
        self.p = float(p)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w]."""
        largest = self.p == torch.inf
        mean, power = self.running()
        if self.training:
            several(x.numel() // x.shape[1])
            mean = x.mean((0, 2, 3))
            sizes = (x - mean[:, None, None]).abs()
            power = sizes.amax((0, 2, 3)) if largest else sizes.pow(self.p).mean((0, 2, 3))
            self.move(mean, power, self.momentum or 0.0)
        factor = (power + self.eps).pow(-1 if largest else -1 / self.p)
        return self.scale_and_shift(x, mean, factor)
