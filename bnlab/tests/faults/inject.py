"""Faults on purpose: the k-th call that a process makes of the operating system fails."""

import errno
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_AUDITED = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.listdir", "os.scandir"})
_PATCHED = ((os, "fsync"), (os, "stat"), (os, "lstat"), (fcntl, "flock"))


@dataclass
class Calls:
    """Counts the calls under a folder; call `fails_at` and, with `for_good`, all that write after it, fail.

    With `kills` the process ends there, as by SIGKILL.
    """

    folder: str
    fails_at: int | None = None
    code: int = errno.EIO
    for_good: bool = False
    kills: bool = False
    count: int = 0
    failed: list[str] = field(default_factory=list)

    def called(self, name: str, path: object = None) -> None:
        """Count a call, and fail it if it is its turn."""
        if isinstance(path, (str, bytes, os.PathLike)) and not os.fsdecode(path).startswith(self.folder):
            return
        self.count += 1
        writes = name not in ("os.stat", "os.lstat", "os.listdir", "os.scandir", "fcntl.flock")
        if self.count == self.fails_at or (self.for_good and self.failed and writes):
            self.failed.append(name)
            if self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self.code, os.strerror(self.code))


_active: list[Calls] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _active and event in _AUDITED:
        _active[-1].called(event, arguments[0])


sys.addaudithook(_hook)  # stays for as long as the process lives, and does nothing but inside `calls`


@contextmanager
def calls(active: Calls) -> Iterator[Calls]:
    """Count, and fail, the calls made inside."""
    originals = {(module, name): getattr(module, name) for module, name in _PATCHED}

    def patched(module, name, original):
        def call(*arguments, **options):
            active.called(f"{module.__name__}.{name}", arguments[0])
            return original(*arguments, **options)

        return call

    for (module, name), original in originals.items():
        setattr(module, name, patched(module, name, original))
    _active.append(active)
    try:
        yield active
    finally:
        _active.pop()
        for (module, name), original in originals.items():
            setattr(module, name, original)
