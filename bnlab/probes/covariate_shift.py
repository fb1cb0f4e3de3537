"""Internal covariate shift as a change of gradients.

Santurkar, Tsipras, Ilyas & Madry 2018, "How Does Batch Normalization Help Optimization?", definition 2.1; the paper's
section 2.4.1.
"""

from copy import deepcopy

from torch import Tensor, nn

from bnlab.probes.averages import Averages, deep_layers, gradients
from bnlab.probes.probe import Batch, Moment, View

State = dict[str, Tensor]


class CovariateShift(Averages):
    """How far the update of the layers before a layer moves this layer's gradient, G, on the same batch.

    G' is the gradient where the parameters that the network lists before the layer's weight are those after the step
    and all others those before it. Means over the steps and over two layers, that in the middle and the last one:

    shift          ||G - G'||, in units of the gradient
    relative       ||G - G'|| / ||G||, for networks whose gradients differ in length
    uncorrelated   1 - cosine of G and G': 0 where their directions agree
    """

    def before(self, moment: Moment, view: View) -> None:
        """Keep the network's state and the gradients G."""
        network = view.network()
        self.old = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.weights = [f"{name}.weight" for name in deep_layers(view)]
        _, self.found = gradients(network, view.batch, self.weights)

    def read(self, moment: Moment, view: View) -> None:
        """Compare each G with its G'."""
        network = view.network()
        new = network.state_dict()
        for weight, g in zip(self.weights, self.found, strict=True):
            self.compare(g, gradient_behind(deepcopy(network), view.batch, self.old, new, weight))
        del self.old, self.found

    def compare(self, g: Tensor, moved: Tensor) -> None:
        """Note what lies between G and G'."""
        g, moved = g.double().flatten(), moved.double().flatten()
        shift, length = float((g - moved).norm()), float(g.norm())
        cosine = float(g @ moved / (g.norm() * moved.norm()))
        self.note(shift=shift, relative=shift / length if length else float("nan"), uncorrelated=1 - cosine)


def gradient_behind(network: nn.Module, batch: Batch, old: State, new: State, weight: str) -> Tensor:
    """The gradient of this weight where only the parameters listed before it are the new ones."""
    names = [name for name, _ in network.named_parameters()]
    network.load_state_dict(old | {name: new[name] for name in names[: names.index(weight)]})
    return gradients(network, batch, [weight])[1][0]
