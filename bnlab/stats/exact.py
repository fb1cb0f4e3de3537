"""Kinds judged by exact probabilities, for sentences about collapse rather than about means."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, isfinite
from typing import ClassVar

import numpy as np
from scipy import special

from bnlab.errors import StatisticsError
from bnlab.stats import words
from bnlab.stats.arms import Arms
from bnlab.stats.checks import check_samples
from bnlab.stats.family import contrast
from bnlab.stats.hypothesis import Hypothesis, in_seed_order, status_of, stopped, summary
from bnlab.stats.interval import Flags, Numbers
from bnlab.stats.looks import level_at
from bnlab.stats.margins import Margin, check_margin, points, signed
from bnlab.stats.rule import Decision
from bnlab.stats.sample import Sample
from bnlab.stats.stability import unstable_runs
from bnlab.stats.verdict import Status, Verdict

SMALLEST_SHARE = 0.3
"""Share of collapsed Runs below which an arm hardly ever collapses; 0 of 16 Runs show it at the
level of that look."""

_ZERO = points(0.0)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What an exact kind reads off its samples: the start of the reason, and an estimate."""

    reason: str
    label: str
    unit: str
    estimate: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Exact(Hypothesis):
    """What the exact kinds share: they decide on the Runs themselves, collapsed ones included."""

    @property
    @abstractmethod
    def unit(self) -> str | None:
        """Unit in which the samples have to be; None for any."""

    @abstractmethod
    def p_values(self, arms: Arms) -> tuple[Numbers, Numbers]:
        """The one-sided p-values of held and of refuted."""

    @abstractmethod
    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Whether further seeds could still hold the claim, and whether they could refute it."""

    @abstractmethod
    def found(self, arms: Arms, labels: list[str], status: Status, level: float) -> Finding:
        """What to say about these arms."""

    def bind(self, *samples: Sample) -> tuple[tuple[Sample, ...], "Exact"]:
        """The samples and this kind, which decides itself."""
        self.check_count(samples)
        return samples, self

    def decide(self, arms: Arms) -> Decision:
        """The decision on these arms."""
        p_hold, p_refute = self.p_values(arms)
        return Decision(p_hold=p_hold, p_refute=p_refute, level=self.level or level_at(arms.look))

    def contrasts_of(self, labels: Sequence[str]) -> frozenset[str]:
        """The kind with its fields, and the arms."""
        return frozenset({repr((self, list(labels)))})

    def judge(self, *samples: Sample) -> Verdict:
        """The verdict of one look at these samples."""
        samples, _ = self.bind(*samples)
        check_samples(samples, self.unit)
        samples = tuple(in_seed_order(sample) for sample in samples)
        arms = Arms.of(samples)
        decision = self.decide(arms)
        status = status_of(decision)
        finding = self.found(arms, [sample.label for sample in samples], status, decision.level)
        stops = stopped(status, arms, self, ())
        n = (arms.look,) * len(samples)
        return Verdict(
            kind=self.kind,
            contrast=contrast(self, samples),
            status=status,
            reason=f"{finding.reason}: {status} ({words.seeds(n)}){words.STOPS if stops else ''}.",
            label=finding.label,
            unit=finding.unit,
            estimate=finding.estimate,
            low=finding.low,
            high=finding.high,
            level=decision.level,
            n=n,
            p_hold=float(decision.p_hold),
            p_refute=float(decision.p_refute),
            unstable=tuple(phrase for sample in samples for phrase in unstable_runs(sample)),
            arms=tuple(summary(sample) for sample in samples),
            stops=stops,
        )


@dataclass(frozen=True, kw_only=True)
class Separation(Exact):
    """The worst Run of A beats the best Run of B by more than `by`.

    Refuted if even the best Run of A does not beat the worst of B by that much.
    For "drops dramatically" where an arm may collapse: `judge(Separation(by=points(3.0)),
    batchnorm, minus)`. If A's Runs are not better than B's by more than `by`, each of the n + n
    Runs is as likely to be among the best n, and they separate so with probability 1 / (2n choose
    n) at most: 1/70 for 4 Runs each, 1/12,870 for 8.
    """

    by: Margin = _ZERO

    kind: ClassVar[str] = "separation"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_margin(self, "by", self.by)

    @property
    def unit(self) -> str:
        """Unit of `by`."""
        return self.by.unit

    def p_values(self, arms: Arms) -> tuple[Numbers, Numbers]:
        """1 / (2n choose n) for the side to which the Runs separate, 1 for the other."""
        p = 1 / comb(2 * arms.look, arms.look)
        above, below = self.hopeful(arms)
        return np.where(above, p, 1.0), np.where(below, p, 1.0)

    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Whether the Runs separate so far: further seeds never part what overlaps."""
        a, b = arms.values[..., 0, :] - self.by.value, arms.values[..., 1, :]
        return a.min(axis=-1) > b.max(axis=-1), a.max(axis=-1) < b.min(axis=-1)

    def found(self, arms: Arms, labels: list[str], status: Status, level: float) -> Finding:
        """The gap between the two arms."""
        a, b = arms.values
        above, below = self.hopeful(arms)
        gap = float(a.max() - b.min() if below else a.min() - b.max())
        label = "best of {} - worst of {}" if below else "worst of {} - best of {}"
        label = label.format(*labels)
        side = "above" if above else "below" if below else "not above"
        exact = f"exact p = 1/{comb(2 * arms.look, arms.look):,}" if above or below else "the two overlap"
        return Finding(
            reason=f"{label} = {signed(gap, self.unit)} {self.unit}, {side} {words.bound(self.by.value)} ({exact})",
            label=label,
            unit=self.unit,
            estimate=gap if isfinite(gap) else None,
        )


