"""One trained number a layer in place of a norm: the scalars of Fixup and of SkipInit.

Zhang, Dauphin & Ma 2019, "Fixup Initialization", section 3, rule 3; De & Smith 2020, "Batch Normalization Biases
Residual Blocks Towards the Identity Function in Deep Networks", section 4; the paper's section 2.4.6.
"""

from torch import nn

from bnlab.norms.affine import AffineLayer
from bnlab.norms.none import Identity
from bnlab.norms.place import Place


def fixup(channels: int, *, place: Place) -> nn.Module:
    """A bias, 0 at initialisation, and at the place called "scale" a multiplier before it, 1 at initialisation.

    `bnlab.nets.fixup` has the places: before and behind every convolution. Both numbers serve all channels.
    """
    return AffineLayer(channels, scale=place.position == "scale", per="layer")


def skip_init(channels: int, *, last: str = "bn2", start: float = 0.0, place: Place) -> nn.Module:
    """y = alpha * x at the end of a residual branch, with one alpha, `start` at initialisation; elsewhere y = x.

    `last` names the norm at the end of a branch: "bn2" in torchvision's basic blocks, "bn3" in its bottlenecks. With
    alpha = 0 every block starts as the identity. De & Smith give convolutions a bias: `ResNet(18, conv_bias=True)`.
    """
    if place.position != last:
        return Identity(channels)
    made = AffineLayer(channels, shift=False, per="layer")
    nn.init.constant_(made.weight, start)
    return made
