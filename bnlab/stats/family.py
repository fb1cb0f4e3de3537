"""The family column: q-values over the whole registry of claims."""

import math
from collections.abc import Mapping

import numpy as np

from bnlab.errors import StatisticsError


def family(p_values: Mapping[str, float], registry_size: int) -> dict[str, float]:
    """Benjamini–Hochberg q-values of the claims judged, over a registry of `registry_size` claims.

    `p_values` are min(p_hold, p_refute) of each judged claim; one of the two directions is always true, so the smaller
    needs no doubling. Claims that were not judged count as p = 1, so a q-value does not shrink because fewer claims
    were selected.

    Source: Benjamini & Hochberg (1995), "Controlling the false discovery rate", JRSS B 57.
    """
    if registry_size < len(p_values):
        raise StatisticsError(
            f"{len(p_values)} claims were judged out of a registry of {registry_size}: count every registered claim"
        )
    wrong = {name: p for name, p in p_values.items() if not (math.isfinite(p) and 0 <= p <= 1)}
    if wrong:
        name, p = next(iter(wrong.items()))
        raise StatisticsError(f"the p-value of {name} is {p!r}: expected a number from 0 to 1")
    names = sorted(p_values, key=lambda name: p_values[name])
    raw = np.array([p_values[name] * registry_size / rank for rank, name in enumerate(names, start=1)])
    q = np.minimum(1.0, np.minimum.accumulate(raw[::-1])[::-1])
    return {name: float(value) for name, value in zip(names, q, strict=True)}
