"""What can become of a claim: one table of the words, the colours and what counts as green."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Status = Literal["held", "refuted", "inconclusive", "exercised", "untrained", "error", "none"]


class Shown(NamedTuple):
    """How a status is shown.

    `word` stands on the terminal and the page, `counted` after a number ("3 held"). `category` and
    `letter` are pytest's, `ink` is a colour of the terminal, `colour` one of the page. `green` says
    when the exit code stays 0: always, where the protocol judges nothing (smoke), where undecided
    claims are allowed, or never.
    """

    word: str
    counted: str
    category: str
    letter: str
    ink: str
    colour: str
    green: Literal["always", "smoke", "allowed", "never"] = "never"


STATUSES: Mapping[Status, Shown] = {
    "held": Shown("HELD", "held", "passed", ".", "green", "#1a7f37", "always"),
    "refuted": Shown("REFUTED", "refuted", "failed", "R", "red", "#b3261e"),
    "inconclusive": Shown("INCONCLUSIVE", "inconclusive", "inconclusive", "i", "yellow", "#8a5a00", "allowed"),
    "exercised": Shown("EXERCISED", "exercised", "exercised", "e", "blue", "#0550ae", "smoke"),
    "untrained": Shown("UNTRAINED", "untrained", "untrained", "u", "yellow", "#57606a"),
    "error": Shown("ERROR", "error", "error", "E", "red", "#b3261e"),
    "none": Shown("NO OUTCOME", "without an outcome", "error", "E", "red", "#b3261e"),
}
"""Every status in the order of counting; only `held` passes as a test."""

JUDGED: tuple[Status, ...] = ("held", "refuted", "inconclusive")
"""The statuses that come from a verdict."""


def is_green(status: Status, *, judges: bool, allow_inconclusive: bool) -> bool:
    """Whether a claim with this status leaves the exit code at 0."""
    when = {"always": True, "smoke": not judges, "allowed": allow_inconclusive, "never": False}
    return when[STATUSES[status].green]
