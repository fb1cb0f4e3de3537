"""Lines on the terminal while a session goes on, past pytest's capturing."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from bnlab.errors import BnlabError
from bnlab.store import Store

EVERY = 10.0
"""Seconds between lines of progress."""

_SHOWN = 3

Write = Callable[[str], None]


def writer(config: pytest.Config) -> Write:
    """What writes a line on the terminal of this process."""

    def write(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        capture = config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or config.option.verbose < -1:
            return
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            if config.get_terminal_writer().width_of_current_line:
                reporter.line("")
            reporter.line(line)

    return write


class Throttle:
    """Passes on a line at most every so many seconds, and leaves the others out."""

    def __init__(self, write: Write, every: float = EVERY) -> None:
        self._write, self._every, self._last = write, every, time.monotonic()

    def __call__(self, text: str) -> None:
        """Write the line, or leave it out."""
        if time.monotonic() - self._last >= self._every:
            self._last = time.monotonic()
            self._write(text)


class Watch(threading.Thread):
    """Writes every few seconds what the workers train; they have no terminal."""

    def __init__(self, store: Store, write: Write, every: float = EVERY) -> None:
        super().__init__(daemon=True, name="bnlab-watch")
        self._store, self._write, self._every = store, write, every
        self._done = threading.Event()

    def run(self) -> None:
        """Until `stop`; a store that cannot be read is for the workers to report."""
        while not self._done.wait(self._every):
            try:
                text = in_training(self._store)
            except (BnlabError, OSError):
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
    shown = "; ".join(f"{run.replicate} ({run.epoch} of {run.replicate.spec.epochs} epochs)" for run in now[:_SHOWN])
    return f"in training: {shown}" + (f"; and {len(now) - _SHOWN} more" if len(now) > _SHOWN else "")
