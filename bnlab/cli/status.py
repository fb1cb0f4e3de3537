"""`python -m bnlab status`: what is finished and what is in progress."""

import sys
from collections import Counter
from collections.abc import Sequence

from bnlab.cli.common import Arguments, settings
from bnlab.store import Store
from bnlab.words import count


def run(arguments: Arguments) -> int:
    """Print how many Runs of each RunSpec are finished, and which are in progress."""
    store = Store.read(settings(arguments).store)
    skipped: list[str] = []
    finished = Counter(run.spec for run in store.runs(probes=False, skipped=skipped))
    for spec, number in sorted(finished.items(), key=lambda entry: str(entry[0])):
        print(f"{spec}: {number} finished (data {spec.data[:12]})")
    progress = store.progress()
    for work in progress:
        state = "locked by another user" if work.locked is None else "in training" if work.locked else "interrupted"
        kept = f"{work.epoch} of {count(work.replicate.spec.epochs, 'epoch')} kept in {work.size / 1e6:.0f} MB"
        print(f"{work.replicate}: {state}, {kept}" + (f" ({work.by})" if work.by else ""))
    training = sum(bool(work.locked) for work in progress)
    print(f"{count(finished.total(), 'Run')} finished, {training} in training, {len(progress) - training} interrupted")
    return left_out(skipped)


def left_out(skipped: Sequence[str]) -> int:
    """Name what the store could not give; the exit code."""
    for sentence in skipped:
        print(f"bnlab: left out: {sentence}", file=sys.stderr)
    return 2 if skipped else 0
