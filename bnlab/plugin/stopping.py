"""Ctrl-C and SIGTERM where workers train: each of them keeps the state of what it trains, as one process does alone.

A worker ignores SIGINT, which a terminal sends to all processes at once, and defers the SIGTERM that it gets from here.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from bnlab.interrupts import SAID
from bnlab.plugin.terminal import Write


def leave_to_the_controller() -> None:
    """In a worker: ignore Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _take_sigterm_as_ctrl_c() -> None:
    """In a controller, which trains nothing itself."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


class Stopping:
    """A pytest plugin of the controller; `say` writes a line on the terminal."""

    def __init__(self, say: Write) -> None:
        self._say = say
        self._workers: set[Any] = set()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """A worker begins; one of another machine is not ours to stop."""
        if node.gateway.spec.popen:
            self._workers.add(node)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker has ended."""
        self._workers.discard(node)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """On Ctrl-C or SIGTERM wait until every worker has kept its state; on a second one end them."""
        if session.config.pluginmanager.hasplugin("dsession"):
            _take_sigterm_as_ctrl_c()
        try:
            return (yield)
        except KeyboardInterrupt:
            if self._workers:
                self._say(SAID)
            self._send(signal.SIGTERM)
            try:
                for node in self._workers:
                    with suppress(Exception):  # however it ended
                        node.channel.waitclose()
            except KeyboardInterrupt:
                self._send(signal.SIGKILL)
            raise

    def _send(self, number: int) -> None:
        for node in self._workers:
            if not node.channel.isclosed():
                with suppress(ProcessLookupError):
                    os.kill(node.gateway._rinfo().pid, number)
