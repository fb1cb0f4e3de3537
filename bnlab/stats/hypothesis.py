"""Hypothesis: how samples become a Verdict, in one way for every kind on means."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bnlab.errors import StatisticsError
from bnlab.stats.checks import check_samples, check_variances
from bnlab.stats.interval import LEVEL, Numbers
from bnlab.stats.margins import signed
from bnlab.stats.power import MOST, seeds_needed
from bnlab.stats.rule import Decision, Rule
from bnlab.stats.sample import Sample
from bnlab.stats.stability import unstable_runs
from bnlab.stats.verdict import ArmSummary, Status, Verdict

_TURNED: dict[Status, Status] = {"held": "refuted", "refuted": "held", "inconclusive": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class Hypothesis(ABC):
    """What the kinds on means share: one look at `level` (two-sided), on arms that trained on the same seeds.

    A kind gives its `rule` and the words for where an interval lies. Higher is better; for a loss, swap the samples.
    """

    level: float = LEVEL

    kind: ClassVar[str]
    takes: ClassVar[int | None] = 2
    """How many samples; None for any number from 2."""
    turned: ClassVar[bool] = False
    """Whether the claim is that the rule is refuted."""

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1:
            raise StatisticsError(f"level is {self.level!r}: expected a number between 0.5 and 1, such as {LEVEL}")

    @property
    @abstractmethod
    def unit(self) -> str:
        """Unit of the margin, in which the samples have to be."""

    @abstractmethod
    def rule(self, arms: int) -> Rule:
        """How this kind decides on so many arms."""

    @property
    def reference(self) -> float:
        """What is taken off every arm's mean first, which is seen only by a kind with a single arm."""
        return 0.0

    def judge(self, *samples: Sample) -> Verdict:
        """The verdict of one look at these samples; StatisticsError if no honest verdict follows from them."""
        if len(samples) != self.takes and (self.takes or len(samples) < 2):
            takes = {None: "2 samples or more", 1: "1 sample"}.get(self.takes, f"{self.takes} samples")
            raise StatisticsError(f"{type(self).__name__} takes {takes}, not {len(samples)}: give one for each arm")
        check_samples(samples, self.unit)
        ordered = tuple(_in_seed_order(sample) for sample in samples)
        unstable = tuple(phrase for sample in ordered for phrase in unstable_runs(sample))
        if unstable:
            return self._judge_unstable(ordered, unstable)
        check_variances(ordered)
        return self._judge_means(ordered)

    def _judge_means(self, samples: tuple[Sample, ...]) -> Verdict:
        rule = self.rule(len(samples))
        means, variances, n = summarise(samples)
        means -= self.reference
        decision = rule.decide(means, variances, n)
        place = status_of(decision)
        status = _TURNED[place] if self.turned else place
        critical = rule.critical(decision.contrasts)
        weights = rule.weights[critical]
        level = rule.level if place == "held" else rule.refuting_level
        low, high = (float(bounds[critical]) for bounds in decision.contrasts.interval(level))
        needed = seeds_needed(rule, means, np.sqrt(variances), max(n)) if status == "inconclusive" else None
        estimate = float(decision.contrasts.estimate[critical])
        reason = (
            f"{self._estimate_in_words(samples, weights, estimate)}, "
            f"{100 * level:.4g} % interval [{signed(low, self.unit)}, {signed(high, self.unit)}], "
            f"{self._where(rule, place, high)}: {status} ({_seeds(n)})"
        )
        if status == "inconclusive":
            reason += f"; needs about {needed} seeds" if needed else f"; on the boundary (more than {MOST} seeds)"
        p_hold, p_refute = (float(p) for p in rule.p_values(decision.contrasts))
        return Verdict(
            kind=self.kind,
            status=status,
            reason=f"{reason}.",
            unit=self.unit,
            estimate=estimate,
            low=low,
            high=high,
            level=level,
            n=n,
            p_hold=p_refute if self.turned else p_hold,
            p_refute=p_hold if self.turned else p_refute,
            seeds_needed=needed,
            rho=_rho(samples, weights),
            margins=self._margins(samples),
            arms=tuple(_summary(sample) for sample in samples),
        )

    def _judge_unstable(self, samples: tuple[Sample, ...], unstable: tuple[str, ...]) -> Verdict:
        """Inconclusive, with an estimate where all values are finite, but no interval: the mean describes no run."""
        means, _, n = summarise(samples)
        shown = "; ".join(unstable[:3]) + (f"; and {len(unstable) - 3} more" if len(unstable) > 3 else "")
        reason = f"unstable arm, {len(unstable)} of {sum(n)} runs ({shown}): inconclusive ({_seeds(n)})."
        estimate = None
        if np.isfinite(means).all():
            rule = self.rule(len(samples))
            estimates = np.asarray(rule.weights) @ (means - self.reference)
            critical = int(estimates.argmin())
            estimate = float(estimates[critical])
            reason = f"{self._estimate_in_words(samples, rule.weights[critical], estimate)}, but {reason}"
        return Verdict(
            kind=self.kind,
            status="inconclusive",
            reason=reason,
            unit=self.unit,
            estimate=estimate,
            n=n,
            p_hold=1.0,
            p_refute=1.0,
            unstable=unstable,
            arms=tuple(_summary(sample) for sample in samples),
        )

    def _estimate_in_words(self, samples: tuple[Sample, ...], weights: tuple[float, ...], estimate: float) -> str:
        named = [sample.label for sample, weight in zip(samples, weights, strict=True) if weight]
        rivals = f" (the strongest of {len(samples) - 1} rivals)" if len(samples) > len(named) else ""
        return f"{self._difference(named)} = {signed(estimate, self.unit)} {self.unit}{rivals}"

    def _difference(self, labels: list[str]) -> str:
        """The contrast of the arms with these labels."""
        return "({} - {}) - ({} - {})".format(*labels) if len(labels) == 4 else " - ".join(labels)

    def _where(self, rule: Rule, place: Status, high: float) -> str:
        """Where the interval lies: about one threshold, or two."""
        if np.isfinite(rule.hold[1]):
            words = {"held": "inside", "refuted": "outside", "inconclusive": "across the edge of"}
            return f"{words[place]} ({bound(rule.hold[0])}, {bound(rule.hold[1])})"
        threshold = bound(rule.hold[0])
        return {"held": f"above {threshold}", "refuted": f"below {threshold}"}.get(
            place, f"on both sides of {threshold}"
        )

    def _margins(self, samples: tuple[Sample, ...]) -> dict[float, Status]:
        return {}


