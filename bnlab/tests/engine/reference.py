"""The definition the engine is held against: one seed in plain eager torchvision, with nothing of the engine in it.

Networks, norms, data order, augmentation, loss, optimizers and evaluation are written here once more, from torch,
torchvision, numpy and the documented rules alone.
"""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)
from torch.utils.data import BatchSampler

from bnlab.data.sources import Arrays, load
from bnlab.nets import build
from bnlab.parts import (
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    BETA_ONLY,
    GAMMA_ONLY,
    NONE,
    Net,
    Norm,
)
from bnlab.specs import RunSpec

OWN = Norm(layer=f"{__name__}:Own")
IN_PLACE = Norm(layer=f"{__name__}:InPlace")
NORMS = [
    BATCHNORM,
    BATCHNORM_MINUS,
    GAMMA_ONLY,
    BETA_ONLY,
    AFFINE_LAYER,
    AFFINE_PER_LAYER,
    NONE,
    OWN,
    IN_PLACE,
]
WARM = 2
"""Epochs of one step each before the teacher-forced step."""


class Own(nn.Module):
    """A norm as a user may write it: a layer with statistics inside, a gain of odd shape, a frozen part, a buffer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.BatchNorm2d(channels)
        self.gain = nn.Parameter(torch.linspace(0.5, 1.5, channels).view(channels, 1, 1))
        self.fixed = nn.Parameter(torch.full((1,), 0.25), requires_grad=False)
        self.register_buffer("largest", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.largest.mul_(0.5).add_(x.detach().abs().amax((0, 2, 3)), alpha=0.5)
        return self.gain * self.inner(x) + self.fixed * x / (1 + self.largest[:, None, None])

    def reset_running_stats(self) -> None:
        self.largest.zero_()


class InPlace(nn.Module):
    """A norm as a user may write it: it changes what it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(0.5).mul_(1 + self.gain)


class Affine(nn.Module):
    """Gamma times x plus beta."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


def _norm_layer(norm: Norm, channels: int) -> nn.Module:
    if norm == OWN:
        return Own(channels)
    if norm == IN_PLACE:
        return InPlace(channels)
    if norm == NONE:
        return nn.Identity()
    options = {"scale": True, "shift": True, "per": "channel"} | norm.keywords
    if norm.layer == AFFINE_LAYER.layer:
        return Affine(channels if options["per"] == "channel" else 1)
    made = nn.BatchNorm2d(channels)
    made.weight.requires_grad_(options["scale"])
    made.bias.requires_grad_(options["shift"])
    return made


def model_of(spec: RunSpec, seed: int) -> nn.Module:
    """The eager network: torchvision's ResNet made here, any other as its builder gives it, which is plain torch."""
    if (spec.net.build, spec.init, spec.parametrization) == ("bnlab.nets.resnet:build", None, None):
        return network(spec.net, spec.norm, seed)
    return build(spec.net, spec.norm, seed, init=spec.init, parametrization=spec.parametrization)


def network(net: Net, norm: Norm, seed: int) -> nn.Module:
    """torchvision's ResNet under torch.manual_seed(seed); convolution biases are zeros added afterwards."""
    torch.manual_seed(seed)
    make = getattr(torchvision.models, f"resnet{net.keywords['depth']}")
    model = make(num_classes=10, norm_layer=partial(_norm_layer, norm))
    if net.keywords.get("conv_bias"):
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.register_parameter("bias", nn.Parameter(torch.zeros(module.out_channels)))
    return model


def _generator(text: str) -> torch.Generator:
    """A generator seeded by the first eight bytes of the text's SHA-256, as the record documents it."""
    return torch.Generator().manual_seed(
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    )


def order(seed: int, epoch: int, images: int, batch_size: int) -> np.ndarray:
    """The batches of one epoch, [steps, batch_size]."""
    shuffled = torch.randperm(images, generator=_generator(f"order/{seed}/{epoch}")).numpy()
    steps = images // batch_size
    return shuffled[: steps * batch_size].reshape(steps, batch_size)


