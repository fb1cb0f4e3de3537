"""What the probes share that look at every fiftieth step and give averages."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, autograd, nn

from bnlab.probes.probe import Batch, Moment, Probe, View

EVERY = 50
"""Steps of an epoch from one look to the next; the first step is looked at."""


class Averages(Probe):
    """Numbers noted at every EVERY-th step of each epoch; the readings are their means over the steps."""

    def __init__(self) -> None:
        self.noted: dict[str, list[float]] = {}

    def wants(self, moment: Moment) -> bool:
        """Every EVERY-th step."""
        return moment.step % EVERY == 0

    def note(self, **numbers: float) -> None:
        """Note a number under each name."""
        for name, number in numbers.items():
            self.noted.setdefault(name, []).append(number)

    def readings(self) -> dict[str, float]:
        """The mean of each name's numbers."""
        return {name: float(np.mean(numbers)) for name, numbers in sorted(self.noted.items())}

    def state(self) -> dict[str, Any]:
        """The numbers by name."""
        return dict(self.noted)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from those numbers."""
        self.noted = {name: list(numbers) for name, numbers in state.items()}


def deep_layers(view: View) -> list[str]:
    """The layers in the middle and at the end of the network, of which [21] shows the like."""
    return [view.layers[len(view.layers) // 2], view.layers[-1]]


def gradients(network: nn.Module, batch: Batch, names: list[str]) -> tuple[float, list[Tensor]]:
    """The loss of the batch in nats, and its gradients with respect to these parameters."""
    loss: Tensor = F.cross_entropy(network(batch.images), batch.labels)
    found = autograd.grad(loss, [network.get_parameter(name) for name in names])
    return float(loss.detach()), list(found)
