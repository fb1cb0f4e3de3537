"""What an untrained network does with its first batch: gradients, outputs, and how far one update moves its layers.

The paper's sections 1 (exploding and vanishing gradients, internal covariate shift), 2.1.2, 2.3 and 2.4.6.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from bnlab.probes.probe import Moment, Probe, Reading, View, as_array


class AtInitialization(Probe):
    """The first update of a Run, layer by layer; LAYERS are the convolutions and linear layers in order.

    gradient/norms       [LAYERS], length of the gradient of the weight
    gradient/input       length of the first layer's gradient
    gradient/ratio       largest over smallest length
    output/deviations    [LAYERS], standard deviation of the layer's output over images, places and channels
    output/stages        [stages], the same of the network's direct children that hold a convolution
    output/last          the last of these: of a ResNet's layer4
    drift/layers         [LAYERS - 1], how far the update moves what a layer is given, for the same batch: mean over
                         the channels of |mean after - mean before| / standard deviation before; the first layer is
                         given images, which stay
    drift/deep           log of mean drift in the last third of the layers over mean drift in the first third
    """

    def __init__(self) -> None:
        self.found: dict[str, Reading] = {}
        self.inputs: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}

    def wants(self, moment: Moment) -> bool:
        """The first update."""
        return moment.epoch == moment.step == 0

    def before(self, moment: Moment, view: View) -> None:
        """Outputs of all layers and stages, and the channels' statistics of what the layers are given."""
        stages = [name for name, child in view.network().named_children() if _holds_convolution(child)]
        outputs = view.activations([*view.layers, *stages])
        self.found["output/deviations"] = np.array([_deviation(outputs[name]) for name in view.layers])
        self.found["output/stages"] = np.array([_deviation(outputs[name]) for name in stages])
        self.found["output/last"] = _deviation(outputs[stages[-1]])
        self.inputs = {name: _channels(x) for name, x in view.inputs(view.layers[1:]).items()}

    def read(self, moment: Moment, view: View) -> None:
        """Gradients of all layers, and what the update did to the layers' inputs."""
        norms = np.array([np.linalg.norm(as_array(view.gradient(f"{name}.weight"))) for name in view.layers])
        self.found["gradient/norms"] = norms
        self.found["gradient/input"] = float(norms[0])
        self.found["gradient/ratio"] = float(norms.max() / norms.min())
        drifts = []
        for name, x in view.inputs(view.layers[1:]).items():
            (before, deviation), (after, _) = self.inputs[name], _channels(x)
            drifts.append(np.mean(np.abs(after - before)[deviation > 0] / deviation[deviation > 0]))
        third = max(1, len(drifts) // 3)
        self.found["drift/layers"] = np.array(drifts)
        self.found["drift/deep"] = float(np.log(np.mean(drifts[-third:]) / np.mean(drifts[:third])))
        self.inputs = {}

    def readings(self) -> Mapping[str, Reading]:
        """See the class."""
        return dict(sorted(self.found.items()))

    def state(self) -> dict[str, Any]:
        """The readings."""
        return dict(self.found)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with these readings."""
        self.found = dict(state)


def _holds_convolution(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())


def _deviation(x: Tensor) -> float:
    return float(x.double().std(correction=0))


def _channels(x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of every channel of x [b, c, ...]."""
    rows = x.double().transpose(0, 1).flatten(1)
    return rows.mean(1).cpu().numpy(), rows.std(1, correction=0).cpu().numpy()
