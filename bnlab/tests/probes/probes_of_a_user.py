"""Probes as a user may write them."""

import numpy as np
import torch
import torch.nn.functional as F

from bnlab.probes import Probe


class Everything(Probe):
    """Does at every second step whatever could disturb a Run."""

    def __init__(self):
        self.losses = []

    def wants(self, moment):
        return moment.step % 2 == 0

    def before(self, moment, view):
        self._disturb(view)

    def read(self, moment, view):
        self._disturb(view)
        view.gradient(f"{view.layers[0]}.weight").fill_(7)
        self.losses.append(view.loss)

    def _disturb(self, view):
        torch.manual_seed(1)
        torch.rand(5)
        batch = view.batch
        batch.images.mul_(0.5), batch.labels.zero_(), batch.indices.zero_()
        network, batch = view.network(), view.batch
        F.cross_entropy(network(batch.images), batch.labels).backward()
        torch.optim.SGD(network.parameters(), lr=1.0).step()
        view.logits("train", batch.images), view.logits("eval", batch.images)
        view.activations(view.layers)[view.layers[0]].zero_(), view.inputs(view.layers)
        view.weight(f"{view.layers[0]}.weight").zero_()

    def readings(self):
        return {"losses": np.array(self.losses), "last": self.losses[-1]}

    def state(self):
        return {"losses": np.array(self.losses), "count": len(self.losses)}

    def restore(self, state):
        assert len(state["losses"]) == state["count"]
        self.losses = list(state["losses"])


class Asks(Probe):
    """Asks for a name that is not there."""

    asks = staticmethod(lambda view: view.weight("conv9.weight"))

    def wants(self, moment):
        return True

    def read(self, moment, view):
        self.asks(view)


class AsksForModule(Asks):
    """Asks for a module that is not there."""

    asks = staticmethod(lambda view: view.activations(["layer9"]))


class Needy(Probe):
    """Cannot be made without an argument."""

    def __init__(self, argument):
        self.argument = argument


class NoProbe:
    """Not a probe."""
