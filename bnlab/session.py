"""One process of a pytest session: the claims it collected, its Lab, and what it tells the controller.

What crosses from an xdist worker to the controller travels as JSON text in a test's user properties: the claim when it
is set up, its outcome when it was judged. So a worker that dies leaves the controller knowing what it was doing.
"""

import inspect
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pytest

from bnlab import lab as lab_module
from bnlab.claims import Claim, ClaimError, Outcome, Plan, compared
from bnlab.devices import for_worker, threads
from bnlab.lab import Lab, Trainer, mixed_environment
from bnlab.settings import Settings

CLAIM, OUTCOME = "bnlab.claim", "bnlab.outcome"
"""Names of the user properties."""

READINGS = ("as written", "corrected")

_ID = re.compile(r"[A-Za-z0-9_.=-]+")


def in_hypotheses(nodeid: str) -> bool:
    """Whether a test lies in a folder named `hypotheses`, where everything is a claim."""
    return "hypotheses" in nodeid.partition("::")[0].split("/")[:-1]


def is_claim(item: pytest.Item) -> bool:
    """Whether this test is a claim, or should be one."""
    return item.get_closest_marker("claim") is not None or in_hypotheses(item.nodeid)


def check_claim(item: pytest.Item) -> None:
    """ClaimError for a claim without its marker, docstring or `judge`, or with arguments that are not plain values."""
    marker = item.get_closest_marker("claim")
    if marker is None:
        raise ClaimError(f'{item.nodeid} has no place in the paper: mark it with @pytest.mark.claim("§4.1, Table 4")')
    unknown = [name for name in marker.kwargs if name not in ("published", "reading")]
    if len(marker.args) != 1 or not isinstance(marker.args[0], str) or unknown:
        raise ClaimError(
            f"the claim marker of {item.nodeid} takes claim(place, published=None, reading=None), place a text"
        )
    if marker.kwargs.get("reading") not in (None, *READINGS):
        raise ClaimError(
            f"the reading of {item.nodeid} is {marker.kwargs['reading']!r}: expected {' or '.join(map(repr, READINGS))}"
        )
    if not isinstance(item, pytest.Function) or not (inspect.getdoc(item.function) or "").strip():
        raise ClaimError(f"{item.nodeid} has no sentence: say what it claims in its docstring")
    identifier = item.callspec.id if hasattr(item, "callspec") else "-"
    if not _ID.fullmatch(identifier):
        raise ClaimError(
            f"the parameter id {identifier!r} of {item.nodeid} is not safe in a report: "
            "give ids of letters, digits, '_', '.', '=' and '-'"
        )
    asked = set(inspect.signature(item.function).parameters)
    foreign = sorted(asked - {"lab", "judge"} - set(_params(item)))
    if foreign:
        raise ClaimError(
            f"{item.nodeid} asks for {', '.join(foreign)}: a claim takes lab, judge and its parameters only"
        )
    if "judge" not in asked:
        raise ClaimError(f"{item.nodeid} does not ask for judge: a claim ends with verdict = judge(hypothesis, ...)")


@dataclass
class Bench:
    """This process's side of a session: settings, claims and, on first use, the Lab."""

    settings: Settings
    data: str
    worker: str = "main"
    worker_number: int = 0
    workers: int = 1
    say: Callable[[str], None] = lambda line: None
    claims: dict[str, Claim] = field(default_factory=dict)
    registry: int = 0
    replicas: int | None = None

    @cached_property
    def plan(self) -> Plan:
        """What the collected claims need."""
        return Plan(claims=tuple(self.claims.values()), looks=self.settings.protocol.looks)

    @cached_property
    def lab(self) -> Lab:
        """The Lab at the first look."""
        protocol = self.settings.protocol
        reading = Lab(
            store=self.settings.session_store(),
            protocol=protocol,
            data=self.data,
            seeds=protocol.looks[0],
            recorded=self.settings.recorded(),
            loaded={},
            worker=self.worker,
            say=self.say,
            replicas=self.replicas,
        )
        if self.settings.device is None:
            return reading
        return replace(reading, trainer=self._trainer, plan=lambda: self.plan.open(reading))

    @cached_property
    def _opened(self) -> Trainer:
        device = for_worker(self.settings.device, self.worker_number)
        assert device is not None
        settings = self.settings
        return lab_module.open_trainer(settings.source, settings.cache, device, threads(self.workers), self.say)

    def _trainer(self) -> Trainer:
        return self._opened

    def collect(self, items: list[pytest.Item], deselected: int) -> None:
        """Note the claims among the selected tests, and which RunSpecs they compare."""
        for item in items:
            if is_claim(item):
                self.claims[item.nodeid] = self._claim(item)
        self.registry = len(self.claims) + deselected

    def drain(self) -> None:
        """Train what undecided claims lack, look by look, until all of them are settled."""
        while needed := self.lab.plan():
            if not self.lab.train_one(needed):
                time.sleep(lab_module.POLL)

    def help(self) -> None:
        """The same for the claims of other workers; what goes wrong with a Run is said by the claim that needs it."""
        while self.lab.open_plan():
            if not self.lab.help():
                time.sleep(lab_module.POLL)

    def _claim(self, item: pytest.Item) -> Claim:
        try:
            check_claim(item)
        except ClaimError:
            # said when the claim is set up; here it only must not stop the others
            return Claim(nodeid=item.nodeid, sentence=_sentence(item), place="", body=lambda lab, judge: None)
        assert isinstance(item, pytest.Function)
        marker = item.get_closest_marker("claim")
        assert marker is not None
        body = _body(item)
        return Claim(
            nodeid=item.nodeid,
            sentence=_sentence(item),
            place=marker.args[0],
            published=_published(marker.kwargs.get("published"), _params(item)),
            reading=marker.kwargs.get("reading"),
            body=body,
            specs=compared(body, self.settings.protocol, self.data) if "lab" in _asked(item) else (),
        )


