"""Hypothesis: how samples become a Verdict, and the one way of all kinds on means."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bnlab.errors import StatisticsError
from bnlab.stats import words
from bnlab.stats.arms import Arms
from bnlab.stats.checks import check_samples, ties
from bnlab.stats.family import contrast
from bnlab.stats.looks import LAST
from bnlab.stats.margins import signed
from bnlab.stats.power import seeds_range
from bnlab.stats.rule import Decision, Rule, Tester
from bnlab.stats.sample import Sample
from bnlab.stats.stability import unstable_runs
from bnlab.stats.verdict import ArmSummary, Cell, Status, Stops, Verdict

HIGHEST_LEVEL = 0.99999

_TURNED: dict[Status, Status] = {"held": "refuted", "refuted": "held", "inconclusive": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Hypothesis(ABC):
    """What all kinds share: one look at samples of the same seeds, at the level of that look.

    `level`, two-sided, overrides the registered one. Higher is better; for a loss, swap the
    samples.
    """

    level: float | None = None

    kind: ClassVar[str]
    takes: ClassVar[tuple[int, int | None]] = (2, 2)
    """The fewest and the most samples; None for any number."""
    needs_all_epochs: ClassVar[bool] = False
    """Whether only Runs of as many epochs as the claim asks for can be judged, as beside a published number."""

    def __post_init__(self) -> None:
        level: object = self.level
        if level is not None and not (isinstance(level, float) and 0.5 < level <= HIGHEST_LEVEL):
            raise StatisticsError(
                f"level is {level!r}: expected a number from 0.5 to {HIGHEST_LEVEL}, such as 0.99, "
                "or None for the registered one"
            )

    @abstractmethod
    def bind(self, *samples: Any) -> tuple[tuple[Sample, ...], Tester]:
        """The samples, each once, and what decides on them; StatisticsError for a wrong number."""

    @abstractmethod
    def judge(self, *samples: Any) -> Verdict:
        """The verdict of one look; StatisticsError if no honest verdict follows from the samples."""

    def judge_cell(self, *samples: Any) -> Verdict:
        """The verdict of `judge` as a cell of a composed hypothesis, which says itself how many seeds it needs."""
        return self.judge(*samples)

    def at(self, level: float) -> "Hypothesis":
        """The same at this level."""
        return replace(self, level=level)

    def of(self, *samples: Any) -> "Stated":
        """The hypothesis about these samples, as a part of `Every`."""
        return Stated(hypothesis=self, samples=samples)

    def check_count(self, samples: tuple[object, ...]) -> None:
        """StatisticsError unless this kind takes so many samples."""
        fewest, most = self.takes
        if len(samples) < fewest or (most is not None and len(samples) > most):
            raise StatisticsError(
                f"{type(self).__name__} takes {words.how_many(fewest, most)}, not {len(samples)}: give one for each arm"
            )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A hypothesis with the samples that it is about."""

    hypothesis: Hypothesis
    samples: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class OnMeans(Hypothesis):
    """What the kinds on means share; a kind gives its `rule` and a few words."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Unit of the margin, in which the samples have to be."""

    @abstractmethod
    def rule(self, arms: int) -> Rule:
        """How this kind decides on so many arms."""

    def bind(self, *samples: Sample) -> tuple[tuple[Sample, ...], Rule]:
        """The samples and the rule for them."""
        self.check_count(samples)
        return samples, self.rule(len(samples))

    def judge(self, *samples: Sample) -> Verdict:
        """The verdict of one look at these samples."""
        return self._judge(samples, forecast=True)

    def judge_cell(self, *samples: Sample) -> Verdict:
        """The same without the seeds that it needs: simulating them takes longest."""
        return self._judge(samples, forecast=False)

    def _judge(self, samples: tuple[Sample, ...], forecast: bool) -> Verdict:
        samples, rule = self.bind(*samples)
        labels = [sample.label for sample in samples]
        return self.judge_by(rule, samples, lambda row: self.difference(labels, rule.weights[row]), forecast=forecast)

    def judge_by(
        self,
        rule: Rule,
        samples: tuple[Sample, ...],
        label: Callable[[int], str],
        cells: tuple[Cell, ...] = (),
        forecast: bool = True,
    ) -> Verdict:
        """The verdict of this rule on these samples; `label` names a contrast of the rule.

        With `forecast` an inconclusive one says how many seeds it needs.
        """
        check_samples(samples, self.unit)
        samples = tuple(in_seed_order(sample) for sample in samples)
        arms = Arms.of(samples)
        unstable = tuple(phrase for sample in samples for phrase in unstable_runs(sample))
        n = (arms.look,) * len(samples)
        tie = ties(samples, arms)
        seen = Verdict(
            kind=self.kind,
            contrast=contrast(rule, samples),
            status="inconclusive",
            reason=f"{tie}: inconclusive ({words.seeds(n)}).",
            unit=self.unit,
            n=n,
            p_hold=1.0,
            p_refute=1.0,
            cells=cells,
            unstable=unstable,
            arms=tuple(summary(sample) for sample in samples),
        )
        if tie:
            return seen
        decision = rule.decide(arms)
        status = status_of(decision)
        seen = replace(
            seen,
            status=status,
            p_hold=float(decision.p_hold),
            p_refute=float(decision.p_refute),
            stops=stopped(status, arms, rule, unstable),
        )
        if unstable and status == "inconclusive":
            return self._unstable(seen, rule, label)
        return self._by_interval(seen, rule, arms, samples, label, forecast)

    def _by_interval(
        self,
        seen: Verdict,
        rule: Rule,
        arms: Arms,
        samples: tuple[Sample, ...],
        label: Callable[[int], str],
        forecast: bool,
    ) -> Verdict:
        contrasts = rule.contrasts(arms)
        critical = rule.critical(contrasts)
        place = _TURNED[seen.status] if rule.turned else seen.status
        level = rule.level_at(arms.look)
        level = level if place == "held" else rule.refuting(level)
        low, high = (float(ends[critical]) for ends in contrasts.interval(level))
        estimate = float(contrasts.estimate[critical])
        reason = (
            f"{self._estimated(label(critical), estimate, rule)}, {words.percent(level)} interval "
            f"[{signed(low, self.unit)}, {signed(high, self.unit)}], {self.where(rule, place, high)}: "
            f"{seen.status} ({words.seeds(seen.n or ())})"
        )
        needed = seeds_range(rule, arms, rule.step(arms)) if seen.inconclusive and forecast else None
        reason += words.more(needed, seen.stops) + words.left_out(seen.unstable)
        return replace(
            seen,
            reason=f"{reason}{self.caveat(seen.status, samples)}.",
            label=label(critical),
            estimate=estimate,
            low=low,
            high=high,
            level=level,
            seeds_needed=needed,
            rho=_rho(samples, rule.weights[critical]),
            margins=self.margins(rule, arms),
        )

    def _unstable(self, seen: Verdict, rule: Rule, label: Callable[[int], str]) -> Verdict:
        """Inconclusive, with an estimate but no interval: the mean describes no Run."""
        reason = f"{words.unstable(seen.unstable, sum(seen.n or ()))}: inconclusive ({words.seeds(seen.n or ())})"
        reason += words.STOPS if seen.stops else ""
        means = np.array([math.nan if arm.mean is None else arm.mean for arm in seen.arms])
        estimates = np.asarray(rule.weights) @ means - rule.reference
        if not np.isfinite(estimates).all():
            return replace(seen, reason=f"{reason}.")
        critical = int(estimates.argmin())
        estimate = float(estimates[critical])
        reason = f"{self._estimated(label(critical), estimate, rule)}, but {reason}."
        return replace(seen, reason=reason, label=label(critical), estimate=estimate)

    def _estimated(self, label: str, estimate: float, rule: Rule) -> str:
        rivals = f" (the deciding one of {len(rule.weights)} rivals)" if len(rule.weights) > 1 else ""
        return f"{label} = {signed(estimate, self.unit)} {self.unit}{rivals}"

    def difference(self, labels: Sequence[str], weights: Sequence[float]) -> str:
        """A contrast in words: the labels of the columns with a weight."""
        named = [label for label, weight in zip(labels, weights, strict=True) if weight]
        return "({} - {}) - ({} - {})".format(*named) if len(named) == 4 else " - ".join(named)

    def where(self, rule: Rule, place: Status, high: float) -> str:
        """Where the interval lies: about one threshold, or two."""
        if np.isfinite(rule.hold[1]):
            phrases = {"held": "inside", "refuted": "outside", "inconclusive": "across the edge of"}
            return f"{phrases[place]} ({words.bound(rule.hold[0])}, {words.bound(rule.hold[1])})"
        threshold = words.bound(rule.hold[0])
        return {"held": f"above {threshold}", "refuted": f"below {threshold}"}.get(
            place, f"on both sides of {threshold}"
        )

    def caveat(self, status: Status, samples: tuple[Sample, ...]) -> str:
        """What a reader has to know beside the verdict, as the end of its reason."""
        return ""

    def margins(self, rule: Rule, arms: Arms) -> dict[float, Status]:
        """The status at other margins, where that is shown."""
        return {}


