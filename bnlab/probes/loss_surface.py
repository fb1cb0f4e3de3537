"""The loss and its gradient along a step of gradient descent.

Santurkar, Tsipras, Ilyas & Madry 2018, "How Does Batch Normalization Help Optimization?", section 3.2 and figure 4; the
paper's section 2.4.1. Public notebooks compare training runs of several learning rates instead, which is another thing.
"""

import math
from copy import deepcopy

import torch
from torch import Tensor

from bnlab.probes.averages import Averages, gradients
from bnlab.probes.probe import Moment, View

STEPS = (0.05, 0.1, 0.2, 0.4)
"""Lengths of the steps in units of the gradient: a half to four times the learning rate 0.1 of [21]."""


class LossSurface(Averages):
    """Loss and gradient at theta - eta * g on the batch of the step, for each eta of STEPS, g the gradient at theta.

    theta are all trained parameters. Readings, over those eta that give finite numbers, are means of logarithms over
    the steps of training, taken back by the exponential:

    variation        largest - smallest loss over eta, 0 included; nats
    lipschitz        largest |change of the loss| / ||eta * g||
    predictiveness   largest ||change of the gradient||
    smoothness       largest ||change of the gradient|| / ||eta * g||, the effective beta
    scale_free       smoothness times the squared length of all weights of convolutions and linear layers, to whose
                     length a norm makes the loss blind, and the smoothness not
    exploded         share of the steps of training at which some eta gave a number that is not finite, a plain mean
    """

    def before(self, moment: Moment, view: View) -> None:
        """Look around from where the step starts."""
        network, batch = view.network(), view.batch
        names = [name for name, p in network.named_parameters() if p.requires_grad]
        loss, g = gradients(deepcopy(network), batch, names)
        length, losses, changes = _length(g), [loss], []
        for eta in STEPS:
            probed = deepcopy(network)
            with torch.no_grad():
                for name, slope in zip(names, g, strict=True):
                    probed.get_parameter(name).sub_(slope, alpha=eta)
            there, moved = gradients(probed, batch, names)
            losses.append(there)
            changes.append(_length([a - b for a, b in zip(moved, g, strict=True)]))
        finite = [i for i, both in enumerate(zip(losses[1:], changes, strict=True)) if all(map(math.isfinite, both))]
        self.note(exploded=float(len(finite) < len(STEPS)))
        if not finite or not length:
            return
        seen = [loss, *(losses[1 + i] for i in finite)]
        smoothness = max(changes[i] / (STEPS[i] * length) for i in finite)
        kernels = sum(float(p.detach().square().sum()) for p in network.parameters() if p.ndim > 1)
        self.note(
            variation=_log(max(seen) - min(seen)),
            lipschitz=_log(max(abs(losses[1 + i] - loss) / (STEPS[i] * length) for i in finite)),
            predictiveness=_log(max(changes[i] for i in finite)),
            smoothness=_log(smoothness),
            scale_free=_log(smoothness * kernels),
        )

    def readings(self) -> dict[str, float]:
        """Geometric means, and the plain one of `exploded`."""
        return {name: mean if name == "exploded" else math.exp(mean) for name, mean in super().readings().items()}


def _length(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))


def _log(number: float) -> float:
    return math.log(number) if number > 0 else -math.inf
