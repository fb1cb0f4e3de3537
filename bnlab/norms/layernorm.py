"""LayerNorm over channels and maps.

Ba, Kiros & Hinton 2016, "Layer Normalization", equation 3; the paper's section 2.4.10. Xu et al. 2019, "Understanding
and Improving Layer Normalization", leave gain and bias out: `LayerNorm(channels, scale=False, shift=False)`.
"""

from bnlab.norms.groupnorm import GroupNorm


class LayerNorm(GroupNorm):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x [n, c, h, w], gamma and beta of shape [c].

    Mean and biased variance are taken for each image over c, h and w, so no image depends on another, and training and
    evaluation are equal. torch.nn.LayerNorm([c, h, w]) has a gamma and a beta for each pixel of each channel.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, scale: bool = True, shift: bool = True) -> None:
        super().__init__(channels, groups=1, eps=eps, scale=scale, shift=shift)