def augmented(x: np.ndarray, seed: int, epoch: int, kind: str) -> np.ndarray:
    """uint8 images [steps, batch, 32, 32, 3] as this epoch of this seed shows them, pixel by pixel in loops."""
    if kind == "none":
        return x
    steps, batch, size = x.shape[:3]
    draws = _generator(f"augmentation/{seed}/{epoch}")
    mirror = torch.randint(2, (steps, batch, 1), generator=draws).numpy()[..., 0]
    shift = np.zeros((steps, batch, 2), dtype=int)
    if kind == "flip+crop":
        shift = torch.randint(9, (steps, batch, 2), generator=draws).numpy() - 4
    shown = np.zeros_like(x)
    for s, i, row, column in np.ndindex(steps, batch, size, size):
        from_row, from_column = row + shift[s, i, 0], column + shift[s, i, 1]
        if 0 <= from_row < size and 0 <= from_column < size:
            # first the crop out of a border of zeros, then its mirror image
            shown[s, i, row, size - 1 - column if mirror[s, i] else column] = x[s, i, from_row, from_column]
    return shown


@cache
def arrays(train: int, test: int) -> Arrays:
    """A few learnable images."""
    return load(f"synthetic:{train}+{test}", Path())


def batches(spec: RunSpec, seed: int, epoch: int, data: Arrays) -> list[tuple[np.ndarray, np.ndarray]]:
    """What an epoch shows: augmented images and labels of every batch, as torch's DataLoader cuts the permutation.

    Augmentation is drawn for whole batches; an incomplete one takes the first of its draws.
    """
    count = len(data.x_train)
    shuffled = torch.randperm(count, generator=_generator(f"order/{seed}/{epoch}")).tolist()
    index = [*BatchSampler(shuffled, spec.batch_size, drop_last=spec.last_batch == "drop")]
    whole = np.array([np.resize(batch, spec.batch_size) for batch in index])
    shown = augmented(data.x_train[whole], seed, epoch, spec.augmentation)
    return [(x[: len(batch)], data.y_train[batch]) for x, batch in zip(shown, index, strict=True)]


def standardised(x: np.ndarray, data: Arrays, dtype: torch.dtype) -> Tensor:
    """uint8 images [n, 32, 32, 3] as (x / 255 - mean) / std of the training pixels, [n, 3, 32, 32]."""
    pixels = data.x_train.reshape(-1, 3) / 255
    # the record keeps mean and deviation in single precision
    mean, std = (v.astype(np.float32).astype(np.float64) for v in (pixels.mean(0), pixels.std(0)))
    return torch.from_numpy((x / 255 - mean) / std).to(dtype).permute(0, 3, 1, 2).contiguous()


def belongs(name: str, parameters: str) -> bool:
    """Whether a parameter of a ResNet of torchvision or for CIFAR is in a group of this name."""
    norm = "bn" in name or "downsample.1" in name or "shortcut.1" in name
    named = {"norms": norm, "head": name.startswith("fc."), "kernels": not norm and name.endswith("weight")}
    if parameters == "kernels":
        return named["kernels"] and not named["head"]
    return named[parameters] if parameters in named else fnmatch(name, parameters)


