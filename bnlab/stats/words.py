"""The phrases of which the reasons of verdicts are made."""

import re
from collections.abc import Sequence

from bnlab.stats.looks import LAST, LEVELS
from bnlab.stats.power import MOST

STOPS = "; no more seeds are trained"
"""Follows the reason of a claim that trains no further."""

_SHOWN = 3


def seeds(n: Sequence[int]) -> str:
    """The seeds of the arms, "n = 4 + 4" or "n = 4 in each of 8 arms"."""
    many = len(n) > 4 and len(set(n)) == 1
    text = f"n = {n[0]} in each of {len(n)} arms" if many else f"n = {' + '.join(map(str, n))}"
    return text if set(n) <= set(LEVELS) else f"{text}, not a registered look"


def percent(level: float) -> str:
    """A level as text: "99 %", "99.667 %"."""
    return f"{100 * level:.5g} %"


def bound(value: float) -> str:
    """The end of a region: "0", "+1", "-0.5"."""
    return "0" if value == 0 else f"{value:+g}"


def how_many(fewest: int, most: int | None) -> str:
    """How many samples a kind takes."""
    counts = f"{fewest}" if most == fewest else f"{fewest} or {most}"
    return f"{fewest} samples or more" if most is None else f"{counts} sample{'s' * (most > 1)}"


def needed(few_and_many: tuple[int | None, int | None]) -> str:
    """How many seeds would decide, as a range, and whether that is beyond the last look."""
    few, many = few_and_many
    if few is None:
        return f"needs more than {MOST} seeds at this estimate, beyond the registered {LAST}"
    upper = f"more than {MOST}" if many is None else f"{many}"
    seeds = f"about {few}" if few == many else f"{few} to {upper}"
    return f"needs {seeds} seeds" + (f", beyond the registered {LAST}" if few > LAST else "")


def unstable(phrases: Sequence[str], runs: int) -> str:
    """The collapsed Runs of an arm that decides nothing."""
    return f"unstable arm, {len(phrases)} of {runs} runs ({some(phrases)})"


def some(phrases: Sequence[str]) -> str:
    """The first few phrases, and how many more there are."""
    return "; ".join(phrases[:_SHOWN]) + (f"; and {len(phrases) - _SHOWN} more" if len(phrases) > _SHOWN else "")


def left_out(phrases: Sequence[str]) -> str:
    """The collapsed Runs of a claim that is decided without them."""
    runs = f"{len(phrases)} collapsed run{'s' * (len(phrases) > 1)}"
    return f"; decided without {runs}, which would only add to the difference" if phrases else ""


def more(few_and_many: tuple[int | None, int | None] | None, stops: object) -> str:
    """What follows an inconclusive reason: the seeds that would decide, and whether it stops."""
    return (f"; {needed(few_and_many)}" if few_and_many else "") + (STOPS if stops else "")


def finding(reason: str) -> str:
    """What a reason says before its status."""
    return re.split(r": (?:held|refuted|inconclusive) \(n = ", reason)[0]
