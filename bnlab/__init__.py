"""Every claim of a paper as a pytest test, judged on many seeds: the public names.

Importing this package imports no torch: claims can be collected, planned and judged without it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from bnlab.errors import BnlabError, DataError, DeviceError, SpecError, StatisticsError, StoreError
from bnlab.lab import Lab
from bnlab.notebook import ask, judge, needed, open_lab, table
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
    Part,
    ResNet,
)
from bnlab.protocol import PAPER, QUICK, SMOKE, Protocol
from bnlab.runs import (
    Arm,
    Metric,
    Run,
    accuracy,
    batch_accuracy,
    best_epoch_gain,
    first_accuracy,
    generalization_gap,
    last_accuracy,
    log_reading,
    mean_accuracy,
    reading,
    recalibrated_accuracy,
    recalibration_gain,
    train_accuracy,
    train_loss,
)
from bnlab.specs import Group, Penalty, Replicate, RunSpec
from bnlab.stats import (
    Beaten,
    Definition,
    Equivalence,
    Every,
    Interaction,
    NonInferiority,
    Ordering,
    Pooled,
    Replication,
    Sample,
    Separation,
    Stability,
    Superiority,
    Verdict,
    log_ratio,
    nats,
    points,
    ratio,
)

if TYPE_CHECKING:
    from bnlab.nets.effects import Domains, Effects, Start
    from bnlab.nets.facts import NetFacts
    from bnlab.norms.facts import LayerFacts


def describe(net: Net, norm: Norm) -> "NetFacts":
    """What one network with one norm is made of, read off the built network; imports torch."""
    from bnlab.nets import facts

    return facts.describe(net, norm)


def describe_layer(norm: Norm) -> "LayerFacts":
    """What one layer does with a batch, found by giving it one; imports torch."""
    from bnlab.norms import facts

    return facts.describe_layer(norm)


def describe_effects(norm: Norm, parametrization: Part | None = None) -> "Effects":
    """What one layer, or a parametrization, does with a convolution before it; imports torch."""
    from bnlab.nets import effects

    return effects.effects(norm, parametrization)


def describe_start(net: Net, norm: Norm) -> "Start":
    """How an untrained residual network starts, and which parts learn in its first steps; imports torch."""
    from bnlab.nets import effects

    return effects.start(net, norm)


def describe_domains(norm: Norm) -> "Domains":
    """What one layer makes of a batch of two domains; imports torch."""
    from bnlab.nets import effects

    return effects.domains(norm)


def same_layer(one: Norm, other: Norm) -> bool:
    """Whether two layers, untrained, give the same numbers in training and in evaluation; imports torch."""
    from bnlab.norms import facts

    return facts.same_layer(one, other)


__all__ = [
    "AFFINE_LAYER",
    "AFFINE_PER_LAYER",
    "BATCHNORM",
    "BATCHNORM_MINUS",
    "BETA_ONLY",
    "GAMMA_ONLY",
    "NONE",
    "PAPER",
    "QUICK",
    "SMOKE",
    "Arm",
    "Beaten",
    "BnlabError",
    "DataError",
    "Definition",
    "DeviceError",
    "Equivalence",
    "Every",
    "Group",
    "Interaction",
    "Lab",
    "Metric",
    "Net",
    "NonInferiority",
    "Norm",
    "Ordering",
    "Part",
    "Penalty",
    "Pooled",
    "Protocol",
    "Replicate",
    "Replication",
    "ResNet",
    "Run",
    "RunSpec",
    "Sample",
    "Separation",
    "SpecError",
    "Stability",
    "StatisticsError",
    "StoreError",
    "Superiority",
    "Verdict",
    "accuracy",
    "ask",
    "batch_accuracy",
    "best_epoch_gain",
    "describe",
    "describe_domains",
    "describe_effects",
    "describe_layer",
    "describe_start",
    "first_accuracy",
    "generalization_gap",
    "judge",
    "last_accuracy",
    "log_ratio",
    "log_reading",
    "mean_accuracy",
    "nats",
    "needed",
    "open_lab",
    "points",
    "ratio",
    "reading",
    "recalibrated_accuracy",
    "recalibration_gain",
    "replace",
    "same_layer",
    "table",
    "train_accuracy",
    "train_loss",
]
