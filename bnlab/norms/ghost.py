"""BatchNorm over parts of the batch.

Hoffer, Hubara & Soudry 2017, "Train longer, generalize better", algorithm 1. It shows what small batches do to
BatchNorm's statistics while the optimizer sees the whole batch (the paper's section 2.4.12).
"""

import torch
from torch import Tensor

from bnlab.norms.statistics import WithStatistics, moments, unbiased


class GhostBatchNorm(WithStatistics):
    """BatchNorm of x [n, c, h, w] for each part of `size` images by itself, in the order of the batch.

    An n that `size` does not divide makes n // size parts that are as equal as can be, at least one. The running
    statistics move once a batch, to the average of the parts' means and unbiased variances. Evaluation is BatchNorm's.
    The statistics of the test batch are no evaluation here: that pass would take them over parts too.
    """

    evaluations = ("recalibrated",)

    def __init__(self, channels: int, *, size: int = 32, scale: bool = True, shift: bool = True) -> None:
        if size < 1:
            raise ValueError(f"size is {size}: expected the number of images in a part, 1 or more")
        super().__init__(channels, scale=scale, shift=shift)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w]."""
        if not self.training:
            return self.normalise(x, *self.running())
        n, parts = len(x), max(1, len(x) // self.size)
        part = torch.arange(n, device=x.device) * parts // n
        members = (part == torch.arange(parts, device=x.device)[:, None]).to(x.dtype)  # [parts, n]
        sizes = members.sum(1, keepdim=True)
        own_mean, own_var = moments(x)  # [n, c]
        mean = members @ own_mean / sizes
        var = members @ (own_var + (own_mean - mean[part]).square()) / sizes
        self.move(mean.mean(0), unbiased(var.mean(0), n // parts * x[0, 0].numel()), self.momentum or 0.0)
        return self.normalise(x, mean[part], var[part])
