"""What goes wrong because of what somebody asked for, said in one sentence."""

from typing import Any


class BnlabError(Exception):
    """Bad input: the message says what was received, what was expected and what to do about it.

    The command line and the pytest plugin print the message alone, without a traceback.
    """


class SpecError(BnlabError, ValueError):
    """A RunSpec, a Norm, a network or a protocol that does not exist."""


class DataError(BnlabError):
    """Images that are missing, damaged, of another shape or too few."""


class StoreError(BnlabError):
    """A store that cannot be written, belongs to something else or holds a damaged Run."""


class OtherNumbersError(StoreError):
    """A probe of a stored Run that would have other numbers if it were trained again here."""


class SnapshotError(BnlabError):
    """A snapshot from which a Run cannot go on; `replicate` is the Run."""

    def __init__(self, replicate: Any, why: str) -> None:
        self.replicate, self.why = replicate, why
        super().__init__(f"the snapshot of {replicate} cannot be restored ({why}): go on from the one before it")


class DeviceError(BnlabError):
    """A device that was asked for and is not there."""


class StatisticsError(BnlabError):
    """Samples from which no honest verdict follows: NaN, no variance, duplicates, too few."""
