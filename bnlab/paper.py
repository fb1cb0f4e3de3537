"""The paper's own numbers and the arms that it compares, for the claims of `hypotheses/`.

Tables 4 to 7 stand here once. What the paper's numbers say about a claim is computed from them and from what the claim
hands to judge (`published`), and not typed beside the claim.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np

from bnlab.errors import StatisticsError
from bnlab.needs import PlannedSample
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Net, Norm, ResNet
from bnlab.runs import Metric, accuracy, last_accuracy, recalibrated_accuracy
from bnlab.specs import RunSpec
from bnlab.stats import AllOf, Every, Margin, Replication, Rule, Sample, log_ratio

NORMS = (BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE)
"""The rows of Table 1, in the order of every table."""

BASIC = (ResNet(18), ResNet(34))
BOTTLENECK = (ResNet(50), ResNet(101))
NETS = (*BASIC, *BOTTLENECK)
PLAIN34 = Net(
    build="bnlab.nets.plain:build", name="ResNet34 without shortcuts", macs=74e6, layers=34, parameters=21.1e6
)
BATCH_SIZES = (20, 50)

SECTIONS: Mapping[str, str] = {
    "§1": "Introduction",
    "§2.1": "How BatchNorm works",
    "§2.1.1": "Mathematics of BatchNorm",
    "§2.1.2": "Internal covariate shift",
    "§2.1.3": "What is BatchNorm trying to achieve?",
    "§2.3": "ResNet",
    "§2.4.1": "Refuting ICS",
    "§2.4.2": "Further experiments on the ICS",
    "§2.4.3": "Regularization and BatchNorm",
    "§2.4.4": "Weight normalization and BatchNorm",
    "§2.4.5": "Decoupling the length and direction of the weights",
    "§2.4.6": "Residual learning without normalization",
    "§2.4.7": "Decorrelated batch normalization",
    "§2.4.8": "Adaptive batch normalization",
    "§2.4.9": "AutoDIAL: automatic domain alignment layers",
    "§2.4.10": "Layer normalization",
    "§2.4.11": "Instance normalization",
    "§2.4.12": "Group normalization",
    "§2.4.13": "SwitchBlade normalization",
    "§3.1": "Architecture selection",
    "§3.2": "BatchNorm variants",
    "§3.3": "Implementation",
    "§4.1.1": "ResNet18 results",
    "§4.1.2": "ResNet50 results",
    "§4.2": "ResNet34 and ResNet101 experiments",
    "§4.2.1": "ResNet34 results",
    "§4.2.2": "ResNet101 results",
    "§4.3": "Analysis of weights and gradients",
    "§4.4": "Discussion",
    "§5": "Conclusion",
}
"""The headings of the sections that have claims."""

# (batch 20, batch 50) in the order of NORMS. Table 6 is printed with the label "None" lost, in the same order.
_TABLES = {
    18: ((0.7665, 0.7569), (0.6794, 0.6904), (0.7730, 0.7644), (0.6643, 0.6877)),  # Table 4
    50: ((0.7469, 0.7424), (0.6957, 0.6986), (0.5597, 0.6540), (0.6786, 0.6939)),  # Table 5
    34: ((0.7717, 0.7554), (0.6856, 0.6837), (0.7719, 0.7557), (0.6661, 0.6782)),  # Table 6
    101: ((0.6971, 0.6746), (0.7032, 0.6959), (0.4412, 0.4128), (0.6819, 0.6845)),  # Table 7
}

PRINTED: Mapping[RunSpec, float] = {
    RunSpec(net=ResNet(depth), norm=norm, batch_size=batch_size): round(100 * value, 2)
    for depth, rows in _TABLES.items()
    for norm, row in zip(NORMS, rows, strict=True)
    for batch_size, value in zip(BATCH_SIZES, row, strict=True)
}
"""Validation accuracy in percent that Tables 4 to 7 print for each arm."""

BEST: Mapping[tuple[Net, ...], tuple[float, ...]] = {
    BASIC: (76.65, 69.04, 77.30, 68.77),
    BOTTLENECK: (74.69, 69.86, 65.40, 69.39),
}
"""The best validation accuracy in percent that Table 2 (ResNet18 and 34) and Table 3 (50 and 101) print, by NORMS."""

BY_STATISTICS = {accuracy: "as written", recalibrated_accuracy: "control"}
"""The two ways in which a trained network is tested: with the running statistics of training, as the paper does, and
with statistics taken anew over training images, which shows whether a gap comes from stale statistics."""


FACTOR_OF_TWO = log_ratio(math.log(2))
"""Margin for "similar" and "modest" where the paper compares distributions (section 4.3)."""

SMALLEST_RATIO = log_ratio(0.1)
"""Smallest effect of interest of a logarithm of a ratio: some 10 percent."""


def arms(
    lab: Any,
    norms: Norm | Sequence[Norm],
    nets: Net | Sequence[Net] = NETS,
    batch_sizes: int | Sequence[int] = BATCH_SIZES,
    metric: Metric = accuracy,
) -> tuple[Sample, ...]:
    """A column of samples, one for each network, norm and batch size, in this order with the networks outermost.

    A norm without running statistics has nothing to recalibrate: its accuracy after the last epoch stands there, which
    is when the others are recalibrated.
    """
    return tuple(
        lab.train(RunSpec(net=net, norm=norm, batch_size=batch_size)).measure(
            last_accuracy if metric is recalibrated_accuracy and norm in (AFFINE_LAYER, NONE) else metric
        )
        for net in _several(nets)
        for norm in _several(norms)
        for batch_size in _several(batch_sizes)
    )


def first_epoch(lab: Any, norm: Norm, metric: Metric, probe: str = "first_epoch") -> tuple[Sample, ...]:
    """A column of samples of ResNet18 after one epoch, one for each batch size, by what a probe read."""
    specs = [RunSpec(net=ResNet(18), norm=norm, batch_size=batch_size, epochs=1) for batch_size in BATCH_SIZES]
    return tuple(lab.train(spec, probes=(probe,)).measure(metric) for spec in specs)


RESNET20 = Net(
    build="bnlab.nets.cifar_resnet:build",
    options={"depth": 20},
    name="ResNet-20",
    macs=40.6e6,
    layers=20,
    parameters=0.27e6,
)
VGG = Net(build="bnlab.nets.vgg:build", name="VGG-11", macs=153e6, layers=9)


def related(norm: Norm, **changes: Any) -> RunSpec:
    """The arm of one system of section 2.4: ten epochs of ResNet-20 at batch 100, otherwise as the paper trains.

    The last maps of this network have 8x8 pixels, so that layers which need more than one pixel have a place too.
    """
    return replace(RunSpec(net=RESNET20, norm=norm, batch_size=100, epochs=10), **changes)


FIRST_BATCHES = "cifar10:1000+1000"
"""Data of the Runs whose first update is what a claim asks for; they train 20 updates."""


def untrained(lab: Any, norm: Norm, nets: Net | Sequence[Net], metric: Metric) -> tuple[Sample, ...]:
    """A column of samples, one for each network, by what the at_initialization probe read in the first update."""
    specs = [RunSpec(net=net, norm=norm, batch_size=50, epochs=1, data=FIRST_BATCHES) for net in _several(nets)]
    return tuple(lab.train(spec, probes=("at_initialization",)).measure(metric) for spec in specs)


def _several(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, Sequence) else (values,)


def facts(norm: Norm, nets: Sequence[Net] = NETS) -> SimpleNamespace:
    """What networks with this norm are made of, as `NetFacts` has it: each name gives a tuple, one for each network."""
    from bnlab.nets.facts import describe

    each = [vars(describe(net, norm)) for net in nets]
    return SimpleNamespace(**{name: tuple(one[name] for one in each) for name in each[0]})


def pairs(column: Iterable[Sample]) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Two columns with every pair of these samples."""
    first, second = zip(*combinations(column, 2), strict=True)
    return first, second


