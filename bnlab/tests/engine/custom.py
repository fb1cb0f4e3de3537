"""What tests of custom norms share: a slot for one, random maps for it, and Runs of a tiny network with it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from bnlab import engine
from bnlab.data.images import Images
from bnlab.data.sources import load
from bnlab.engine.slots import CustomSlot
from bnlab.parts import BATCHNORM, Norm
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.norms.tiny import TINY

SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=20, epochs=2, precision="fp32")
CPU = torch.device("cpu")


def slot(make: Callable[[], nn.Module], replicas: int = 2, *, as_on_a_gpu: bool = False) -> CustomSlot:
    made = CustomSlot([make() for _ in range(replicas)], CPU, torch.float32, "layer1.0.bn1")
    made.can_vmap = as_on_a_gpu
    return made


def drawn(replicas: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(replicas, 4, 3, 3, 5, generator=torch.Generator().manual_seed(seed))


@cache
def images() -> Images:
    return Images.of(load("synthetic:60+40", Path()), "cpu")


def norm_of(kind: type[nn.Module]) -> Norm:
    return Norm(layer=f"{kind.__module__}:{kind.__name__}")


def trained(norm: Norm, seeds: tuple[int, ...] = (3,), **changes: object) -> list[engine.Trained]:
    spec = replace(SPEC, norm=norm, **changes)
    return engine.train([Replicate(spec, seed) for seed in seeds], images(), "cpu")


def numbers(run: engine.Trained) -> tuple[object, ...]:
    return run.weights, run.curves, run.readings
