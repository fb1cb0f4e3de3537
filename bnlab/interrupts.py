"""Ctrl-C, and the SIGTERM of a scheduler, while a cohort trains: the epoch is finished and kept before it ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SAID = "stops as soon as the state is kept, on a CPU after this epoch; a second Ctrl-C stops at once"

_DEFAULT: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


@contextmanager
def deferred(say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Gives a function to call wherever everything is kept: it raises KeyboardInterrupt if a signal came before.

    So does the end of the context. A second Ctrl-C raises it at once; a second SIGTERM does not, since a worker gets
    one from its controller and may get one from a scheduler too. A signal that another part of the program handles or
    ignores, as a worker of pytest-xdist does SIGINT, stays as it is, and all do outside the main thread.
    """
    asked = False

    def stop() -> None:
        if asked:
            raise KeyboardInterrupt

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if number == signal.SIGINT:
            stop()
        if not asked:
            say(SAID)
        asked = True

    main = threading.current_thread() is threading.main_thread()
    usual = {number: way for number, way in _DEFAULT.items() if main and signal.getsignal(number) is way}
    for number in usual:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, way in usual.items():
            signal.signal(number, way)
    stop()