def replicates_table(lab: Any, net: Net, margin: Margin) -> Every:
    """Every arm of a network is within the margin of the number that its table prints."""
    specs = [spec for spec in PRINTED if spec.net == net]
    return Every(
        *(
            Replication(published=PRINTED[spec], margin=margin).of(lab.train(spec).measure(last_accuracy))
            for spec in specs
        )
    )


def best_of(nets: Sequence[Net]) -> tuple[float, ...]:
    """The best accuracy of each norm over these networks and both batch sizes, in Tables 4 to 7; in percent."""
    return tuple(
        max(value for spec, value in PRINTED.items() if spec.norm == norm and spec.net in nets) for norm in NORMS
    )


def published(hypothesis: Any, *columns: Any) -> float | tuple[float, ...] | None:
    """What Tables 4 to 7 say of a planned claim, in points: its contrast, or that of each of its cells.

    Of several contrasts it is the smallest, as of the closest rival in an ordering. None where the tables do not have
    the arms, or where something else than the accuracy with running statistics is compared.
    """
    if not hasattr(hypothesis, "bind"):
        return None
    with suppress(StatisticsError):
        samples, tester = hypothesis.bind(*columns)
        return _published(tester, samples)
    return None


def _published(tester: Any, samples: Sequence[Any]) -> float | tuple[float, ...] | None:
    if isinstance(tester, AllOf):
        cells = [_published(part, [samples[index] for index in own]) for part, own in tester.parts]
        numbers = tuple(cell for cell in cells if isinstance(cell, float))
        return numbers if len(numbers) == len(cells) else None
    printed = [
        PRINTED.get(replace(sample.spec, epochs=15, data=""))
        for sample in samples
        if isinstance(sample, PlannedSample) and sample.metric in (accuracy, last_accuracy)
    ]
    if not isinstance(tester, Rule) or None in printed or len(printed) < len(samples):
        return None
    return round(float(np.min(np.asarray(tester.weights) @ np.array(printed, dtype=np.float64))), 4)
