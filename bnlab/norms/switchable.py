"""Switchable Normalization (SN): a learned mixture of the statistics of BatchNorm, InstanceNorm and LayerNorm.

Luo, Ren, Peng, Zhang & Li 2019, "Differentiable Learning-to-Normalize via Switchable Normalization", equations 3 to 5;
the paper's section 2.4.13.
"""

import torch
from torch import Tensor, nn

from bnlab.norms.statistics import WithStatistics, moments, pooled

KINDS = ("instance", "layer", "batch")


class SwitchableNorm(WithStatistics):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x [n, c, h, w], gamma and beta of shape [c].

    mean and var are weighted sums of those that InstanceNorm, LayerNorm and BatchNorm take, all biased. The weights of
    the means are the softmax of `mean_logits`, those of the variances of `var_logits`, one number for each kind and 1
    at initialisation, so that the kinds start equal. `among` names the kinds to choose from; one alone is that layer.
    In evaluation the batch's statistics are the running ones, which move as BatchNorm's do.
    """

    def __init__(
        self, channels: int, *, among: str = "instance layer batch", scale: bool = True, shift: bool = True
    ) -> None:
        kinds = among.split()
        if not kinds or any(kind not in KINDS for kind in kinds) or len({*kinds}) < len(kinds):
            raise ValueError(f"among is {among!r}: expected some of {', '.join(KINDS)}, with blanks between")
        super().__init__(channels, scale=scale, shift=shift)
        self.kinds = kinds
        self.mean_logits, self.var_logits = (nn.Parameter(torch.ones(len(kinds))) for _ in range(2))
        if "batch" not in kinds:
            self.evaluations = ()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [n, c, h, w]."""
        own_mean, own_var = moments(x)  # [n, c]
        found = {"instance": (own_mean, own_var), "layer": pooled(own_mean, own_var, 1)}
        if "batch" in self.kinds:
            found["batch"] = self.over_batch(own_mean, own_var, x[0, 0].numel())
        mean, var = (
            sum(weight * found[kind][which] for weight, kind in zip(logits.softmax(0), self.kinds, strict=True))
            for which, logits in enumerate((self.mean_logits, self.var_logits))
        )
        assert isinstance(mean, Tensor)
        assert isinstance(var, Tensor)
        return self.normalise(x, mean, var)

    def learned(self) -> dict[str, float]:
        """The weight of each kind, of the means as `mean/batch`, of the variances as `var/batch`."""
        both = {"mean": self.mean_logits, "var": self.var_logits}
        return {
            f"{which}/{kind}": float(weight)
            for which, logits in both.items()
            for kind, weight in zip(self.kinds, logits.detach().softmax(0), strict=True)
        }
