"""Which Runs have collapsed, so that the mean of their arm describes no Run."""

import numpy as np

from bnlab.stats.interval import Flags, Numbers
from bnlab.stats.sample import Sample

CHANCE = 12.0
"""Test accuracy in percent up to which a network of ten classes has learnt nothing."""

FAR = 5.0
"""Points below the arm's median within which no Run has collapsed, unless below a gap."""

ROBUST_SDS = 6.0
"""Robust sds (1.4826 times the median absolute deviation) that far below takes as well."""

GAP = 10.0
"""Points between two neighbouring accuracies of an arm up to which they belong together."""

GAP_SDS = 4.0
"""Standard deviations within the two groups that a gap has to exceed as well."""


def collapsed(accuracies: Numbers, diverged: Flags) -> Flags:
    """The Runs, [..., n], that diverged, stayed at chance, or lie far below their arm or a gap.

    Far is more than max(5 points, 6 robust sd) below the median. A gap is more than max(10 points,
    4 sd within the two groups that it parts) between neighbours: it also sees an arm of which half
    or more has collapsed, where the median and the robust sd see nothing. A healthy normal arm of
    sd 1 is never called collapsed, one of sd 3 in 3 % of cases over three looks.
    """
    bad = diverged | ~np.isfinite(accuracies)
    finite = np.where(bad, np.nan, accuracies)
    known = np.where(bad.all(axis=-1, keepdims=True), 0.0, finite)
    median = _median(known)
    far = np.maximum(FAR, ROBUST_SDS * 1.4826 * _median(np.abs(known - median)))
    return bad | (known <= CHANCE) | (known < np.maximum(median - far, _lowest_above_gaps(known)))


def _median(values: Numbers) -> Numbers:
    """The median over the last axis, kept with length 1; NaN is left out."""
    ordered, last = np.sort(values, axis=-1), np.isfinite(values).sum(axis=-1, keepdims=True) - 1
    low, high = (np.take_along_axis(ordered, index, axis=-1) for index in (last // 2, (last + 1) // 2))
    median: Numbers = (low + high) / 2
    return median


def _lowest_above_gaps(accuracies: Numbers) -> Numbers:
    """The lowest accuracy above every gap of each arm, [..., 1]; -inf without a gap."""
    ordered = np.sort(accuracies, axis=-1)
    found = np.full(ordered.shape[:-1], -np.inf)
    for split in range(1, ordered.shape[-1]):
        gap = ordered[..., split] - ordered[..., split - 1]
        if not (gap > GAP).any():
            continue
        groups = ordered[..., :split], ordered[..., split:]
        squares = sum(np.nansum((group - np.nanmean(group, -1, keepdims=True)) ** 2, axis=-1) for group in groups)
        freedom = np.maximum(np.isfinite(ordered).sum(axis=-1) - 2, 1)
        found = np.where(gap > np.maximum(GAP, GAP_SDS * np.sqrt(squares / freedom)), ordered[..., split], found)
    return found[..., None]


def unstable_runs(sample: Sample) -> tuple[str, ...]:
    """One phrase for each collapsed Run of the sample; they are counted, shown and never replaced."""
    accuracies = np.array(sample.accuracies, dtype=np.float64)
    bad = collapsed(accuracies, np.array(sample.diverged, dtype=np.bool_))
    others = [float(accuracy) for accuracy, out in zip(accuracies, bad, strict=True) if not out]
    phrases = []
    for seed, accuracy, diverged, out in sorted(
        zip(sample.seeds, accuracies.tolist(), sample.diverged, bad.tolist(), strict=True)
    ):
        if not out:
            continue
        what = "diverged" if diverged else f"{accuracy:.2f} %, at chance"
        if not diverged and accuracy > CHANCE:
            what = f"{accuracy:.2f} %, far below the {np.mean(others):.2f} % of the others"
        phrases.append(f"{sample.label}, seed {seed}: {what}")
    return tuple(phrases)
