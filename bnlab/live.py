"""Following a training: a view that keeps its place on a terminal, and one calm line at a time elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bnlab.errors import BnlabError
from bnlab.progress import Watcher
from bnlab.store import Store

EVERY, LOOK = 30.0, 2.0
"""Seconds between lines of progress, and between looks at the store."""

Show = Callable[[Watcher], None]


def lines(write: Callable[[str], None], every: float = EVERY, *, at_once: bool = False) -> Show:
    """Writes one line every so many seconds, the first one then too or `at_once`."""
    last = -every if at_once else time.monotonic()

    def show(watcher: Watcher) -> None:
        nonlocal last
        if time.monotonic() - last >= every and (text := watcher.line()):
            last = time.monotonic()
            write(text)

    return show


@contextmanager
def display(*, at_once: bool = False) -> Iterator[Show]:
    """Shows how far a training is while the context lasts: in place on a terminal, else line by line."""
    if not sys.stdout.isatty():
        yield lines(lambda line: print(line, flush=True), at_once=at_once)
        return
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    with Live(auto_refresh=False, transient=True) as view:

        def show(watcher: Watcher) -> None:
            rows = Table.grid()
            rows.add_row(ProgressBar(total=max(1, len(watcher.planned)), completed=watcher.done))
            for line in watcher.lines():
                rows.add_row(Text(line))
            view.update(rows, refresh=True)

        yield show


class Watch(threading.Thread):
    """Looks at a store until `stop`, and shows what it sees."""

    def __init__(self, store: Store, show: Show, look: float = LOOK) -> None:
        super().__init__(daemon=True, name="bnlab-watch")
        self.watcher = Watcher(store)
        self._show, self._look = show, look
        self._done = threading.Event()

    def run(self) -> None:
        """Until `stop`; a store that cannot be read is for the workers to report."""
        while not self._done.wait(self._look):
            with suppress(BnlabError, OSError):
                self.watcher.look()
                if not self._done.is_set():
                    self._show(self.watcher)

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._done.set()
        self.join(timeout=5)

    def kept(self) -> list[str]:
        """What the session leaves behind; the thread has ended."""
        with suppress(BnlabError, OSError):
            self.watcher.look()
        return self.watcher.kept()
