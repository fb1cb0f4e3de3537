"""Samples from which no verdict may be drawn: each is an error in one sentence."""

import math
from collections.abc import Sequence
from numbers import Real

from bnlab.errors import StatisticsError
from bnlab.stats.arms import Arms
from bnlab.stats.sample import Sample

_SUSPICIOUS = 4
"""Equal values in one arm that no chance explains."""


def check_samples(samples: Sequence[Sample], unit: str | None) -> None:
    """Raise a StatisticsError unless these samples can stand in one contrast in this unit.

    Values may be non-finite only where the Run is marked diverged. `unit` is None where any will
    do.
    """
    for sample in samples:
        _check_alone(sample, unit)
    first = samples[0]
    for sample in samples[1:]:
        if set(sample.seeds) != set(first.seeds):
            raise StatisticsError(
                f"{first.label} has the seeds {_seeds(first)} and {sample.label} has {_seeds(sample)}: arms are "
                "compared on the same seeds; train the missing ones"
            )
    owner: dict[tuple[str, str], str] = {}  # two metrics of one Run may be compared, such as two of its evaluations
    for sample in samples:
        for seed, digest in zip(sample.seeds, sample.digests, strict=True):
            run = f"{sample.label} seed {seed}"
            if other := owner.get((sample.metric, digest)):
                raise StatisticsError(
                    f"{other} and {run} are one and the same Run (digest {digest[:12]}): every seed of every "
                    "arm needs a Run of its own; check the store"
                )
            owner[sample.metric, digest] = run


def ties(samples: Sequence[Sample], arms: Arms) -> str:
    """The arms whose few stable Runs tie, so that their spread is unknown; "" if there are none.

    From four Runs on that is a StatisticsError. Two or three accuracies on 10,000 images may tie,
    four do so where the metric or its images can tell no seeds apart, and a variance of 0 would
    prove anything.
    """
    found = []
    for sample, values, bad in zip(samples, arms.values, arms.collapsed, strict=True):
        stable = values[~bad]
        if len(stable) < 2 or stable.min() < stable.max():
            continue
        if len(stable) >= _SUSPICIOUS:
            raise StatisticsError(
                f"all {len(stable)} values of {sample.label} are {stable[0]:g}, from Runs that differ: a variance of 0 "
                "would prove anything; take images or a metric on which seeds differ"
            )
        found.append(f"the {len(stable)} values of {sample.label} tie at {stable[0]:g}, so their spread is unknown")
    return "; ".join(found)


def _check_alone(sample: Sample, unit: str | None) -> None:
    count = len(sample.values)
    columns = (sample.seeds, sample.digests, sample.diverged, sample.accuracies)
    if any(len(column) != count for column in columns):
        raise StatisticsError(
            f"the sample {sample.label} has {count} values but {', '.join(str(len(column)) for column in columns)} "
            "seeds, digests, diverged marks and accuracies: give one of each per Run"
        )
    if count < 2:
        raise StatisticsError(f"{sample.label} has n = {count}: an interval takes at least 2 seeds; train more")
    if len(set(sample.seeds)) != count:
        raise StatisticsError(
            f"{sample.label} has the seeds {_seeds(sample)}: every seed may stand once; check the store"
        )
    if unit is not None and sample.unit != unit:
        raise StatisticsError(
            f"{sample.label} is measured in {sample.unit} and the margin is in {unit}: give the margin in {sample.unit}"
        )
    for seed, diverged, *numbers in zip(sample.seeds, sample.diverged, sample.values, sample.accuracies, strict=True):
        no_number = [number for number in numbers if not isinstance(number, Real)]
        if no_number:
            raise StatisticsError(
                f"{sample.label} has the value {no_number[0]!r} at seed {seed}: a metric has to give a number"
            )
        strange = [number for number in numbers if not math.isfinite(number)]
        if strange and not diverged:
            raise StatisticsError(
                f"{sample.label} has the value {strange[0]} at seed {seed}, a Run that is not marked as diverged: "
                "check the metric and the store"
            )


def _seeds(sample: Sample) -> str:
    return ", ".join(str(seed) for seed in sorted(sample.seeds))