@dataclass(frozen=True, kw_only=True)
class Stability(Exact):
    """How often the Runs of an arm diverge, stay at chance or fall far below the others.

    With one sample, `Stability(fails_below=0.5)` claims that the arm trains: fewer than half of its
    Runs collapse. It is held and refuted by the exact binomial test (Clopper & Pearson 1934);
    `Stability(fails_above=0.5)` claims the opposite. With two samples, `Stability()` claims that A
    collapses less often than B: held by Fisher's exact test; refuted if B itself collapses in fewer
    than `smallest` of its Runs, by the binomial test.
    """

    fails_below: float | None = None
    fails_above: float | None = None
    smallest: float = SMALLEST_SHARE

    kind: ClassVar[str] = "stability"
    takes: ClassVar[tuple[int, int | None]] = (1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("fails_below", "fails_above", "smallest"):
            share = getattr(self, name)
            if share is not None and not (isinstance(share, float) and 0 < share < 1):
                raise StatisticsError(f"Stability({name}={share!r}): expected a share of the Runs between 0 and 1")

    @property
    def unit(self) -> None:
        """Collapse is told by accuracies, whatever the samples measure."""
        return None

    def check_count(self, samples: tuple[object, ...]) -> None:
        """One sample with one share, or two samples without any."""
        super().check_count(samples)
        shares = (self.fails_below is not None) + (self.fails_above is not None)
        if shares != (len(samples) == 1):
            raise StatisticsError(
                f"Stability with {len(samples)} sample{'s' * (len(samples) > 1)} and {shares} shares: give "
                "fails_below or fails_above for one sample, neither for two"
            )

    def p_values(self, arms: Arms) -> tuple[Numbers, Numbers]:
        """Of the binomial test for one arm, of Fisher's and the binomial test for two."""
        from scipy import stats  # half a second, which collecting and status need not wait

        fails, n = arms.collapsed.sum(axis=-1), arms.look
        first, last = fails[..., 0], fails[..., -1]
        if fails.shape[-1] == 2:
            return stats.hypergeom.cdf(first, 2 * n, first + last, n), stats.binom.cdf(last, n, self.smallest)
        share = self.fails_below or self.fails_above
        fewer, more = stats.binom.cdf(first, n, share), stats.binom.sf(first - 1, n, share)
        return (more, fewer) if self.fails_above else (fewer, more)

    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Further seeds may always tell."""
        yes = np.ones(arms.collapsed.shape[:-2], dtype=np.bool_)
        return yes, yes

    def found(self, arms: Arms, labels: list[str], status: Status, level: float) -> Finding:
        """The share of collapsed Runs with its interval, or the two counts."""
        fails, n = [int(count) for count in arms.collapsed.sum(axis=-1)], arms.look
        counts = [f"{count} of {n} runs of {label} collapsed" for count, label in zip(fails, labels, strict=True)]
        if len(fails) == 2:
            difference = 100 * (fails[0] - fails[1]) / n
            p_hold, p_refute = map(float, self.p_values(arms))
            fisher = f"Fisher's exact p = {p_hold:.2g}"
            rare = f"of the second, fewer than {100 * self.smallest:g} % with exact p = {p_refute:.2g}"
            return Finding(
                reason=f"{counts[0]} and {counts[1]} ({rare if status == 'refuted' else fisher})",
                label=" - ".join(labels),
                unit="percent of runs",
                estimate=difference,
            )
        (k,), tail_p = fails, (1 - level) / 2
        low = float(special.betaincinv(k, n - k + 1, tail_p)) if k else 0.0
        high = float(special.betaincinv(k + 1, n - k, 1 - tail_p)) if k < n else 1.0
        share = self.fails_below or self.fails_above or 0.0
        side = {"held": "below", "refuted": "above"} if self.fails_below else {"held": "above", "refuted": "below"}
        return Finding(
            reason=(
                f"{counts[0]}, {words.percent(level)} interval [{100 * low:.1f} %, {100 * high:.1f} %], "
                f"{side.get(status, 'on both sides of')} {100 * share:g} %"
            ),
            label=labels[0],
            unit="percent of runs",
            estimate=100 * k / n,
            low=100 * low,
            high=100 * high,
        )
