"""What layers share that have BatchNorm's parameters and running statistics, and a formula of their own."""

import torch
from torch import Tensor

from bnlab.errors import SpecError
from bnlab.norms.batchnorm import BatchNorm


class WithStatistics(BatchNorm):
    """A BatchNorm whose subclass takes other means and variances of x [n, c, h, w], or does more with them."""

    def move(self, mean: Tensor, var: Tensor, share: Tensor | float) -> None:
        """Move the running mean and variance [c] this share of the way to a batch's, and count the batch."""
        with torch.no_grad():
            for running, batch in ((self.running_mean, mean), (self.running_var, var)):
                assert running is not None
                running.add_((batch.detach() - running) * share)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)

    def of_batch(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [c] over n, h and w, which move the running ones as BatchNorm's do."""
        mean, var = moments(x, (0, 2, 3))
        self.move(mean, unbiased(var, x.numel() // x.shape[1]), self.momentum or 0.0)
        return mean, var

    def running(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance [c]."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def normalise(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """(x - mean) / sqrt(var + eps) for mean and variance [c] or [n, c]."""
        return (x - mean[..., None, None]) * torch.rsqrt(var + self.eps)[..., None, None]

    def scale_and_shift(self, x: Tensor) -> Tensor:
        """gamma * x + beta."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def moments(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and biased variance over these axes."""
    var, mean = torch.var_mean(x, axes, correction=0)
    return mean, var


def unbiased(var: Tensor, n: int) -> Tensor:
    """The unbiased variance of n numbers from the biased one; a SpecError for a single number, which has none."""
    if n < 2:
        raise SpecError("a batch has a single number in each channel, which has no variance: show it 2 images or more")
    return var * (n / (n - 1))
