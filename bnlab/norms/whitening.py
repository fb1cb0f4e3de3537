"""BatchNorm that decorrelates too: Decorrelated BatchNorm by eigenvectors, IterNorm by Newton's iteration.

Huang, Yang, Lang & Deng 2018, "Decorrelated Batch Normalization", section 3; Huang, Zhou, Zhu, Liu & Shao 2019,
"Iterative Normalization", section 3; the paper's section 2.4.7.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from bnlab.errors import SpecError
from bnlab.norms.batchnorm import BatchNorm
from bnlab.norms.place import Place


class _Whitening(nn.Module):
    """y = gamma * W (x - mean) + beta with W = (Sigma + eps I)^(-1/2), for groups of neighbouring channels.

    Sigma [s, s] is the biased covariance of the `group_size` channels of a group over n, h and w of x [n, c, h, w]. W
    is symmetric, so channels are not rotated: of all matrices that whiten, it changes x least. Training takes mean and
    W of the batch and moves the running mean and the running W by `momentum`; evaluation takes the running ones. gamma
    and beta have shape [c], 1 and 0 at initialisation; `scale=False` and `shift=False` keep them there.

    A SpecError says where groups do not divide the channels, or where a batch has no more numbers per channel than a
    group has channels: they cannot span the group.
    """

    evaluations = ("recalibrated", "batch")
    running_mean: Tensor
    running_projection: Tensor

    def __init__(
        self,
        channels: int,
        *,
        group_size: int = 8,
        scale: bool = True,
        shift: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if group_size < 1 or channels % group_size:
            raise SpecError(
                f"{type(self).__name__} has groups of {group_size} for {channels} channels: take a size that divides "
                "them"
            )
        self.group_size, self.eps, self.momentum = group_size, eps, momentum
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=scale)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=shift)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_projection", torch.eye(group_size).repeat(channels // group_size, 1, 1))

    @abstractmethod
    def projection(self, sigma: Tensor) -> Tensor:
        """The inverse square roots of covariances [g, s, s]."""

    def reset_running_stats(self) -> None:
        """Forget the running mean and projection: 0 and the identity."""
        self.running_mean.zero_()
        self.running_projection.copy_(torch.eye(self.group_size))

    def forward(self, x: Tensor) -> Tensor:
        """Whiten the channels of x [n, c, h, w], then scale and shift them."""
        n, c, h, w = x.shape
        rows = x.transpose(0, 1).reshape(c, -1)
        mean, project = self.running_mean, self.running_projection
        if self.training:
            if rows.shape[1] <= self.group_size:
                raise SpecError(
                    f"{type(self).__name__} gets {rows.shape[1]} numbers per channel for groups of {self.group_size} "
                    "channels: take smaller groups, or a larger batch"
                )
            mean = rows.mean(1)
            grouped = (rows - mean[:, None]).view(-1, self.group_size, rows.shape[1])
            sigma = grouped @ grouped.mT / rows.shape[1]
            project = self.projection(sigma + self.eps * torch.eye(self.group_size, device=x.device, dtype=x.dtype))
            for running, of_batch in ((self.running_mean, mean), (self.running_projection, project)):
                running.add_((of_batch.detach() - running) * self.momentum)
        white = project @ (rows - mean[:, None]).view(-1, self.group_size, rows.shape[1])
        y = white.view(c, n, h, w).transpose(0, 1)
        return y * self.weight[:, None, None] + self.bias[:, None, None]


class DecorrelatedBatchNorm(_Whitening):
    """The projection from eigenvalues l and eigenvectors U of Sigma: U diag(l^(-1/2)) U'; the rest is _Whitening's."""

    def projection(self, sigma: Tensor) -> Tensor:
        """By eigenvectors."""
        whiten: Tensor = _InverseSquareRoot.apply(sigma)[0]
        return whiten


class IterNorm(_Whitening):
    """The projection from `iterations` steps of Newton's method on Sigma over its trace; the rest is _Whitening's.

    P <- (3 P - P^3 Sigma / tr) / 2 from P = I, then W = P / sqrt(tr). It needs no eigenvectors and stops short of
    whitening directions of small variance. Rounding makes it diverge after some 15 iterations.
    """

    def __init__(self, channels: int, *, iterations: int = 5, **options: Any) -> None:
        super().__init__(channels, **options)
        self.iterations = iterations

    def projection(self, sigma: Tensor) -> Tensor:
        """By Newton's iteration."""
        trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        p = torch.eye(self.group_size, device=sigma.device, dtype=sigma.dtype).expand_as(sigma)
        for _ in range(self.iterations):
            p = 1.5 * p - 0.5 * (p @ p @ p @ (sigma / trace))
        return p / trace.sqrt()


def decorrelated_stem(
    channels: int, *, group_size: int = 8, scale: bool = True, shift: bool = True, place: Place
) -> nn.Module:
    """Decorrelated BatchNorm behind the first convolution of a ResNet and BatchNorm elsewhere, as Huang et al. 2018
    trained ResNets: the norm whose name has no block, such as "bn1"."""
    if "." in place.name:
        return BatchNorm(channels, scale=scale, shift=shift)
    return DecorrelatedBatchNorm(channels, group_size=group_size, scale=scale, shift=shift)


class _InverseSquareRoot(Function):
    """S^(-1/2) of symmetric positive matrices [..., s, s].

    The derivative needs no gaps between eigenvalues: with a = sqrt(l) its entries in the eigenvectors' basis are those
    of the symmetric gradient times -1 / (a_i a_j (a_i + a_j)). The derivative of `torch.linalg.eigh` divides by
    l_i - l_j instead, which is 0 where Sigma is the identity.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(sigma)
        roots = values.sqrt()
        return (vectors / roots[..., None, :]) @ vectors.mT, roots, vectors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, roots, vectors = output
        ctx.mark_non_differentiable(roots, vectors)
        ctx.save_for_backward(roots, vectors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> Tensor:
        roots, vectors = ctx.saved_tensors
        inside = vectors.mT @ (grad + grad.mT) @ vectors / 2
        a, b = roots[..., :, None], roots[..., None, :]
        back: Tensor = vectors @ (-inside / (a * b * (a + b))) @ vectors.mT
        return back
