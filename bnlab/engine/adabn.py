"""AdaBN: evaluations on test images from another domain, before and after the statistics are adapted to it.

Li, Wang, Shi, Liu & Hou 2016, "Revisiting Batch Normalization For Practical Domain Adaptation"; the paper's section
2.4.8. The other domain are the test images with a third of their contrast and noise, made on the fly. Weights stay.
A claim names an evaluation as `bnlab.engine.adabn:adapted`; a norm without running statistics adapts nothing.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bnlab.engine.evaluations import accuracy, calibrate
from bnlab.engine.training import Training

CONTRAST, NOISE = 0.3, 15.0


def shifted(images: Tensor) -> Tensor:
    """uint8 images [n, h, w, 3] as x * CONTRAST + N(0, NOISE^2), rounded and kept in 0 to 255; the same each time."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(images.shape, generator=draw).to(images.device)
    return (CONTRAST * images + NOISE * noise).round().clamp(0, 255).to(torch.uint8)


def _on_shifted(training: Training, *, seen: int) -> list[float]:
    """Test accuracy in percent on shifted images, with statistics of the first `seen` of them, or the training's own.

    Statistics come from one pass over all that is seen, so those of a layer are exact, and behind layers that were
    already adapted.
    """
    own = training.images
    training.images = replace(own, x_test=shifted(own.x_test))
    try:
        if seen:
            calibrate(training, training.images.x_test[:seen], chunk=seen)
        return accuracy(training, "eval")
    finally:
        training.images = own


source = partial(_on_shifted, seen=0)
adapted_10 = partial(_on_shifted, seen=10)
adapted_100 = partial(_on_shifted, seen=100)
adapted = partial(_on_shifted, seen=1000)
