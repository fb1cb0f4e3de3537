"""The earth mover's distance that an update moves outputs and gradients.

Huang & Yu 2020, "An Internal Covariate Shift Bounding Algorithm for Deep Neural Networks by Unitizing Layers' Outputs",
measure covariate shift by the distance of a layer's outputs; the paper's section 2.4.2 says of its gradient.
"""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bnlab.probes.averages import Averages, deep_layers, gradients
from bnlab.probes.probe import Moment, View, as_array

Entries = NDArray[np.float64]


class EarthMover(Averages):
    """Distance between the distributions of entries before and after the update, on the batch of the step.

    Means over the steps and over two layers, that in the middle and the last one, in standard deviations before:

    output     of the layer's outputs
    gradient   of the gradient of its weight
    """

    def before(self, moment: Moment, view: View) -> None:
        """Keep the entries as the step finds them."""
        self.kept = entries(view)

    def read(self, moment: Moment, view: View) -> None:
        """Compare them with those that the step left."""
        for kind, after in entries(view).items():
            for one, other in zip(self.kept[kind], after, strict=True):
                deviation = float(one.std())
                self.note(**{kind: distance(one, other) / deviation if deviation else float("nan")})
        del self.kept


def entries(view: View) -> dict[str, list[Entries]]:
    """The entries of the outputs and of the gradients, by layer."""
    layers, network = deep_layers(view), view.network()
    outputs: dict[str, Entries] = {}

    def keep(name: str, module: nn.Module, given: tuple[Tensor, ...], gave: Tensor) -> None:
        outputs[name] = as_array(gave.clone())  # the next module may change it in place

    for name in layers:
        network.get_submodule(name).register_forward_hook(partial(keep, name))
    _, found = gradients(network, view.batch, [f"{name}.weight" for name in layers])
    return {"output": [outputs[name] for name in layers], "gradient": [as_array(g) for g in found]}


def distance(one: Entries, other: Entries) -> float:
    """The earth mover's distance of two samples of one size: what scipy.stats.wasserstein_distance gives."""
    return float(np.abs(np.sort(one) - np.sort(other)).mean())
