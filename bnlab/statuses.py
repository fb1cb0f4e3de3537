"""What can become of a claim: one table of the words, the colours and what counts as green."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["held", "defined", "refuted", "inconclusive", "exercised", "untrained", "error", "none"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a status is shown.

    `word` stands on the terminal and the page, `counted` follows a number ("3 held"). `category` and `letter` are
    pytest's, `ink` is a colour of the terminal, `colour` one of the page. `green` says when the status leaves the exit
    code at 0: always, where undecided claims are allowed, or never. What is exercised could not be judged at all, under
    a protocol that does not judge, or beside a number that somebody published for more epochs.
    """

    word: str
    counted: str
    category: str
    letter: str
    ink: str
    colour: str
    green: Literal["always", "allowed", "never"] = "never"


STATUSES: Mapping[Status, Shown] = {
    "held": Shown(
        word="HELD", counted="held", category="passed", letter=".", ink="green", colour="#1a7f37", green="always"
    ),
    "defined": Shown(
        word="DEFINED", counted="defined", category="passed", letter="d", ink="green", colour="#57606a", green="always"
    ),
    "refuted": Shown(word="REFUTED", counted="refuted", category="failed", letter="R", ink="red", colour="#b3261e"),
    "inconclusive": Shown(
        word="INCONCLUSIVE",
        counted="inconclusive",
        category="inconclusive",
        letter="i",
        ink="yellow",
        colour="#8a5a00",
        green="allowed",
    ),
    "exercised": Shown(
        word="EXERCISED",
        counted="exercised",
        category="exercised",
        letter="e",
        ink="blue",
        colour="#0550ae",
        green="always",
    ),
    "untrained": Shown(
        word="UNTRAINED", counted="untrained", category="untrained", letter="u", ink="yellow", colour="#57606a"
    ),
    "error": Shown(word="ERROR", counted="error", category="error", letter="E", ink="red", colour="#b3261e"),
    "none": Shown(
        word="NO OUTCOME", counted="without an outcome", category="error", letter="E", ink="red", colour="#b3261e"
    ),
}
"""Every status in the order in which they are counted; `held` and `defined` pass as tests."""

PASSED: tuple[Status, ...] = ("held", "defined")

JUDGED: tuple[Status, ...] = ("held", "refuted", "inconclusive")
"""The statuses that come from a verdict."""


def is_green(status: Status, *, sentence: bool, allow_inconclusive: bool) -> bool:
    """Whether a claim with this status leaves the exit code at 0.

    A twin or a control informs: it has to end in an outcome, whichever that is.
    """
    green = STATUSES[status].green
    informs = not sentence and status not in ("error", "none")
    return informs or green == "always" or (green == "allowed" and allow_inconclusive)
