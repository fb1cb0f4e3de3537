"""Lines on the terminal while a session goes on, past pytest's capturing."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress

import pytest

from bnlab.errors import BnlabError
from bnlab.progress import Watcher
from bnlab.store import Store

EVERY, LOOK = 30.0, 2.0
"""Seconds between lines of progress, and between looks at the store."""

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
    """Writes every so many seconds how far a session is; it looks oftener, to miss no Run."""

    def __init__(self, store: Store, write: Write, every: float = EVERY, look: float = LOOK) -> None:
        super().__init__(daemon=True, name="bnlab-watch")
        self.watcher = Watcher(store)
        self._write, self._every, self._look = write, every, look
        self._done = threading.Event()

    def run(self) -> None:
        """Until `stop`; a store that cannot be read is for the workers to report."""
        last = time.monotonic()
        while not self._done.wait(self._look):
            try:
                self.watcher.look()
            except (BnlabError, OSError):
                continue
            if time.monotonic() - last >= self._every and (text := self.watcher.line()) and not self._done.is_set():
                last = time.monotonic()
                self._write(text)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._done.set()
        self.join(timeout=5)

    def kept(self) -> list[str]:
        """What the session leaves behind; the thread has ended."""
        with suppress(BnlabError, OSError):
            self.watcher.look()
        return self.watcher.kept()
