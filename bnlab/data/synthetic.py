"""Learnable images made on the fly: ten kinds of stripes, the same pixels on every machine.

A class is an angle of the stripes against the horizontal (five of them) and a width (two), seen in three patches.
Place, phase and colours of each patch and the side to which the stripes lean are drawn anew for every image, so all
classes have the same mean image and a linear classifier finds next to nothing, while small filters see the stripes.
Mirroring an image keeps its class.

Everything is integer arithmetic on the raw words of PCG64, whose stream NumPy guarantees: no cosine whose last bit
depends on the processor, so that the content digest is the same everywhere.
"""

import numpy as np
from numpy.typing import NDArray

CLASSES = 10
SIDE = 32

# Waves across the image, (right, down) in 1/65536 of a period per pixel: periods of 8 and 4.5 pixels at
# 0, 22.5, 45, 67.5 and 90 degrees.
_WAVES = np.array(
    [
        (8192, 0), (7568, 3135), (5793, 5793), (3135, 7568), (0, 8192),
        (14564, 0), (13455, 5573), (10298, 10298), (5573, 13455), (0, 14564),
    ],
    dtype=np.int64,
)  # fmt: skip
_PATCHES = 3
_RADIUS = 10
_DRAWS = 8  # words an image, 32 numbers of 16 bits, of which 22 are used
_NOISE_WORDS = SIDE * SIDE * 3 // 8
_STREAMS = {"train": 2001, "test": 2002}
_CHUNK = 1000


def stripes(split: str, n: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first `n` images of a split ("train" or "test"): uint8 [n, 32, 32, 3] and labels uint8 [n], classes in turn.

    A longer split begins with the same images.
    """
    stream = np.random.PCG64(_STREAMS[split])
    x = np.empty((n, SIDE, SIDE, 3), dtype=np.uint8)
    y = (np.arange(n) % CLASSES).astype(np.uint8)
    for start in range(0, n, _CHUNK):
        labels = y[start : start + _CHUNK]
        raw = stream.random_raw(len(labels) * (_DRAWS + _NOISE_WORDS)).astype("<u8").reshape(len(labels), -1)
        draws = raw[:, :_DRAWS].copy().view("<u2").astype(np.int64)
        noise = raw[:, _DRAWS:].copy().view(np.uint8).reshape(-1, SIDE, SIDE, 3)
        x[start : start + _CHUNK] = _draw(labels, draws, noise)
    return x, y


def _draw(labels: NDArray[np.uint8], draws: NDArray[np.int64], noise: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Pixels 0 to 255, int64 [n, 32, 32, 3], from 32 numbers of 16 bits and 3072 bytes of noise for each image."""
    field = iter(draws.T[..., None, None])  # [n, 1, 1] each
    down, right = np.mgrid[0:SIDE, 0:SIDE].reshape(2, 1, SIDE, SIDE)
    across, along = _WAVES[labels].T[..., None, None]
    slope = across * right + (1 - 2 * (next(field) & 1)) * along * down
    base = 96 + (np.stack([next(field) for _ in range(3)], axis=-1) & 63)
    pixels: NDArray[np.int64] = base + (noise & 63) - 32
    for _ in range(_PATCHES):
        turn = (slope + next(field)) & 0xFFFF
        triangle = np.abs(turn - 0x8000) - 0x4000  # -16384 to 16384, mean 0 over the phases
        row, column = next(field) % 28 + 2, next(field) % 28 + 2
        window = np.maximum(0, _RADIUS**2 - (right - column) ** 2 - (down - row) ** 2)
        colour = np.stack([next(field) for _ in range(3)], axis=-1)
        height = (24 + (colour & 31)) * (1 - 2 * (colour >> 15))
        pixels += (triangle * window)[..., None] * height // (0x4000 * _RADIUS**2)
    return np.clip(pixels, 0, 255)
