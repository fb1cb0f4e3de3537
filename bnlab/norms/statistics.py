"""What layers share that have BatchNorm's parameters and running statistics, and a formula of their own."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

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

    def over_batch(self, own_mean: Tensor, own_var: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
        """BatchNorm's mean and variance [1, c] from those of each map [n, c]; in evaluation the running ones."""
        if not self.training:
            mean, var = self.running()
            return mean[None], var[None]
        mean, var = pooled(own_mean, own_var, 0)
        self.move(mean[0], unbiased(var[0], len(own_mean) * pixels), self.momentum or 0.0)
        return mean, var

    def running(self) -> tuple[Tensor, Tensor]:
        """The running mean and variance [c]."""
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def normalise(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        """gamma * (x - mean) / sqrt(var + eps) + beta for mean and variance [c] or [n, c]."""
        return self.scale_and_shift(x, mean, torch.rsqrt(var + self.eps))

    def scale_and_shift(self, x: Tensor, mean: Tensor, factor: Tensor, offset: Tensor | None = None) -> Tensor:
        """gamma * (factor * (x - mean) + offset) + beta in one pass over x, for the others of shape [c] or [n, c]."""
        scale, beta = self.weight * factor, self.bias if offset is None else self.weight * offset + self.bias
        shift = torch.addcmul(beta, mean, scale, value=-1)
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [n, c] of every map of x [n, c, h, w]."""
    found: tuple[Tensor, Tensor] = _Moments.apply(x)
    return found


class _Moments(Function):
    """Both in two passes, with the gradient in closed form: on maps with channels last in memory, a quarter of the time
    that `torch.var_mean` and its gradient take on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.flatten(2).mT  # [n, h * w, c]
        mean = rows.mean(1)
        return mean, (rows - mean[:, None]).square().mean(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], output[0])

    @staticmethod
    def backward(ctx: Any, of_mean: Tensor, of_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        n = x.shape[2] * x.shape[3]
        slope = of_var * (2 / n)
        level = torch.addcmul(of_mean / n, slope, mean, value=-1)
        return torch.addcmul(level[..., None, None], x, slope[..., None, None])


def unbiased(var: Tensor, n: int) -> Tensor:
    """The unbiased variance of n numbers from the biased one; a SpecError for a single number, which has none."""
    return var * (several(n) / (n - 1))


def several(n: int) -> int:
    """The count of numbers in a channel, two or more; a SpecError for a single number."""
    if n < 2:
        raise SpecError("a batch has a single number in each channel, which has no variance: show it 2 images or more")
    return n


def pooled(mean: Tensor, var: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and variance over an axis of [n, c], which is kept, from those of each map; maps are equally large."""
    whole = mean.mean(axis, keepdim=True)
    return whole, (var + (mean - whole).square()).mean(axis, keepdim=True)
