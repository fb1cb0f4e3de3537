"""What can become of a claim: one table of the words, the colours and the exit codes."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Status = Literal[
    "held",
    "defined",
    "refuted",
    "inconclusive",
    "leans held",
    "leans refuted",
    "undecided",
    "exercised",
    "untrained",
    "error",
    "none",
]

UNDECIDED, UNTRAINED = 10, 11
"""Exit codes of a session with claims that their Runs do not decide, or whose Runs are missing."""


class Shown(NamedTuple):
    """How a status is shown.

    `word` stands on the terminal and the page, `counted` after a number ("3 held"). `category` and
    `letter` are pytest's, `ink` is a colour of the terminal, `colour` one of the page, `mark` a
    shape that tells the statuses apart without colour: full for a verdict, hollow for a lean.
    `code` is the exit code that such a claim asks for.
    """

    word: str
    counted: str
    category: str
    letter: str
    ink: str
    colour: str
    mark: str
    code: int = 0


STATUSES: Mapping[Status, Shown] = {
    "held": Shown("HELD", "held", "passed", ".", "green", "#1a7f37", "●"),
    "defined": Shown("DEFINED", "defined", "passed", "d", "green", "#57606a", "="),
    "refuted": Shown("REFUTED", "refuted", "refuted", "R", "red", "#b3261e", "■", 1),
    "inconclusive": Shown("INCONCLUSIVE", "inconclusive", "inconclusive", "i", "yellow", "#8a5a00", "▲", UNDECIDED),
    "leans held": Shown("LEANS HELD", "leaning held", "leans held", "+", "green", "#1a7f37", "○"),
    "leans refuted": Shown("LEANS REFUTED", "leaning refuted", "leans refuted", "-", "yellow", "#b3261e", "□"),
    "undecided": Shown("UNDECIDED", "undecided", "undecided", "?", "yellow", "#8a5a00", "△"),
    "exercised": Shown("EXERCISED", "exercised", "exercised", "e", "blue", "#0550ae", "·"),
    "untrained": Shown("UNTRAINED", "untrained", "untrained", "u", "yellow", "#57606a", "–", UNTRAINED),
    "error": Shown("ERROR", "error", "error", "E", "red", "#b3261e", "!", 1),
    "none": Shown("NO OUTCOME", "without an outcome", "error", "E", "red", "#b3261e", "!", 1),
}
"""Every status in the order of counting; `held` and `defined` pass as tests.

A lean has numbers and is no verdict: it was not found under the paper's protocol, on the registered
data, at a registered look. What is exercised could not even lean: the protocol trains too little, or
fewer epochs than a published number is of.
"""

PASSED: tuple[Status, ...] = ("held", "defined")

JUDGED: tuple[Status, ...] = ("held", "refuted", "inconclusive")
"""The statuses that come from a verdict."""

LEANS: Mapping[str, Status] = {"held": "leans held", "refuted": "leans refuted", "inconclusive": "undecided"}
"""What a verdict is called where it counts for none."""


def exit_code(status: Status, *, decides: bool, allowed: frozenset[int] = frozenset()) -> int:
    """The exit code that a claim with this status asks for; 0 instead of an `allowed` one.

    A claim that does not decide it informs: it has to end in an outcome, whichever that is.
    """
    code = STATUSES[status].code
    informs = not decides and status not in ("error", "none")
    return 0 if informs or code in allowed else code
