"""Which runs make an arm unstable, so that its mean says nothing about a typical run."""

import math

import numpy as np

from bnlab.stats.sample import Sample

CHANCE = 12.0
"""Test accuracy in percent at or below which a network of ten classes has learnt nothing (chance is 10)."""

FAR = 5.0
"""Points below the arm's median accuracy within which a run is never called far below."""

ROBUST_SDS = 6.0
"""Robust standard deviations (1.4826 times the median absolute deviation) that far below takes as well."""


def unstable_runs(sample: Sample) -> tuple[str, ...]:
    """One phrase for each run that diverged, stayed at chance or fell far below its arm's median accuracy.

    Far is more than max(5 points, 6 robust sd). Such runs stay in the arm: they are counted and shown.
    """
    finite = np.array([accuracy for accuracy in sample.accuracies if math.isfinite(accuracy)])
    median = float(np.median(finite)) if finite.size else math.nan
    spread = 1.4826 * float(np.median(np.abs(finite - median))) if finite.size else math.nan
    floor = median - max(FAR, ROBUST_SDS * spread)
    phrases = []
    for seed, accuracy, diverged in sorted(zip(sample.seeds, sample.accuracies, sample.diverged, strict=True)):
        run = f"{sample.label}, seed {seed}"
        if diverged:
            phrases.append(f"{run}: diverged")
        elif accuracy <= CHANCE:
            phrases.append(f"{run}: {accuracy:.2f} %, at chance")
        elif accuracy < floor:
            phrases.append(f"{run}: {accuracy:.2f} %, far below the arm's median of {median:.2f} %")
    return tuple(phrases)
