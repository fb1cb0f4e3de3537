"""One number per Run of an Arm: what a hypothesis is judged on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The values of one metric over the Runs of one arm, in seed order.

    `values` are in `unit` (percentage points for accuracies); `seeds` and `digests` name the Runs
    behind them; `diverged` marks Runs whose loss stopped being finite; `accuracies`, in percent,
    tell which Runs have collapsed: the values where they are accuracies themselves, otherwise the
    Runs' test accuracies, or 100 for what was read in the first update. `metric` is the name of
    what was measured.
    """

    label: str
    unit: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    digests: tuple[str, ...]
    diverged: tuple[bool, ...]
    accuracies: tuple[float, ...]
    metric: str = ""
