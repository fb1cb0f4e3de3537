"""Claim, Judge and how a claim is settled: its body is run look by look until it is decided.

Nothing here knows pytest: the plugin turns an Outcome into a passed, failed or skipped test, and a Lab that has time to
spare settles other claims to see which Runs they lack.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bnlab.errors import BnlabError, StatisticsError
from bnlab.lab import Lab, Needed, UntrainedError
from bnlab.protocol import Protocol as Effort
from bnlab.runs import Arm
from bnlab.specs import RunSpec
from bnlab.stats import Definition, Verdict

Reading = Literal["as written", "corrected"]
Status = Literal["held", "refuted", "inconclusive", "exercised", "untrained"]


class ClaimError(BnlabError):
    """A claim that is written wrongly: it never judges, judges twice, or lacks its place in the paper."""


class Hypothesis(Protocol):
    """What `judge` takes: anything that turns samples into a Verdict."""

    def judge(self, *samples: Any) -> Verdict:
        """The verdict of one look."""
        ...


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the paper: its sentence, its place, and the body that compares arms and judges them.

    `body(lab, judge)` is the test function with its parameters filled in. `specs` are the RunSpecs that it compares
    under the protocol of the session, in the order of the body.
    """

    nodeid: str
    sentence: str
    place: str
    published: object = None
    reading: Reading | None = None
    body: Callable[[Any, Any], None]
    specs: tuple[RunSpec, ...] = ()

    def needs(self, seeds: int) -> list[Needed]:
        """The Runs that the claim compares at a look with so many seeds."""
        return [(spec, seed) for spec in self.specs for seed in range(seeds)]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a claim in this session.

    `look` is the number of seeds at which it was judged, `arms` what was compared there, `missing` the Runs that would
    have to train for it to be judged, or judged further. `exercised` is a claim that ran under a protocol that does
    not judge, `untrained` one whose Runs are missing where nothing may train.
    """

    status: Status
    reason: str
    verdict: Verdict | None = None
    look: int | None = None
    arms: tuple[Arm, ...] = ()
    missing: tuple[Needed, ...] = ()


class _Ended(BaseException):
    """Leaves a claim's body from inside `judge`; no `except Exception` of a body can hold it up."""


@dataclass
class Judge:
    """`judge(hypothesis, *samples) -> Verdict`, once in the body of every claim.

    It returns a verdict that is held or refuted, for the body to assert on, and ends the body itself where there is
    nothing to assert: an inconclusive verdict, or a protocol that does not judge. A definitional claim (`Definition`)
    needs no training and is judged under every protocol.
    """

    judges: bool = True
    verdict: Verdict | None = None
    note: str = ""
    called: bool = False

    def __call__(self, hypothesis: Hypothesis, *samples: Any) -> Verdict:
        """The verdict, held or refuted."""
        if self.called:
            raise ClaimError("this claim calls judge twice: one claim has one verdict, so write two claims")
        self.called = True
        definitional = isinstance(hypothesis, Definition)
        try:
            self.verdict = hypothesis.judge(*samples)
        except StatisticsError as error:
            if self.judges or definitional:
                raise
            self.note = f" ({error})"
            raise _Ended from None
        if self.verdict.inconclusive or not (self.judges or definitional):
            raise _Ended
        return self.verdict


def settle(claim: Claim, lab: Lab, looks: Sequence[int]) -> Outcome:
    """Run the body at each look until it is decided; Runs that are missing are trained if the Lab may.

    ClaimError for a body that does not judge once or that passes without a held verdict; whatever else the body
    raises goes through.
    """
    outcome: Outcome | None = None
    for look in looks:
        view = lab.at(look)
        try:
            view.complete(claim.needs(look))
            outcome = _look(claim, view)
        except UntrainedError as error:
            return _stopped(outcome, look, error.missing)
        if outcome.status != "inconclusive":
            break
    assert outcome is not None, "a protocol has at least one look"
    return outcome