def status_of(decision: Decision) -> Status:
    """The word for one decision."""
    return "held" if decision.held else "refuted" if decision.refuted else "inconclusive"


def stopped(status: Status, arms: Arms, tester: Tester, unstable: Sequence[str]) -> Stops | None:
    """Why an undecided claim trains no further, None where the next look may decide it."""
    if status != "inconclusive" or arms.look >= LAST or any(tester.hopeful(arms)):
        return None
    return "unstable" if unstable else "futile"


def in_seed_order(sample: Sample) -> Sample:
    """The same sample with its Runs in the order of their seeds."""
    order = sorted(range(len(sample.seeds)), key=lambda i: sample.seeds[i])
    return replace(
        sample,
        values=tuple(sample.values[i] for i in order),
        seeds=tuple(sample.seeds[i] for i in order),
        digests=tuple(sample.digests[i] for i in order),
        diverged=tuple(sample.diverged[i] for i in order),
        accuracies=tuple(sample.accuracies[i] for i in order),
    )


def summary(sample: Sample) -> ArmSummary:
    """Mean and sd over all Runs of the sample, None where a value is not finite."""
    values = np.array(sample.values, dtype=np.float64)
    finite = bool(np.isfinite(values).all())
    return ArmSummary(
        label=sample.label,
        n=len(values),
        mean=float(values.mean()) if finite else None,
        sd=float(values.std(ddof=1)) if finite else None,
    )


def _rho(samples: tuple[Sample, ...], weights: tuple[float, ...]) -> float | None:
    """Pearson correlation over seeds of the two arms in a contrast, from 3 seeds on."""
    pair = np.array([sample.values for sample, weight in zip(samples, weights, strict=True) if weight])
    if len(pair) != 2 or pair.shape[1] < 3 or not np.isfinite(pair).all():
        return None
    first, second = pair - pair.mean(axis=1, keepdims=True)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))
