"""BatchNorm with statistics of the population in place of the batch's.

Luo, Wang, Shao & Peng 2019, "Towards Understanding Regularization in Batch Normalization", compare BatchNorm with such
a layer plus a decay of gamma; the paper's section 2.4.3. No code of theirs is public: a reconstruction of ours. The
decay of gamma is the RunSpec's: `Penalty(2.0, strength, "*bn?.weight")`.
"""

import torch
from torch import Tensor

from bnlab.norms.statistics import WithStatistics, moments, pooled, several


class PopulationNorm(WithStatistics):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x [n, c, h, w] with the running mean and variance, always.

    The population's statistics are running averages over about 19 batches, to which the present batch adds a share of
    `momentum`; the first batches count equally. With `through_batch` the gradient knows that the normalisation depends
    on the weights, as it does where the population is forwarded: mean and variance pass on the gradient of the batch's
    (Ioffe 2017, "Batch Renormalization", without limits). Without it they are constants, and a weight can grow with the
    loss unchanged (Ioffe & Szegedy 2015, section 2). The running variance is the biased one, so that `momentum` = 1 is
    BatchNorm in training.
    """

    evaluations = ("recalibrated",)

    def __init__(
        self,
        channels: int,
        *,
        momentum: float = 0.1,
        through_batch: bool = True,
        scale: bool = True,
        shift: bool = True,
    ) -> None:
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum is {momentum}: expected the share of the present batch, above 0 and at most 1")
        super().__init__(channels, scale=scale, shift=shift)
        self.momentum, self.through_batch = momentum, through_batch

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w]."""
        if not self.training:
            return self.normalise(x, *self.running())
        several(x.numel() // x.shape[1])
        batch_mean, batch_var = (whole[0] for whole in pooled(*moments(x), 0))
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        share = (1 / (self.num_batches_tracked + 1).to(x.dtype)).clamp(min=self.momentum)
        self.move(batch_mean, batch_var, share)
        mean, var = (running.clone() for running in self.running())
        if not self.through_batch:
            return self.normalise(x, mean, var)
        inverse, batch_inverse = torch.rsqrt(var + self.eps), torch.rsqrt(batch_var + self.eps)
        factor = batch_inverse * (inverse / batch_inverse).detach()
        return self.scale_and_shift(x, batch_mean, factor, ((batch_mean - mean) * inverse).detach())
