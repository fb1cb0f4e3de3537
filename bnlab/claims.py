"""Claim, Judge and how a claim is settled: its body is run look by look until it is decided.

Nothing here knows pytest: the plugin turns an Outcome into a passed, failed or skipped test, and a
Lab that has time to spare settles other claims to see which Runs they lack.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Literal, NoReturn, Protocol

from bnlab.errors import BnlabError, StatisticsError
from bnlab.lab import Lab, UntrainedError, replicates
from bnlab.needs import Body, Ended, Needs, needs
from bnlab.outcomes import Outcome
from bnlab.protocol import Protocol as Effort
from bnlab.runs import Arm
from bnlab.specs import CIFAR10, Replicate, RunSpec
from bnlab.stats import LAST, Definition, Verdict, basis, further
from bnlab.stats.basis import Basis
from bnlab.stats.family import contrast
from bnlab.statuses import LEANS, Status
from bnlab.words import count

Reading = Literal["as written", "corrected", "control"]
"""What a claim is to its sentence: the sentence as the paper has it; what the paper could have said; or what has to be
so, such as another test of the same Runs, for the sentence to mean what it says."""


class ClaimError(BnlabError):
    """A claim that never judges, judges twice or is written wrongly in another way."""


class Hypothesis(Protocol):
    """What `judge` takes: anything that turns samples into a Verdict."""

    def judge(self, *samples: Any) -> Verdict:
        """The verdict of one look."""
        ...


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One statement of the paper: its sentence, its place and the body that judges it.

    `quote` has the paper's own words, `parameters` the point of the grid, each parameter by its name.
    """

    nodeid: str
    sentence: str
    place: str
    quote: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    published: object = None
    reading: Reading | None = None
    body: Body
    needs: Needs = field(default_factory=Needs)

    @property
    def hypothesis(self) -> Basis | None:
        """What it asks, as registered before anything trains; None for a body that was not planned."""
        return basis(self.needs.judged[0], self.needs.judged[1:]) if self.needs.judged else None

    @property
    def contrast(self) -> str | None:
        """What the claim compares, as `Verdict.contrast`; None for a definition and for a body that
        was not planned."""
        if not self.needs.judged or isinstance(self.needs.judged[0], Definition):
            return None
        hypothesis, *samples = self.needs.judged
        distinct, tester = hypothesis.bind(*samples)
        return contrast(tester, distinct)

    def runs(self, seeds: int) -> list[Replicate]:
        """The Runs of a look with so many seeds, as far as they are known beforehand."""
        return [run for first in self.needs.arms for run in replicates(first.spec, seeds, first.probes)]


@dataclass
class Judge:
    """`judge(hypothesis, *samples) -> Verdict`, once in the body of every claim.

    It returns a verdict that is held or refuted, for the body to assert on, and ends the body itself where there is
    nothing to assert: an inconclusive verdict, or a protocol that does not judge. A definitional claim (`Definition`)
    needs no training and is judged under every protocol; a hypothesis that `needs_all_epochs` is not judged where
    something `differs` from the training of a published number.
    """

    judges: bool = True
    differs: str = ""
    exercised: str = ""
    verdict: Verdict | None = None
    basis: Basis | None = None
    note: str = ""
    called: bool = False

    def __call__(self, hypothesis: Hypothesis, *samples: Any) -> Verdict:
        """The verdict, held or refuted."""
        if self.called:
            raise ClaimError("this claim calls judge twice: one claim has one verdict, so write two claims")
        self.called = True
        if not isinstance(hypothesis, Definition):
            if not self.judges:
                self.exercised = "which trains too little to judge"
            elif self.differs and getattr(hypothesis, "needs_all_epochs", False):
                self.exercised = self.differs
        try:
            self.verdict = hypothesis.judge(*samples)
            self.basis = basis(hypothesis, samples)
        except StatisticsError as error:
            if not self.exercised:
                raise
            self.note = f" ({error})"
            raise Ended from None
        if self.verdict.inconclusive or self.exercised:
            raise Ended
        return self.verdict


def answer(claim: Claim, lab: Lab) -> Outcome:
    """Settle a claim at the looks of the Lab's protocol; an untrained one gets a preview, if there is one."""
    outcome = settle(claim, lab, lab.protocol.looks)
    return replace(outcome, preview=preview(claim, lab)) if outcome.status == "untrained" else outcome


def preview(claim: Claim, lab: Lab) -> Outcome | None:
    """How a claim leans by the recorded Runs of the highest effort below the protocol's, if there are any.

    What cannot be judged on them, for whatever reason, has no preview: it is no part of the answer.
    """
    for lower in lab.protocol.below():
        reading = replace(lab, protocol=lower, trainer=None, mends=False)
        with suppress(Exception):
            found = settle(replace(claim, needs=needs(claim.body, lower, lab.data)), reading, lower.looks)
            if found.verdict is not None:
                return replace(found, missing=())
    return None


def settle(claim: Claim, lab: Lab, looks: Sequence[int]) -> Outcome:
    """Run the body at each look until it is decided; a Lab that may trains what is missing.

    ClaimError for a body that does not judge once or that passes without a held verdict. All other
    exceptions of the body go through; one that it raised while it was planned comes before anything
    trains.
    """
    if claim.needs.error is not None:
        raise claim.needs.error
    outcome: Outcome | None = None
    for look in looks:
        view = lab.at(look)
        try:
            view.complete(claim.runs(look))
            outcome = _look(claim, view)
        except UntrainedError as error:
            return _stopped(outcome, look, error.missing, lab.protocol.name)
        if outcome.status not in ("inconclusive", "undecided") or _stops(outcome, looks):
            break
    assert outcome is not None, "a protocol has at least one look"
    note = _of_later_runs(claim, lab, looks, outcome)
    return replace(outcome, reason=f"{outcome.reason} {note}") if note else outcome


