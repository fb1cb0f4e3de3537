"""Images on the device: one uint8 tensor a split, of which a batch is a gather of indices."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bnlab.data.sources import Arrays
from bnlab.data.synthetic import CLASSES
from bnlab.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Both splits on one device.

    `x_train`, `x_test`: uint8 [n, 32, 32, 3]; `y_train`, `y_test`: int64 [n], 0 to `classes` - 1; `mean`,
    `std`: float32 [3], of each channel of the training pixels scaled to [0, 1] (`std` divides by n), for
    standardisation; `digest`: SHA-256 of the content, as in `bnlab.data.sources`; `classes`: outputs that a network
    needs, ten at least.
    """

    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    digest: str
    classes: int = CLASSES

    @classmethod
    def of(cls, arrays: Arrays, device: torch.device | str) -> "Images":
        """The arrays on the device; a channel without any variance is a DataError, since nothing can standardise it."""
        mean, std = _channels(arrays.x_train)
        if not all(std):
            raise DataError(
                f"a colour channel of {arrays.label} is the same in every pixel: expected images that differ"
            )
        return cls(
            x_train=torch.from_numpy(arrays.x_train).to(device),
            y_train=torch.from_numpy(arrays.y_train).to(device, torch.int64),
            x_test=torch.from_numpy(arrays.x_test).to(device),
            y_test=torch.from_numpy(arrays.y_test).to(device, torch.int64),
            mean=torch.tensor(mean, dtype=torch.float32, device=device),
            std=torch.tensor(std, dtype=torch.float32, device=device),
            digest=arrays.digest,
            classes=max(CLASSES, 1 + int(max(arrays.y_train.max(), arrays.y_test.max()))),
        )


def _channels(x: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], from whole numbers: the same in any order, anywhere."""
    mean, std = [], []
    for channel in range(3):
        counts = np.bincount(x[..., channel].reshape(-1), minlength=256).tolist()
        n, total, squares = (sum(count * value**power for value, count in enumerate(counts)) for power in range(3))
        mean.append(total / n / 255)
        std.append(math.sqrt(n * squares - total**2) / n / 255)
    return mean, std
