"""What is said beside a verdict of an early look when more Runs of its arms are recorded."""

from collections.abc import Sequence

from bnlab.stats import words
from bnlab.stats.sample import Sample
from bnlab.stats.stability import unstable_runs
from bnlab.stats.verdict import Verdict


def further(frozen: Verdict, arms: Sequence[Sample], now: Verdict | None = None) -> str:
    """One or two sentences on the Runs beyond those of the frozen verdict; "" if there are none.

    `arms` are the samples of the verdict's arms in its order, with every recorded seed, which need
    not be equally many. `now` is what the hypothesis says at the last look that all of them have
    reached, if that is beyond the verdict's. The frozen verdict stays; a reader can see whether it
    would be another one, and which of the further Runs collapsed.
    """
    counts = [len(sample.seeds) - n for sample, n in zip(arms, frozen.n or (), strict=True)]
    if not any(count > 0 for count in counts):
        return ""
    known = {_run(phrase) for phrase in frozen.unstable}
    fell = [phrase for sample in arms for phrase in unstable_runs(sample) if _run(phrase) not in known]
    collapsed = f"{len(fell)} collapsed ({words.some(fell)})" if fell else "none of them collapsed"
    text = f"{sum(counts)} further runs of these arms are recorded, {collapsed}."
    if now is None or now.n is None:
        return text
    agree = "too" if now.status == frozen.status else "instead"
    return f"{text} With {words.seeds(now.n)} the claim would be {now.status} {agree}: {words.finding(now.reason)}."


def _run(phrase: str) -> str:
    return phrase.partition(": ")[0]
