"""Images on the device: the same bytes, and statistics of the training pixels only."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bnlab.data import sources
from bnlab.data.images import Images
from bnlab.errors import DataError


@pytest.fixture(scope="module")
def arrays():
    return sources.load("synthetic:300+100", None)


def test_tensors_are_the_arrays(arrays):
    images = Images.of(arrays, "cpu")

    for name, dtype in {
        "x_train": torch.uint8,
        "y_train": torch.int64,
        "x_test": torch.uint8,
        "y_test": torch.int64,
    }.items():
        assert getattr(images, name).dtype == dtype
        np.testing.assert_array_equal(getattr(images, name).numpy(), getattr(arrays, name))
    assert images.digest == arrays.digest


def test_mean_and_std_are_numpys_over_the_training_pixels(arrays):
    images = Images.of(arrays, "cpu")
    pixels = arrays.x_train.astype(np.float64) / 255

    assert images.mean.dtype == images.std.dtype == torch.float32
    np.testing.assert_allclose(images.mean.numpy(), pixels.mean(axis=(0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(images.std.numpy(), pixels.std(axis=(0, 1, 2)), rtol=1e-7)


def test_mean_and_std_of_fifty_thousand_images_do_not_overflow():
    """White and black halves have mean and standard deviation 1/2."""
    x = np.zeros((50_000, 32, 32, 3), dtype=np.uint8)
    x[:25_000] = 255
    y = np.zeros(50_000, dtype=np.uint8)
    images = Images.of(sources.Arrays(x_train=x, y_train=y, x_test=x[:1], y_test=y[:1], digest="", label=""), "cpu")

    assert images.mean.tolist() == [0.5] * 3
    assert images.std.tolist() == [0.5] * 3


def test_images_without_variance_are_refused(arrays):
    flat = arrays.x_train.copy()
    flat[..., 1] = 93
    with pytest.raises(DataError, match="a colour channel of 300 \\+ 100 synthetic images is the same in every pixel"):
        Images.of(replace(arrays, x_train=flat), "cpu")
