"""BatchNorm with any of its two trainable parameters left out.

Ioffe & Szegedy 2015, algorithms 1 and 2; the paper's section 2.1.1 for BatchNorm, 3.2 and 3.3 for BatchNorm-minus.
"""

from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, per channel of x [n, c, h, w].

    Training normalises with the batch's mean and biased variance and moves the running ones by `momentum` (the
    unbiased variance goes in); evaluation normalises with the running ones. A parameter that is not trained stays
    what it is at initialisation, gamma = 1 or beta = 0: frozen rather than absent, as in the paper's section 3.3.
    """

    slot = "bnlab.engine.slots.batchnorm:fused"
    evaluations: tuple[str, ...] = ("recalibrated", "batch")

    def __init__(self, channels: int, *, scale: bool = True, shift: bool = True) -> None:
        super().__init__(channels)
        self.weight.requires_grad_(scale)
        self.bias.requires_grad_(shift)