def claim_property(bench: Bench, claim: Claim) -> tuple[str, str]:
    """What the controller has to know of a claim before it is judged."""
    content = {
        "sentence": claim.sentence,
        "place": claim.place,
        "published": plain(claim.published),
        "reading": claim.reading,
        "registry": bench.registry,
        "runs_planned": len(bench.plan.first_look()),
    }
    return CLAIM, json.dumps(content)


def outcome_property(outcome: Outcome) -> tuple[str, str]:
    """What the controller has to know of an outcome, as plain JSON values."""
    runs = [run for arm in outcome.arms for run in arm.runs]
    content = {
        "status": outcome.status,
        "reason": outcome.reason,
        "verdict": None if outcome.verdict is None else outcome.verdict.to_json(),
        "look": outcome.look,
        "arms": [
            {
                "label": str(arm.spec),
                "spec": arm.spec.to_json(),
                "seeds": [run.seed for run in arm.runs],
                "accuracy": [run.curves["test_accuracy"][-1] for run in arm.runs],
                "run_keys": [run.key for run in arm.runs],
                "run_digests": [run.digest for run in arm.runs],
                "protocols": sorted({str(run.provenance.get("protocol")) for run in arm.runs}),
            }
            for arm in outcome.arms
        ],
        "mixed": mixed_environment(runs),
        "environments": _environments(outcome),
        "missing": [{"spec": spec.to_json(), "seed": seed} for spec, seed in outcome.missing],
    }
    return OUTCOME, json.dumps(plain(content), allow_nan=False)


def _environments(outcome: Outcome) -> list[dict[str, Any]]:
    """Each environment that trained Runs of this claim, once."""
    found = {
        json.dumps({k: v for k, v in run.provenance.items() if k not in lab_module.OURS}, sort_keys=True, default=str)
        for arm in outcome.arms
        for run in arm.runs
    }
    return [json.loads(text) for text in sorted(found)]


def plain(value: Any) -> Any:
    """A value as JSON keeps it: NumPy numbers as Python's, keys as text, a number that is not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _params(item: pytest.Item) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def _published(published: Any, params: dict[str, Any]) -> Any:
    """The published number of one point of the grid, if a mapping has one for these parameters; else all there is."""
    if not isinstance(published, Mapping):
        return published
    values = list(params.values())
    here = [number for key, number in published.items() if all(part in values for part in _parts(key))]
    return here[0] if len(here) == 1 else {", ".join(map(str, _parts(key))): found for key, found in published.items()}


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _asked(item: pytest.Function) -> set[str]:
    return set(inspect.signature(item.function).parameters)


def _sentence(item: pytest.Item) -> str:
    doc = inspect.getdoc(item.function) if isinstance(item, pytest.Function) else None
    return " ".join((doc or "").split("\n\n")[0].split())


def _body(item: pytest.Function) -> Callable[[Any, Any], None]:
    """The test function with its parameters filled in, as a function of lab and judge."""
    function, params, asked = item.obj, _params(item), _asked(item)

    def body(lab: Any, judge: Any) -> None:
        given = {"lab": lab, "judge": judge, **params}
        function(**{name: given[name] for name in asked if name in given})

    return body
