"""GroupNorm, and its two ends: LayerNorm over channels and maps (one group), InstanceNorm (a group a channel).

Wu & He 2018, section 3.1; the paper's sections 2.4.10 to 2.4.12.
"""

from torch import nn

from bnlab.errors import SpecError
from bnlab.norms.place import Place


class GroupNorm(nn.GroupNorm):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta for x [n, c, h, w], gamma and beta of shape [c].

    The channels are split into `groups` groups of neighbours. Mean and biased variance are taken for each image and
    each group over h, w and the channels of the group, so no image depends on another, and training and evaluation are
    equal. `groups=1` is LayerNorm over c, h and w; `groups` equal to the channels is InstanceNorm. `scale=False` keeps
    gamma at 1 and `shift=False` keeps beta at 0. A SpecError says where groups do not divide the channels, or have a
    single number each.
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int = 32,
        eps: float = 1e-5,
        scale: bool = True,
        shift: bool = True,
        place: Place | None = None,
    ) -> None:
        if groups < 1 or channels % groups:
            raise SpecError(f"GroupNorm has {groups} groups for {channels} channels: take a number that divides them")
        if place is not None and channels == groups and place.size == 1:
            raise SpecError(
                f"GroupNorm has {groups} groups for {channels} channels on the 1x1 maps of {place.name}, where every "
                "number is its own mean and becomes 0: take fewer groups"
            )
        super().__init__(groups, channels, eps=eps)
        self.weight.requires_grad_(scale)
        self.bias.requires_grad_(shift)
