"""How samples become a Verdict: hypotheses, intervals, looks and the family; no torch."""

from bnlab.stats.basis import basis
from bnlab.stats.composed import AllOf, Every, Pooled
from bnlab.stats.definition import Definition
from bnlab.stats.exact import Separation, Stability
from bnlab.stats.family import family
from bnlab.stats.hypothesis import Hypothesis, Stated
from bnlab.stats.kinds import (
    Beaten,
    Equivalence,
    Interaction,
    NonInferiority,
    Ordering,
    Replication,
    Superiority,
)
from bnlab.stats.later import further
from bnlab.stats.looks import LAST, LEVELS
from bnlab.stats.margins import Margin, log_ratio, nats, points, ratio
from bnlab.stats.rule import Rule
from bnlab.stats.sample import Sample
from bnlab.stats.stability import CHANCE
from bnlab.stats.verdict import ArmSummary, Cell, Verdict

__all__ = [
    "CHANCE",
    "LAST",
    "LEVELS",
    "AllOf",
    "ArmSummary",
    "Beaten",
    "Cell",
    "Definition",
    "Equivalence",
    "Every",
    "Hypothesis",
    "Interaction",
    "Margin",
    "NonInferiority",
    "Ordering",
    "Pooled",
    "Replication",
    "Rule",
    "Sample",
    "Separation",
    "Stability",
    "Stated",
    "Superiority",
    "Verdict",
    "basis",
    "family",
    "further",
    "log_ratio",
    "nats",
    "points",
    "ratio",
]
