"""Every random draw of a Run, from generators that are functions of the seed, the purpose and the epoch.

Nothing is carried over from epoch to epoch, so a resumed Run needs no random state, and nothing depends on the
device, on how many replicas train beside this one or on where it sits among them.
"""

import hashlib

import torch
from torch import Tensor

from bnlab.specs import Augmentation

PAD = 4
"""Pixels of zero padding from which `flip+crop` crops, as is the habit on CIFAR-10 (He et al. 2015, section 4.2)."""


def generator(seed: int, purpose: str, epoch: int) -> torch.Generator:
    """A CPU generator for one purpose in one epoch of one seed."""
    return torch.Generator().manual_seed(seed_of(f"{purpose}/{seed}/{epoch}"))


def seed_of(text: str) -> int:
    """The seed of a generator whose draws are a function of this text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)


def order(seed: int, epoch: int, images: int, batch_size: int, keep_last: bool = False) -> Tensor:
    """The epoch's batches, int64 [steps, batch_size]: a permutation of the images less an incomplete last batch.

    With `keep_last` the incomplete batch is the last row, filled up with zeros.
    """
    shuffled = torch.randperm(images, generator=generator(seed, "order", epoch))
    if keep_last:
        shuffled = torch.nn.functional.pad(shuffled, (0, -images % batch_size))
    steps = len(shuffled) // batch_size
    return shuffled[: steps * batch_size].view(steps, batch_size)


def offsets(seed: int, epoch: int, steps: int, batch_size: int, augmentation: Augmentation) -> Tensor:
    """Mirror, row and column of every image shown, int64 [steps, batch_size, 3]: 0 or 1, then 0 to 2 * PAD."""
    draws = generator(seed, "augmentation", epoch)
    mirror = torch.randint(2, (steps, batch_size, 1), generator=draws)
    if augmentation == "flip":
        return torch.cat([mirror, torch.full((steps, batch_size, 2), PAD)], dim=2)
    return torch.cat([mirror, torch.randint(2 * PAD + 1, (steps, batch_size, 2), generator=draws)], dim=2)


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Mirror images [..., h, w, c] and shift them within a border of PAD zeros, as `draws` [..., 3] say."""
    size = images.shape[-3]
    flat, d = images.flatten(0, -4), draws.flatten(0, -2)
    padded = torch.nn.functional.pad(flat, (0, 0, PAD, PAD, PAD, PAD))
    span = torch.arange(size, device=images.device)
    rows = d[:, 1, None] + span
    columns = d[:, 2, None] + torch.where(d[:, :1] == 1, span.flip(0), span)
    n = torch.arange(len(flat), device=images.device)[:, None, None]
    return padded[n, rows[:, :, None], columns[:, None, :]].view_as(images)
