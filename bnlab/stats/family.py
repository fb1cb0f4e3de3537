"""The family of all claims: which of them ask the same, and their q-values."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from bnlab.errors import StatisticsError
from bnlab.stats.rule import Tester

REGISTERED = 131
"""Distinct contrasts that the pages in `hypotheses/` judge: the size of the family, however few are selected."""


class Labelled(Protocol):
    """A sample, or what stands for it before its Runs are there."""

    @property
    def label(self) -> str:
        """What was measured of which arm."""
        ...


def contrast(tester: Tester, samples: Sequence[Labelled]) -> str:
    """A digest of what is compared: equal for the same numbers, weights and thresholds."""
    found = sorted(tester.contrasts_of([sample.label for sample in samples]))
    return hashlib.sha256("\n".join(found).encode()).hexdigest()[:16]


def family(p_values: Mapping[str, float], registry_size: int) -> dict[str, float]:
    """Benjamini–Hochberg q-values of judged contrasts, over a registry of `registry_size`.

    `p_values` are `Verdict.p` by `Verdict.contrast`: p over all looks of the smaller of both
    directions, one of which is always true, so that it needs no doubling. Contrasts that were not
    judged count as p = 1, so a q-value does not shrink because fewer claims were selected.

    Source: Benjamini & Hochberg (1995), "Controlling the false discovery rate", JRSS B 57.
    """
    if registry_size < len(p_values):
        raise StatisticsError(
            f"{len(p_values)} contrasts were judged out of a registry of {registry_size}: count every registered one"
        )
    wrong = {name: p for name, p in p_values.items() if not (math.isfinite(p) and 0 <= p <= 1)}
    if wrong:
        name, p = next(iter(wrong.items()))
        raise StatisticsError(f"the p-value of {name} is {p!r}: expected a number from 0 to 1")
    names = sorted(p_values, key=lambda name: p_values[name])
    raw = np.array([p_values[name] * registry_size / rank for rank, name in enumerate(names, start=1)])
    q = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return {name: float(value) for name, value in zip(names, q, strict=True)}
