"""What can become of a claim: one table of the words, the colours and what counts as green."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Status = Literal["held", "defined", "refuted", "inconclusive", "exercised", "untrained", "error", "none"]


class Shown(NamedTuple):
    """How a status is shown.

    `word` stands on the terminal and the page, `counted` after a number ("3 held"). `category` and
    `letter` are pytest's, `ink` is a colour of the terminal, `colour` one of the page. `green` says
    when the exit code stays 0: always, where undecided claims are allowed, or never. What is
    exercised could not be judged: the protocol does not judge, or trains fewer epochs than a
    published number is of.
    """

    word: str
    counted: str
    category: str
    letter: str
    ink: str
    colour: str
    green: Literal["always", "allowed", "never"] = "never"


STATUSES: Mapping[Status, Shown] = {
    "held": Shown("HELD", "held", "passed", ".", "green", "#1a7f37", "always"),
    "defined": Shown("DEFINED", "defined", "passed", "d", "green", "#57606a", "always"),
    "refuted": Shown("REFUTED", "refuted", "failed", "R", "red", "#b3261e"),
    "inconclusive": Shown("INCONCLUSIVE", "inconclusive", "inconclusive", "i", "yellow", "#8a5a00", "allowed"),
    "exercised": Shown("EXERCISED", "exercised", "exercised", "e", "blue", "#0550ae", "always"),
    "untrained": Shown("UNTRAINED", "untrained", "untrained", "u", "yellow", "#57606a"),
    "error": Shown("ERROR", "error", "error", "E", "red", "#b3261e"),
    "none": Shown("NO OUTCOME", "without an outcome", "error", "E", "red", "#b3261e"),
}
"""Every status in the order of counting; `held` and `defined` pass as tests."""

PASSED: tuple[Status, ...] = ("held", "defined")

JUDGED: tuple[Status, ...] = ("held", "refuted", "inconclusive")
"""The statuses that come from a verdict."""


def is_green(status: Status, *, decides: bool, allow_inconclusive: bool) -> bool:
    """Whether a claim with this status leaves the exit code at 0.

    A claim that does not decide it informs: it has to end in an outcome, whichever that is.
    """
    green = STATUSES[status].green
    informs = not decides and status not in ("error", "none")
    return informs or green == "always" or (green == "allowed" and allow_inconclusive)
