"""Weights and gradients of the first and the last layer in the first epoch (paper section 4.3, figures 3 and 4)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlab.probes.gradients import UPDATES, Spread, ends, times
from bnlab.probes.probe import Moment, Probe, Reading, View, as_array

SHARES = np.linspace(0, 1, 101)
"""Which quantiles are read: 0 %, 1 %, ... 100 %."""

EDGES = np.concatenate([-np.logspace(-8, 2, 61)[::-1], np.logspace(-8, 2, 61)])
"""Edges of the histogram's 121 bins: six a decade on either side from 1e-8 to 100, and one bin around zero."""

KINDS = ("weight", "gradient")


class FirstEpoch(Probe):
    """How weights and gradients are distributed over the first and the last 20 updates, and over blocks of 20.

    An update's weights are those that its gradient was taken at. LAYER is `input` or `final` (the first and the last
    layer), KIND `weight` or `gradient`, WHEN `early` or `late`. Entries of 20 updates are taken together.

        LAYER/KIND/WHEN/deviation    standard deviation of the entries, dividing by n
        LAYER/KIND/WHEN/quantiles    [101], at SHARES, interpolated linearly
        LAYER/KIND/WHEN/histogram    [121], how many entries lie between two EDGES; those beyond count in the last bin
        LAYER/product/WHEN           mean over the updates of ||w|| * ||g||, the same for a w of any length where only
                                     the direction of w counts, as in front of a norm
        LAYER/KIND/blocks            [blocks], standard deviation in updates 0 to 19, 20 to 39, ...
        LAYER/product/blocks         [blocks], mean of ||w|| * ||g|| there
    """

    def __init__(self) -> None:
        self.found: dict[str, Reading] = {}
        self.entries: dict[str, list[NDArray[np.float64]]] = {}
        self.blocks: dict[str, list[Spread]] = {}
        self.products: dict[str, list[float]] = {}
        self.weights: dict[str, NDArray[np.float64]] = {}

    def wants(self, moment: Moment) -> bool:
        """Every update of the first epoch."""
        return moment.epoch == 0

    def before(self, moment: Moment, view: View) -> None:
        """Keep the weights that the gradient will be taken at."""
        self.weights = {layer: as_array(view.weight(f"{name}.weight")) for layer, name in ends(view).items()}

    def read(self, moment: Moment, view: View) -> None:
        """Add this update; sum up at the end of the epoch."""
        for layer, name in ends(view).items():
            seen = {"weight": self.weights[layer], "gradient": as_array(view.gradient(f"{name}.weight"))}
            norms = [float(np.linalg.norm(entries)) for entries in seen.values()]
            self.products.setdefault(layer, []).append(norms[0] * norms[1])
            for kind, entries in seen.items():
                blocks = self.blocks.setdefault(f"{layer}/{kind}", [])
                if moment.step % UPDATES == 0:
                    blocks.append(Spread())
                blocks[-1].add(entries)
                for when in times(moment):
                    self.entries.setdefault(f"{layer}/{kind}/{when}", []).append(entries)
        if moment.step + 1 == moment.steps:
            self._sum_up()

    def _sum_up(self) -> None:
        for where, updates in self.entries.items():
            entries = np.concatenate(updates)
            self.found[f"{where}/deviation"] = float(entries.std())
            self.found[f"{where}/quantiles"] = np.quantile(entries, SHARES)
            self.found[f"{where}/histogram"] = histogram(entries)
        for where, blocks in self.blocks.items():
            self.found[f"{where}/blocks"] = np.array([block.deviation for block in blocks])
        for layer, products in self.products.items():
            starts = np.arange(0, len(products), UPDATES)
            lengths = np.diff(np.append(starts, len(products)))
            self.found[f"{layer}/product/early"] = float(np.mean(products[:UPDATES]))
            self.found[f"{layer}/product/late"] = float(np.mean(products[-UPDATES:]))
            self.found[f"{layer}/product/blocks"] = np.add.reduceat(products, starts) / lengths
        self.entries, self.blocks, self.products, self.weights = {}, {}, {}, {}

    def readings(self) -> Mapping[str, Reading]:
        """See the class."""
        return dict(sorted(self.found.items()))

    def state(self) -> dict[str, Any]:
        """The readings: between epochs there is nothing else."""
        return dict(self.found)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with these readings."""
        self.found = dict(state)


def histogram(entries: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many entries lie between two EDGES [121]; what lies beyond them counts in the outermost bins, NaN nowhere."""
    counts, _ = np.histogram(np.clip(entries[~np.isnan(entries)], EDGES[0], EDGES[-1]), bins=EDGES)
    return counts.astype(np.int64)
