"""AutoDIAL: BatchNorm for batches of two domains, which learns how far to keep their statistics apart.

Carlucci, Porzi, Caputo, Ricci & Rota Bulo 2017, "AutoDIAL: Automatic DomaIn Alignment Layers", section 3.1; the paper's
section 2.4.9.
"""

import torch
from torch import Tensor, nn

from bnlab.errors import SpecError


class AutoDial(nn.Module):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, with statistics of a domain's own that know of the other's.

    In training the first half of the batch x [n, c, h, w] is the source and the second half the target. The source's
    mean is alpha * mean of the source + (1 - alpha) * mean of the target, and its variance is mixed in the same way
    from the mean squares of both domains about that mean; the target's with the domains in each other's place. alpha
    is one trained number a layer, `alpha` at initialisation, and counts as the nearest number in [0.5, 1]; its gradient
    is taken as if it were not limited, so that it can come back. At 1 each domain is normalised with its own
    statistics, so both end at the same mean and variance; at 0.5 both go through one BatchNorm.

    Running statistics [2, c] are kept for source and target and moved by `momentum`; evaluation takes those of
    `domain`, "target" or "source", for the whole batch. gamma and beta [c] are shared, 1 and 0 at initialisation.
    A batch of an odd number of images is a SpecError.
    """

    evaluations = ("recalibrated",)
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self,
        channels: int,
        *,
        alpha: float = 1.0,
        domain: str = "target",
        scale: bool = True,
        shift: bool = True,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        if domain not in ("source", "target") or not 0.5 <= alpha <= 1:
            raise SpecError(
                f"AutoDial has alpha {alpha!r} and domain {domain!r}: expected 0.5 to 1, and 'source' or 'target'"
            )
        self.domain, self.eps, self.momentum = domain, eps, momentum
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.weight = nn.Parameter(torch.ones(channels), requires_grad=scale)
        self.bias = nn.Parameter(torch.zeros(channels), requires_grad=shift)
        self.register_buffer("running_mean", torch.zeros(2, channels))
        self.register_buffer("running_var", torch.ones(2, channels))

    def reset_running_stats(self) -> None:
        """Forget the running statistics: means 0, variances 1."""
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w], half by half in training."""
        if not self.training:
            row = 1 if self.domain == "target" else 0
            return self._normalised(x, self.running_mean[row], self.running_var[row])
        if len(x) % 2:
            raise SpecError(f"AutoDial gets {len(x)} images: expected as many of the source as of the target")
        alpha = self.alpha + (self.alpha.clamp(0.5, 1) - self.alpha).detach()
        domains = x.tensor_split(2)
        sizes = domains[0].numel() // x.shape[1]
        done, found = [], []
        for row in (0, 1):
            own, other = domains[row], domains[1 - row]
            mean = alpha * own.mean((0, 2, 3)) + (1 - alpha) * other.mean((0, 2, 3))
            squares = [(part - mean[:, None, None]).square().mean((0, 2, 3)) for part in (own, other)]
            var = alpha * squares[0] + (1 - alpha) * squares[1]
            found.append((mean, var * (sizes / max(1, sizes - 1))))
            done.append(self._normalised(own, mean, var))
        for running, of_batch in zip((self.running_mean, self.running_var), zip(*found, strict=True), strict=True):
            running.add_((torch.stack(of_batch).detach() - running) * self.momentum)
        return torch.cat(done)

    def _normalised(self, x: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        factor = self.weight * torch.rsqrt(var + self.eps)
        return x * factor[:, None, None] + (self.bias - mean * factor)[:, None, None]