def _look(claim: Claim, lab: Lab) -> Outcome:
    judge = Judge(judges=lab.protocol.judges)
    passed = False
    try:
        claim.body(lab, judge)
        passed = True
    except _Ended:
        pass
    except AssertionError:
        if judge.verdict is None or not judge.verdict.refuted:
            raise
    verdict = judge.verdict
    if not judge.called:
        raise ClaimError(
            "this claim never calls judge: end its body with verdict = judge(hypothesis, ...) and an assert"
        )
    if passed and (verdict is None or not verdict.held):
        raise ClaimError(
            "this claim passes although its verdict is not held: write assert verdict.held, verdict.reason"
        )
    arms = tuple(lab.arm(spec) for spec in claim.specs)
    look = lab.seeds if arms else None
    if not lab.protocol.judges and not (verdict is not None and verdict.kind == Definition.kind):
        reason = f"exercised under {lab.protocol.name}, which trains too little to judge{judge.note}"
        return Outcome(status="exercised", reason=reason, verdict=verdict, look=look, arms=arms)
    assert verdict is not None
    return Outcome(status=verdict.status, reason=verdict.reason, verdict=verdict, look=look, arms=arms)


def _stopped(before: Outcome | None, look: int, missing: Sequence[Needed]) -> Outcome:
    """The outcome where the Runs of a look are missing and nothing trains."""
    if before is None:
        reason = f"not judged: {len(missing)} Runs are missing for {look} seeds, and nothing trained"
        return Outcome(status="untrained", reason=reason, missing=tuple(missing))
    return Outcome(
        status="inconclusive",
        reason=f"{before.reason} {len(missing)} more Runs, for {look} seeds, were not trained.",
        verdict=before.verdict,
        look=before.look,
        arms=before.arms,
        missing=tuple(missing),
    )


@dataclass
class _Recorder:
    """Stands for the Lab while a plan is made: notes the RunSpecs and gives Arms without Runs."""

    protocol: Effort
    data: str
    specs: dict[RunSpec, None] = field(default_factory=dict)

    def train(self, spec: RunSpec) -> Arm:
        spec = self.protocol.apply(spec, self.data)
        self.specs[spec] = None
        return Arm(spec=spec, runs=())


def _stop(*anything: object) -> Verdict:
    raise _Ended


def compared(body: Callable[[Any, Any], None], protocol: Effort, data: str) -> tuple[RunSpec, ...]:
    """The RunSpecs that a claim's body asks for, found by running it with a lab that records and a judge that stops.

    What else the body raises here it will raise again, with Runs in its arms or in words, when the claim is judged.
    """
    recorder = _Recorder(protocol, data)
    with suppress(_Ended, Exception):
        body(recorder, _stop)
    return tuple(recorder.specs)


@dataclass
class Plan:
    """What a session needs, claim by claim; the same in every process that selected the same claims."""

    claims: tuple[Claim, ...]
    looks: tuple[int, ...]
    _settled: set[str] = field(default_factory=set)

    def first_look(self) -> list[Needed]:
        """Every Run of the first look, each once, in the order of the claims."""
        return list(dict.fromkeys(run for claim in self.claims for run in claim.needs(self.looks[0])))

    def open(self, lab: Lab) -> list[Needed]:
        """The Runs that undecided claims lack now, each once: those of the look that each of them stands at.

        `lab` is one that may not train. A claim that cannot be settled (its body is wrong) needs nothing more.
        """
        return list(dict.fromkeys(self._open(lab)))

    def _open(self, lab: Lab) -> Iterable[Needed]:
        for claim in self.claims:
            if claim.nodeid in self._settled or not claim.specs:
                continue
            try:
                missing = settle(claim, lab, self.looks).missing
            except Exception:
                missing = ()
            if not missing:
                self._settled.add(claim.nodeid)
            yield from missing