def summarise(samples: tuple[Sample, ...]) -> tuple[Numbers, Numbers, tuple[int, ...]]:
    """Means, variances (n - 1) and seed counts of the samples, one per arm; NaN for an arm with non-finite values."""
    values = [np.where(np.isfinite(sample.values), sample.values, np.nan) for sample in samples]
    means = np.array([column.mean() for column in values])
    variances = np.array([column.var(ddof=1) for column in values])
    return means, variances, tuple(len(column) for column in values)


def status_of(decision: Decision) -> Status:
    """The word for one decision."""
    return "held" if decision.held else "refuted" if decision.refuted else "inconclusive"


def bound(value: float) -> str:
    """The end of a region in words: "0", "+1", "-0.5"."""
    return "0" if value == 0 else f"{value:+g}"


def _seeds(n: tuple[int, ...]) -> str:
    return f"n = {' + '.join(map(str, n))}"


def _in_seed_order(sample: Sample) -> Sample:
    order = sorted(range(len(sample.seeds)), key=lambda i: sample.seeds[i])
    return replace(
        sample,
        values=tuple(sample.values[i] for i in order),
        seeds=tuple(sample.seeds[i] for i in order),
        digests=tuple(sample.digests[i] for i in order),
        diverged=tuple(sample.diverged[i] for i in order),
        accuracies=tuple(sample.accuracies[i] for i in order),
    )


def _rho(samples: tuple[Sample, ...], weights: tuple[float, ...]) -> float | None:
    """Pearson correlation over seeds of the two arms in a contrast; None for other contrasts and below 3 seeds."""
    pair = np.array([sample.values for sample, weight in zip(samples, weights, strict=True) if weight])
    if len(pair) != 2 or pair.shape[1] < 3:
        return None
    first, second = pair - pair.mean(axis=1, keepdims=True)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _summary(sample: Sample) -> ArmSummary:
    (mean,), (variance,), (n,) = summarise((sample,))
    finite = bool(np.isfinite(mean))
    return ArmSummary(
        label=sample.label,
        n=n,
        mean=float(mean) if finite else None,
        sd=float(np.sqrt(variance)) if finite else None,
    )