def factors(spec: RunSpec, steps: int) -> list[float]:
    """The share of the learning rate in every step of a training, by torch's own schedulers one after the other."""
    warm = spec.warmup * steps // spec.epochs
    left = steps - warm
    main: dict[str, Callable[[torch.optim.Optimizer], LRScheduler]] = {
        "constant": lambda optimizer: ConstantLR(optimizer, factor=1, total_iters=0),
        "cosine": lambda optimizer: CosineAnnealingLR(optimizer, T_max=left),
        "step": lambda optimizer: MultiStepLR(optimizer, milestones=[-(-left // 2), -(-3 * left // 4)], gamma=0.1),
        "onecycle": lambda optimizer: OneCycleLR(optimizer, max_lr=1.0, total_steps=left, cycle_momentum=False),
    }
    first = scheduled(lambda optimizer: LinearLR(optimizer, start_factor=1 / warm, total_iters=warm - 1), warm)
    return first + scheduled(main[spec.schedule], left)


def scheduled(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    """The learning rates of so many steps, from a rate of 1."""
    if not steps:
        return []
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = make(optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls its schedulers in a way that torch warns about
        for step in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if step + 1 < steps:  # OneCycleLR has no step beyond its last
                scheduler.step()
    return rates


class Solo:
    """One seed of a RunSpec, trained by torch's own optimizer and scheduler in an eager loop."""

    def __init__(self, spec: RunSpec, seed: int, data: Arrays, dtype: torch.dtype = torch.float64) -> None:
        self.spec, self.seed, self.data, self.dtype = spec, seed, data, dtype
        self.model = model_of(spec, seed).to(dtype)
        # a parameter a group, so that nothing is grouped as the engine groups it
        groups = [self._group(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        if spec.optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(groups)
        else:
            self.optimizer = torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.nesterov)
        self.base = [group["lr"] for group in groups]
        self.factors = iter(factors(spec, spec.epochs * len(batches(spec, seed, 0, data))))

    def _group(self, name: str, parameter: nn.Parameter) -> dict[str, Any]:
        for group in self.spec.groups:
            if belongs(name, group.parameters):
                decay = self.spec.weight_decay if group.weight_decay is None else group.weight_decay
                return {"params": [parameter], "lr": self.spec.lr * group.lr, "weight_decay": decay}
        return {"params": [parameter], "lr": self.spec.lr, "weight_decay": self.spec.weight_decay}

    def epoch(self, number: int) -> list[float]:
        """Train one epoch; the loss of every step, without a penalty."""
        return [self._step(x, y) for x, y in batches(self.spec, self.seed, number, self.data)]

    def shown(self, x: np.ndarray) -> Tensor:
        """uint8 images as the network is given them."""
        if self.spec.standardize:
            return standardised(x, self.data, self.dtype)
        return torch.from_numpy(x / 255).to(self.dtype).permute(0, 3, 1, 2).contiguous()

    def _step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.model.train()
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(self.shown(x)), torch.from_numpy(y.astype(np.int64)))
        (loss + self._penalty()).backward()
        factor = next(self.factors)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor
        self.optimizer.step()
        return loss.item()

    def _penalty(self) -> Tensor | float:
        penalty = self.spec.penalty
        if penalty is None:
            return 0.0
        own = [w for name, w in self.model.named_parameters() if w.requires_grad and belongs(name, penalty.parameters)]
        return penalty.strength * sum(torch.linalg.vector_norm(w, penalty.p) ** penalty.p for w in own)

    def gradients(self) -> dict[str, Tensor]:
        """The gradients of the last step, by parameter name."""
        return {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}

    def state(self) -> dict[str, Tensor]:
        """The state dict, by value."""
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def moments(self) -> dict[str, Tensor]:
        """Adam's step count and two moments as `step.NAME`, `exp_avg.NAME` and `exp_avg_sq.NAME`."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return {
            f"{kind}.{names[id(p)]}": held[kind].clone()
            for p, held in self.optimizer.state.items()
            for kind in ("step", "exp_avg", "exp_avg_sq")
        }


@dataclass(frozen=True, kw_only=True)
class Forced:
    """A mid-training state of one seed and what one more step makes of it."""

    state: dict[str, Tensor]
    moments: dict[str, Tensor]
    epoch: int
    loss: float
    gradients: dict[str, Tensor]
    after: dict[str, Tensor]


@lru_cache(maxsize=2)  # a state in float64 takes up to 1 GB
def forced(spec: RunSpec, seed: int, data: Arrays) -> Forced:
    """Train WARM epochs, keep the state, and take one more; `data` has one step an epoch."""
    solo = Solo(spec, seed, data)
    for number in range(WARM):
        solo.epoch(number)
    state, moments = solo.state(), solo.moments()
    (loss,) = solo.epoch(WARM)
    return Forced(state=state, moments=moments, epoch=WARM, loss=loss, gradients=solo.gradients(), after=solo.state())


@dataclass(frozen=True, kw_only=True)
class Free:
    """Some epochs of one seed: the loss of every step, and the state they end in."""

    losses: list[float]
    state: dict[str, Tensor]


@lru_cache(maxsize=2)
def free(spec: RunSpec, seed: int, data: Arrays, epochs: int) -> Free:
    """Train that many epochs from the initialisation."""
    solo = Solo(spec, seed, data)
    losses = [loss for number in range(epochs) for loss in solo.epoch(number)]
    return Free(losses=losses, state=solo.state())


def loaded(spec: RunSpec, state: dict[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """A plain torchvision network with these weights, loaded strictly."""
    model = model_of(spec, seed=12345).to(dtype)
    shapes = model.state_dict()
    assert list(state) == list(shapes), "the state dict has other names than torchvision's, or another order"
    # a gamma for the whole layer or in four axes is the same numbers
    model.load_state_dict({name: tensor.view(shapes[name].shape) for name, tensor in state.items()}, strict=True)
    return model
