"""From tests to claims: which tests are claims, and what they say and need."""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import pytest

from bnlab.claims import Claim, ClaimError, Reading
from bnlab.needs import Needs, body_of, needs
from bnlab.paper import published
from bnlab.protocol import Protocol

READINGS = get_args(Reading)

_ID = re.compile(r"[A-Za-z0-9_.:=-]+")


def in_hypotheses(nodeid: str) -> bool:
    """Whether a test lies in a folder named `hypotheses`, where everything is a claim."""
    return "hypotheses" in nodeid.partition("::")[0].split("/")[:-1]


def is_claim(item: pytest.Item) -> bool:
    """Whether this test is a claim, or should be one."""
    return item.get_closest_marker("claim") is not None or in_hypotheses(item.nodeid)


class Census:
    """A pytest plugin that knows which claims were collected and which of them deselected.

    A claim that vanishes in any other way is missed in the end.
    """

    def __init__(self) -> None:
        self._collected: dict[str, None] = {}
        self._deselected: set[str] = set()

    @property
    def collected(self) -> dict[str, None]:
        """The node ids of all of them, in the order of collection."""
        return dict(self._collected)

    @property
    def registered(self) -> int:
        """How many claims there are, selected or not: the size of their family."""
        return len(self._collected)

    @property
    def selected(self) -> list[str]:
        """The node ids of the claims that should have an outcome in the end."""
        return [nodeid for nodeid in self._collected if nodeid not in self._deselected]

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Count a claim."""
        if is_claim(item):
            self._collected[item.nodeid] = None

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Count it out."""
        self._deselected |= {item.nodeid for item in items}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Claims stand in the order of the paper, in which 2.4.2 comes before 2.4.10."""
        if any(map(is_claim, items)):
            items.sort(key=lambda item: by_number(item.path.name))
            self._collected = {item.nodeid: None for item in items if is_claim(item)} | self._collected


def by_number(name: str) -> list[tuple[int, str]]:
    """A key to sort file names by, their numbers as numbers."""
    return [(int(number or 0), text) for text, number in re.findall(r"(\D+)(\d*)", name)]


def claims(items: Iterable[pytest.Item], protocol: Protocol, data: str) -> dict[str, Claim]:
    """The claims among these tests by node id, with the Runs that they need.

    A claim that is written wrongly needs nothing here; `check_claim` says what is wrong when the
    claim is set up.
    """
    return {item.nodeid: _claim(item, protocol, data) for item in items if is_claim(item)}


def check_claim(item: pytest.Item) -> None:
    """ClaimError for a claim that lacks marker, docstring or `judge`, or has other arguments."""
    marker = item.get_closest_marker("claim")
    if marker is None:
        raise ClaimError(f'{item.nodeid} has no place in the paper: mark it with @pytest.mark.claim("§4.1, Table 4")')
    unknown = [name for name in marker.kwargs if name not in ("published", "reading")]
    if not marker.args or not all(isinstance(place, str) for place in marker.args) or unknown:
        raise ClaimError(
            f"the claim marker of {item.nodeid} takes claim(*places, published=None, reading=None), each place a text"
        )
    reading = _for_these(marker.kwargs.get("reading"), _params(item))
    if reading not in (None, *READINGS):
        raise ClaimError(
            f"the reading of {item.nodeid} is {reading!r}: expected {', '.join(map(repr, READINGS))}, or a dictionary "
            "of them by parameter"
        )
    if not isinstance(item, pytest.Function) or not (inspect.getdoc(item.function) or "").strip():
        raise ClaimError(f"{item.nodeid} has no sentence: say what it claims in its docstring")
    identifier = item.callspec.id if hasattr(item, "callspec") else "-"
    if not _ID.fullmatch(identifier):
        raise ClaimError(
            f"the parameter id {identifier!r} of {item.nodeid} is not safe in a report: "
            "give ids of letters, digits, '_', '.', ':', '=' and '-'"
        )
    arguments = _arguments(item)
    foreign = sorted(arguments - {"lab", "judge"} - set(_params(item)))
    if foreign:
        raise ClaimError(
            f"{item.nodeid} asks for {', '.join(foreign)}: a claim takes lab, judge and its parameters only"
        )
    if "judge" not in arguments:
        raise ClaimError(f"{item.nodeid} does not ask for judge: a claim ends with verdict = judge(hypothesis, ...)")


def _claim(item: pytest.Item, protocol: Protocol, data: str) -> Claim:
    try:
        check_claim(item)
    except ClaimError:
        return Claim(nodeid=item.nodeid, sentence=_sentence(item), place="", body=lambda lab, judge: None)
    assert isinstance(item, pytest.Function)
    marker = item.get_closest_marker("claim")
    assert marker is not None
    params = _params(item)
    body = body_of(item.obj, params)
    found = needs(body, protocol, data) if "lab" in _arguments(item) else Needs()
    told = _for_these(marker.kwargs.get("published"), params)
    numbers = published(*found.judged) if told is None and found.judged else told
    return Claim(
        nodeid=item.nodeid,
        sentence=_sentence(item),
        place="; ".join(marker.args),
        quote=_quote(item),
        parameters={name: _text(value) for name, value in params.items()},
        published=None if protocol.changes.said else numbers,
        reading=_for_these(marker.kwargs.get("reading"), params),
        body=body,
        needs=found,
    )


def _params(item: pytest.Item) -> dict[str, Any]:
    """Its parameters; another plugin may add some that the function does not take, as pytest-repeat does."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return {}
    return {name: value for name, value in item.callspec.params.items() if name in _arguments(item)}


def _arguments(item: pytest.Function) -> set[str]:
    return set(inspect.signature(item.function).parameters)


def _sentence(item: pytest.Item) -> str:
    doc = inspect.getdoc(item.function) if isinstance(item, pytest.Function) else None
    return " ".join((doc or "").split("\n\n")[0].split())


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _quote(item: pytest.Function) -> str:
    """What follows the sentence in the docstring: the paper's own words."""
    _, _, rest = (inspect.getdoc(item.function) or "").partition("\n\n")
    return " ".join(rest.split())


def _for_these(told: Any, params: Mapping[str, Any]) -> Any:
    """What a marker tells of one point of the grid, if a mapping has one for these parameters; else all there is."""
    if not isinstance(told, Mapping):
        return told
    values = list(params.values())
    here = [found for key, found in told.items() if all(part in values for part in _parts(key))]
    return here[0] if len(here) == 1 else {", ".join(map(str, _parts(key))): found for key, found in told.items()}


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
