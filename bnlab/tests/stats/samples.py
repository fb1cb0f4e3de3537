"""Samples for the tests of bnlab.stats."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bnlab.stats import Sample

Fields = dict[str, Any]


def sample(label: str, values: Sequence[float], **fields: Any) -> Sample:
    """A sample in points on the seeds 0, 1, ... whose Runs are all distinct and, unless said, at 80 % accuracy."""
    n = len(values)
    given: Fields = {
        "label": label,
        "unit": "points",
        "values": tuple(float(value) for value in values),
        "seeds": tuple(range(n)),
        "digests": tuple(f"{label}/{seed}" for seed in range(n)),
        "diverged": (False,) * n,
        "accuracies": tuple(80.0 + 0.1 * seed for seed in range(n)),
    }
    return Sample(**{**given, **fields})


def drawn(seed: int, n: int, means: Sequence[float], sds: Sequence[float]) -> list[Sample]:
    """One normal sample per arm, labelled A, B, C, ..."""
    rng = np.random.default_rng(seed)
    return [sample(chr(65 + arm), rng.normal(means[arm], sds[arm], n)) for arm in range(len(means))]