def _stops(outcome: Outcome, looks: Sequence[int]) -> bool:
    """Whether an undecided claim trains no further; a futile one goes on where somebody asks for
    unregistered seeds."""
    stops = None if outcome.verdict is None else outcome.verdict.stops
    return stops == "unstable" or (stops == "futile" and looks[-1] <= LAST)


def _of_later_runs(claim: Claim, lab: Lab, looks: Sequence[int], outcome: Outcome) -> str:
    """What is recorded of this claim's arms beyond the look at which it ended, trained for other
    claims; may be ""."""
    verdict, look = outcome.verdict, outcome.look
    if verdict is None or verdict.kind == Definition.kind or outcome.status == "exercised":
        return ""
    if look is None or not (claim.needs.more or any(lab.has(replace(arm, seed=look)) for arm in claim.needs.arms)):
        return ""  # as for most: nothing is recorded beyond its look
    seen: list[int] = []
    judged: list[Any] = []

    class Recorded:
        def train(self, spec: RunSpec, probes: Sequence[str] = ()) -> Arm:
            applied = lab.protocol.apply(spec, lab.data)
            there = takewhile(lambda look: all(map(lab.has, replicates(applied, look, probes))), looks)
            seen.append(max(there))
            return lab.at(seen[-1]).train(spec, probes)

    def note(*hypothesis_and_samples: Any) -> NoReturn:
        judged.extend(hypothesis_and_samples)
        raise Ended

    # a body that computes with Runs of its own may not take arms of different length; then nothing is said
    with suppress(Ended, Exception):
        claim.body(Recorded(), note)
    if not judged or max(seen) == look:
        return ""
    hypothesis, *samples = judged
    now = _look(claim, lab.at(min(seen))).verdict if min(seen) > look else None
    return further(verdict, hypothesis.bind(*samples)[0], now)


@dataclass
class _View:
    """The `lab` of a judged body: gives the Lab's Arms and notes them in the body's order.

    `changed` says whether an Arm is not that of the paper, because something was swapped or set.
    """

    lab: Lab
    arms: dict[RunSpec, Arm] = field(default_factory=dict)
    untrained: UntrainedError | None = None
    changed: bool = False

    def train(self, spec: RunSpec, probes: Sequence[str] = ()) -> Arm:
        self.changed |= self.lab.protocol.changes.apply(spec) != spec
        try:
            arm = self.lab.train(spec, probes)
        except UntrainedError as error:
            self.untrained = error
            raise Ended from None
        self.arms[arm.spec] = arm
        return arm


def _look(claim: Claim, lab: Lab) -> Outcome:
    protocol = lab.protocol
    judge, view, passed = judge_of(protocol), _View(lab), False
    try:
        claim.body(view, judge)
        passed = True
    except Ended:
        if view.untrained is not None:
            raise view.untrained from None
    except AssertionError:
        if judge.verdict is None or not judge.verdict.refuted:
            raise
    except StatisticsError as error:
        if not view.changed:
            raise
        judge.called, judge.exercised = True, f"which leaves nothing to judge ({error})"
    if not judge.called:
        raise ClaimError(
            "this claim never calls judge: end its body with verdict = judge(hypothesis, ...) and an assert"
        )
    if passed and (judge.verdict is None or not judge.verdict.held):
        raise ClaimError(
            "this claim passes although its verdict is not held: write assert verdict.held, verdict.reason"
        )
    changes = protocol.changes.said if view.changed else ()
    verdict = None if judge.exercised else judge.verdict
    if verdict is None:
        under = " with ".join([protocol.name, *([", ".join(changes)] if changes else [])])
        reason, status = f"exercised under {under}, {judge.exercised}{judge.note}", _EXERCISED
    else:
        status = _status(verdict, lab)
        # the reason of a lean does not say more than its status
        reason = verdict.reason.replace(f": {verdict.status} (n = ", f": {status} (n = ")
    return Outcome.on(
        view.arms.values(),
        status=status,
        reason=reason,
        verdict=verdict,
        look=lab.seeds if view.arms else None,
        basis=None if judge.exercised else judge.basis,
        protocol=protocol.name,
        changes=changes,
    )


_EXERCISED: Status = "exercised"


def judge_of(protocol: Effort) -> Judge:
    """A new `judge` for the body of a claim under this protocol."""
    differs = "which trains fewer epochs than the published number is of" if protocol.effort < 1 else ""
    if protocol.changes.said:
        differs = "and the published number is of other trainings"
    return Judge(judges=protocol.judges, differs=differs)


def _status(verdict: Verdict, lab: Lab) -> Status:
    """The word for a verdict: a lean unless effort, images and number of seeds are the registered ones."""
    if verdict.kind == Definition.kind:
        return "defined" if verdict.held else "refuted"
    registered = lab.protocol.registered and lab.data == CIFAR10 and verdict.registered
    return verdict.status if registered else LEANS[verdict.status]


def _stopped(before: Outcome | None, look: int, missing: Sequence[Replicate], protocol: str) -> Outcome:
    """The outcome where the Runs of a look are missing and nothing trains."""
    if before is None:
        lacking = count(len(missing), "Run is missing", "Runs are missing")
        reason = f"not judged: {lacking} for {look} seeds, and nothing trained"
        return Outcome(status="untrained", reason=reason, missing=tuple(missing), protocol=protocol)
    more, were = count(len(missing), "more Run"), "was" if len(missing) == 1 else "were"
    reason = f"{before.reason} {more}, for {look} seeds, {were} not trained."
    return replace(before, reason=reason, missing=tuple(missing))
