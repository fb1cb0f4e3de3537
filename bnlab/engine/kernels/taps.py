"""Which taps of a kernel ever meet data, from the geometry alone.

At 32x32 the ImageNet-stem ResNets end on 1x1 maps, where a padded 3x3 kernel sees zeros at 8 of its 9 taps (5 of 9
in the strided convolution before). Those weights never receive a gradient, so they need neither compute nor
optimizer: 62 % of ResNet18's parameters.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """A square convolution on a square map: `first` to `last` (exclusive) are its live taps along either axis.

    A weight has c_in / groups channels: each of the `groups` sees its own part of the map's channels.
    """

    c_in: int
    c_out: int
    groups: int
    kernel: int
    stride: int
    padding: int
    size_in: int
    size_out: int
    first: int
    last: int

    @property
    def taps(self) -> int:
        """Live taps along one axis."""
        return self.last - self.first

    @property
    def margin(self) -> tuple[int, int]:
        """Zeros that the live taps still meet before and after the map, along either axis."""
        before = self.padding - self.first
        after = (self.size_out - 1) * self.stride - self.padding + self.last - self.size_in
        return before, after

    @property
    def is_view(self) -> bool:
        """Whether the patches are the map itself: every number of it is met exactly once."""
        whole = self.size_out == 1 and self.taps == self.size_in
        return (whole or self.taps == self.stride == 1) and self.margin == (0, 0)


def geometry_of(conv: nn.Conv2d, size_in: int, *, elide: bool) -> ConvGeometry:
    """The geometry of this convolution on a map of size_in x size_in; without `elide` every tap counts as live."""
    kernel, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
    size_out = (size_in + 2 * padding - kernel) // stride + 1
    met = [tap for tap in range(kernel) if any(0 <= out * stride - padding + tap < size_in for out in range(size_out))]
    first, last = (met[0], met[-1] + 1) if elide else (0, kernel)
    return ConvGeometry(
        c_in=conv.in_channels,
        c_out=conv.out_channels,
        groups=conv.groups,
        kernel=kernel,
        stride=stride,
        padding=padding,
        size_in=size_in,
        size_out=size_out,
        first=first,
        last=last,
    )
