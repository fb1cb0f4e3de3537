"""The optimizer of a program: torch's own Adam and SGD, with groups of parameters, learning rates and a penalty."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from bnlab.engine.adam import Adam
from bnlab.engine.eager import EagerProgram
from bnlab.engine.program import Program
from bnlab.engine.side import pieces
from bnlab.errors import SpecError
from bnlab.nets import norm_slots
from bnlab.specs import RunSpec

KINDS = ("norms", "kernels", "head")
"""Names of groups: parameters of the norm layers, weights of convolutions, the last linear layer."""


@dataclass(frozen=True)
class Treatment:
    """What happens to a parameter: `lr` multiplies the RunSpec's learning rate."""

    lr: float
    weight_decay: float


def learning_rate(spec: RunSpec, step: int, steps: int) -> float:
    """The learning rate of optimizer step `step`, numbered from 0 over the training, with `steps` steps an epoch.

    In the first w = warmup * steps steps it is lr * (step + 1) / w. The schedule takes the t steps that are left,
    counted from 0 as s:

        constant  lr
        cosine    lr * (1 + cos(pi s / t)) / 2
        step      lr, from s = t / 2 on lr / 10, from s = 3 t / 4 on lr / 100
        onecycle  lr / 25 at s = 0, lr at s = 0.3 t - 1, lr / 250,000 at s = t - 1, half cosines between them
                  (torch's OneCycleLR with its defaults, but the momentum stays as it is)
    """
    warm = spec.warmup * steps
    if step < warm:
        return spec.lr * (step + 1) / warm
    at, left = step - warm, spec.epochs * steps - warm
    if spec.schedule == "cosine":
        return spec.lr * 0.5 * (1 + math.cos(math.pi * at / left))
    if spec.schedule == "step":
        return spec.lr * 0.1 ** ((2 * at >= left) + (4 * at >= 3 * left))
    if spec.schedule == "onecycle":
        peak = 0.3 * left - 1
        if at <= peak:
            return _half_cosine(spec.lr / 25, spec.lr, at / peak)
        return _half_cosine(spec.lr, spec.lr / 250_000, (at - peak) / (left - 1 - peak))
    return spec.lr


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))


def optimizer(spec: RunSpec, program: Program | EagerProgram) -> torch.optim.Optimizer:
    """torch's own, a parameter group for every learning rate and decay; `multiplier` is the group's share of the rate.

    With a side such a group is cut into pieces, which share one learning rate.

    Fused and elementwise, so that stacked replicas are updated as if alone; torch's default for the eager engine. A
    captured step reads each group's rate from the device, where the host cannot reach in between.
    """
    groups = _groups(spec, program)
    fused = True if spec.engine == "fused" else None
    if spec.optimizer == "adam":
        kind = Adam if spec.engine == "fused" and program.captured else torch.optim.Adam
        return kind(groups, fused=fused, capturable=program.captured)
    return torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.nesterov, fused=fused)


def _groups(spec: RunSpec, program: Program | EagerProgram) -> list[dict[str, Any]]:
    treated, usual = treatments(spec, program.network), Treatment(1.0, spec.weight_decay)
    leaves: dict[Treatment, list[Tensor]] = {}
    for name, packed in program.parameters.items():
        # where norms are mixed there are no groups, and the network of the first replica may lack this parameter
        leaves.setdefault(treated.get(name, usual), []).extend(packed.leaves)
    return [
        {"params": piece, "lr": rate, "multiplier": treatment.lr, "weight_decay": treatment.weight_decay}
        for treatment, held in leaves.items()
        for rate in [_rate(spec.lr * treatment.lr, program)]
        for piece in ([held] if program.side is None else pieces(held))
    ]


def _rate(lr: float, program: Program | EagerProgram) -> float | Tensor:
    return torch.tensor(lr, device=program.device) if program.captured else lr


def treatments(spec: RunSpec, network: nn.Module) -> dict[str, Treatment]:
    """Learning rate and decay by parameter name: those of the first group that matches, else the RunSpec's."""
    kinds = parameter_kinds(network)
    treated = dict.fromkeys(kinds, Treatment(1.0, spec.weight_decay))
    for group in reversed(spec.groups):
        decay = spec.weight_decay if group.weight_decay is None else group.weight_decay
        treated |= dict.fromkeys(matching(group.parameters, kinds), Treatment(group.lr, decay))
    return treated


def penalised(spec: RunSpec, program: Program | EagerProgram) -> list[Tensor]:
    """The leaves that the penalty is taken of."""
    if spec.penalty is None:
        return []
    names = matching(spec.penalty.parameters, parameter_kinds(program.network))
    return [leaf for name, packed in program.parameters.items() if name in names for leaf in packed.leaves]


def penalty(spec: RunSpec, leaves: Iterable[Tensor]) -> Tensor:
    """strength * sum |w|^p over the leaves of all replicas; a replica's gradient knows its own weights only."""
    assert spec.penalty is not None
    return spec.penalty.strength * torch.stack([leaf.abs().pow(spec.penalty.p).sum() for leaf in leaves]).sum()


def moves_dead_taps(spec: RunSpec, network: nn.Module) -> bool:
    """Whether decay or a penalty moves the weights of convolutions that never meet data."""
    kinds = parameter_kinds(network)
    kernels = matching("kernels", kinds)
    shrinks = set() if spec.penalty is None else matching(spec.penalty.parameters, kinds)
    treated = treatments(spec, network)
    return bool(kernels & shrinks) or any(treated[name].weight_decay for name in kernels)


def matching(parameters: str, kinds: Mapping[str, str]) -> set[str]:
    """The parameters that a group's name stands for; a pattern that matches none is a SpecError.

    One of KINDS may be empty: BatchNorm-minus trains no parameter of a norm.
    """
    if parameters in KINDS:
        return {name for name, kind in kinds.items() if kind == parameters}
    found = {name for name in kinds if fnmatchcase(name, parameters)}
    if not found:
        raise SpecError(
            f"the pattern {parameters!r} matches no parameter: expected {', '.join(KINDS)} or a pattern of names such "
            f"as {next(iter(kinds), 'conv1.weight')}"
        )
    return found


def parameter_kinds(network: nn.Module) -> dict[str, str]:
    """One of KINDS, or "", for every parameter by its name in the state dict."""
    owners, linear = dict.fromkeys(norm_slots(network), "norms"), ""
    for path, module in network.named_modules():
        if path in owners:
            continue
        if isinstance(module, nn.modules.conv._ConvNd):
            owners[path] = "kernels"
        elif isinstance(module, nn.Linear):
            linear = path
    if linear:
        owners[linear] = "head"
    return {name: _kind(name, owners) for name, _ in network.named_parameters(remove_duplicate=False)}


def _kind(name: str, owners: Mapping[str, str]) -> str:
    """The kind of the outermost module that owns this parameter; the bias of a convolution has none."""
    parts = name.split(".")
    for length in range(1, len(parts)):
        kind = owners.get(".".join(parts[:length]))
        if kind is not None:
            return "" if kind == "kernels" and parts[length:] == ["bias"] else kind
    return ""
