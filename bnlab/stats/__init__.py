"""How samples become a Verdict: hypotheses, intervals, seeds needed and the family of claims; numpy and scipy only."""

from bnlab.stats.family import family
from bnlab.stats.hypothesis import Hypothesis
from bnlab.stats.interval import LEVEL
from bnlab.stats.kinds import (
    Beaten,
    Equivalence,
    Identity,
    Interaction,
    NonInferiority,
    Ordering,
    Superiority,
)
from bnlab.stats.margins import Margin, nats, points
from bnlab.stats.replication import Replication
from bnlab.stats.sample import Sample
from bnlab.stats.stability import CHANCE
from bnlab.stats.verdict import ArmSummary, Verdict

__all__ = [
    "CHANCE",
    "LEVEL",
    "ArmSummary",
    "Beaten",
    "Equivalence",
    "Hypothesis",
    "Identity",
    "Interaction",
    "Margin",
    "NonInferiority",
    "Ordering",
    "Replication",
    "Sample",
    "Superiority",
    "Verdict",
    "family",
    "nats",
    "points",
]
