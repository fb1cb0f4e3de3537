"""What a session says on the terminal: progress while it trains, and how the claims stand in the end."""

import threading
import time
from collections.abc import Callable

from bnlab.errors import StoreError
from bnlab.report.table import STATUSES, Row, Summary
from bnlab.store import Store

EVERY = 10.0
"""Seconds between lines of progress."""

_SHOWN = 3


def summary_lines(summary: Summary) -> list[str]:
    """Counts, one line for each claim that did not hold, and what was not trained."""
    counts = ", ".join(f"{count} {_word(status)}" for status, count in summary.counts().items())
    text = [f"{counts} (protocol {summary.protocol}, data {summary.source}, {summary.registry} claims in all)"]
    for status in ("refuted", "inconclusive"):
        text += [line(row) for row in summary.rows if row.status == status]
    mixed = [row for row in summary.rows if row.outcome.get("mixed")]
    if mixed:
        differing = sorted({name for row in mixed for name in row.outcome["mixed"]})
        text.append(f"{len(mixed)} claims compare Runs that were not trained alike: see mixed ({', '.join(differing)})")
    if summary.not_trained:
        text.append(summary.not_trained)
    return text


def line(row: Row) -> str:
    """One claim in one line."""
    return f"{_word(row.status).upper()} {row.nodeid}: {' '.join(row.reason.split())}"


def _word(status: str) -> str:
    assert status in STATUSES
    return "without an outcome" if status == "none" else status


class Sparingly:
    """Passes on a line at most every so many seconds."""

    def __init__(self, write: Callable[[str], None], every: float = EVERY) -> None:
        self._write, self._every, self._last = write, every, time.monotonic()

    def __call__(self, text: str) -> None:
        """Write the line, or leave it out."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._write(text)


class Progress(threading.Thread):
    """Reads the store every few seconds and says what the workers train; they have no terminal of their own."""

    def __init__(self, store: Store, write: Callable[[str], None], every: float = EVERY) -> None:
        super().__init__(daemon=True, name="bnlab-progress")
        self._store, self._write, self._every = store, write, every
        self._done = threading.Event()

    def run(self) -> None:
        """Until `stop`; a store that cannot be read is the workers' business to report."""
        while not self._done.wait(self._every):
            try:
                text = in_training(self._store)
            except StoreError:
                continue
            if text and not self._done.is_set():
                self._write(text)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._done.set()
        self.join(timeout=5)


def in_training(store: Store) -> str | None:
    """One line on the Runs that somebody trains now; None if there are none."""
    now = [run for run in store.progress() if run.locked]
    if not now:
        return None
    shown = "; ".join(f"{run.replicate} ({run.epoch} finished)" for run in now[:_SHOWN])
    return f"in training: {shown}" + (f"; and {len(now) - _SHOWN} more" if len(now) > _SHOWN else "")
