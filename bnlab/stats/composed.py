"""Every and Pooled: one verdict on a sentence about several cells, such as two batch sizes.

Both take what their hypothesis takes, but a tuple of samples where it takes one: a column with a
sample per cell. `judge(Superiority(), minus, none)` is about two arms, and
`judge(Every(Superiority()), (minus20, minus50), (none20, none50))` about two arms in each of two
cells. A single sample in place of a column is compared in every cell.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from bnlab.errors import StatisticsError
from bnlab.stats import words
from bnlab.stats.arms import Arms
from bnlab.stats.checks import check_samples
from bnlab.stats.family import contrast
from bnlab.stats.hypothesis import (
    Hypothesis,
    OnMeans,
    Stated,
    in_seed_order,
    status_of,
    stopped,
    summary,
)
from bnlab.stats.interval import Flags
from bnlab.stats.looks import level_at
from bnlab.stats.power import seeds_range
from bnlab.stats.rule import Decision, Rule, Tester
from bnlab.stats.sample import Sample
from bnlab.stats.verdict import Cell, Verdict

Column = Sample | Iterable[Sample]


@dataclass(frozen=True, kw_only=True)
class AllOf:
    """Held if all parts are held (intersection–union), refuted if one is (Bonferroni over them)."""

    parts: tuple[tuple[Tester, tuple[int, ...]], ...]
    level: float | None = None

    def decide(self, arms: Arms) -> Decision:
        """The decision on all parts."""
        found = [tester.decide(arms.take(own)) for tester, own in self.parts]
        p_refute = np.min([decision.p_refute for decision in found], axis=0)
        return Decision(
            p_hold=np.max([decision.p_hold for decision in found], axis=0),
            p_refute=np.minimum(1.0, len(found) * p_refute),
            level=self.level or level_at(arms.look),
        )

    def hopeful(self, arms: Arms) -> tuple[Flags, Flags]:
        """Whether all parts could still be held, and whether one could still be refuted."""
        hold, refute = zip(*(tester.hopeful(arms.take(own)) for tester, own in self.parts), strict=True)
        return np.all(hold, axis=0), np.any(refute, axis=0)

    def contrasts_of(self, labels: Sequence[str]) -> frozenset[str]:
        """Those of all parts."""
        parts = [tester.contrasts_of([labels[i] for i in own]) for tester, own in self.parts]
        return frozenset[str]().union(*parts)

    def needed(self, arms: Arms, hangs: int) -> tuple[int | None, int | None] | None:
        """The range of seeds that would decide; None if not all parts are rules on means."""
        rules = [(tester, own) for tester, own in self.parts if isinstance(tester, Rule)]
        if len(rules) < len(self.parts):
            return None
        rule, own = rules[hangs]
        step = np.zeros(len(arms.means))
        step[list(own)] = rule.step(arms.take(own))
        return seeds_range(self, arms, step)


@dataclass(frozen=True, init=False)
class Every(Hypothesis):
    """Each of the hypotheses holds in each cell; refuted if one is, at the Bonferroni level.

    For "on both batch sizes", "in each case": `judge(Every(Superiority(by=points(3.0))), (minus20,
    minus50), (none20, none50))`. Several hypotheses are all asked of every cell: "slightly better"
    is `judge(Every(Superiority(), Equivalence(margin=points(2.0))), minus, batchnorm)`. Hypotheses
    on different arms bring their samples along:
    `judge(Every(Superiority(by=points(3.0)).of(batchnorm, affine), Interaction().of(batchnorm,
    affine, minus, none)))`.
    """

    parts: tuple[Hypothesis | Stated, ...]

    kind: ClassVar[str] = "every"

    def __init__(self, *parts: Hypothesis | Stated, level: float | None = None) -> None:
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "level", level)
        super().__post_init__()
        wrong = [part for part in parts if not isinstance(part, Hypothesis | Stated)]
        if wrong or not parts:
            raise StatisticsError(
                f"Every was given {wrong[:1] or 'nothing'}: give hypotheses, as in Every(Superiority())"
            )

    @property
    def needs_all_epochs(self) -> bool:  # type: ignore[override]
        """Whether one of them does."""
        asked = (part.hypothesis if isinstance(part, Stated) else part for part in self.parts)
        return any(hypothesis.needs_all_epochs for hypothesis in asked)

    def bind(self, *columns: Column) -> tuple[tuple[Sample, ...], AllOf]:
        """The samples of all cells, each once, and what decides on them."""
        bound = [cell.hypothesis.bind(*cell.samples) for cell in self.cells(*columns)]
        samples = tuple(dict.fromkeys(sample for own, _ in bound for sample in own))
        index = {sample: i for i, sample in enumerate(samples)}
        parts = tuple((tester, tuple(index[sample] for sample in own)) for own, tester in bound)
        return samples, AllOf(parts=parts, level=self.level)

    def cells(self, *columns: Column) -> list[Stated]:
        """Each hypothesis on its samples, cell by cell."""
        asked = [part for part in self.parts if isinstance(part, Hypothesis)]
        if bool(asked) != bool(columns):
            raise StatisticsError(
                "Every takes samples where its hypotheses have none: give a column of samples for each arm, "
                "or hypotheses that are all stated with of(...)"
            )
        stated = [part for part in self.parts if isinstance(part, Stated)]
        cells = stated + [part.of(*row) for row in _rows("Every", columns) for part in asked]
        return cells if self.level is None else [replace(c, hypothesis=c.hypothesis.at(self.level)) for c in cells]

    def at(self, level: float) -> "Every":
        """The same at this level."""
        return Every(*self.parts, level=level)

    def judge(self, *columns: Column) -> Verdict:
        """The verdict of one look at the samples of every cell."""
        cells = self.cells(*columns)
        samples, tester = self.bind(*columns)
        check_samples(samples, None)
        found = [cell.hypothesis.judge_cell(*cell.samples) for cell in cells]
        arms = Arms.of([in_seed_order(sample) for sample in samples])
        decision = tester.decide(arms)
        status = status_of(decision)
        if status == "refuted":
            hangs = min(range(len(cells)), key=lambda i: found[i].p_refute or 0.0)
            critical = (
                cells[hangs].hypothesis.at(1 - (1 - decision.level) / len(cells)).judge_cell(*cells[hangs].samples)
            )
        else:
            hangs = max(range(len(cells)), key=lambda i: (found[i].p_hold or 0.0, -(found[i].estimate or 0.0)))
            critical = found[hangs]
        held = sum(verdict.held for verdict in found)
        where = {
            "held": f"the closest of {len(cells)} cells",
            "refuted": f"in one of {len(cells)} cells, at the level for all of them",
            "inconclusive": f"the least certain of {len(cells)} cells, of which {held} held by themselves",
        }[status]
        unstable = tuple(dict.fromkeys(phrase for verdict in found for phrase in verdict.unstable))
        stops = stopped(status, arms, tester, unstable)
        needed = None if unstable or status != "inconclusive" else tester.needed(arms, hangs)
        n = (arms.look,) * len(samples)
        reason = f"{words.finding(critical.reason)}, {where}: {status} ({words.seeds(n)}){words.more(needed, stops)}"
        return replace(
            critical,
            kind=self.kind,
            contrast=contrast(tester, samples),
            status=status,
            reason=f"{reason}{'' if status == 'inconclusive' else words.left_out(unstable)}.",
            n=n,
            seeds_needed=needed,
            p_hold=float(decision.p_hold),
            p_refute=float(decision.p_refute),
            rho=None,
            margins={},
            cells=tuple(_cell(verdict) for verdict in found),
            unstable=unstable,
            arms=tuple(summary(sample) for sample in samples),
            stops=stops,
        )


@dataclass(frozen=True, init=False)
class Pooled(Hypothesis):
    """The hypothesis about the mean over the cells of its contrast, each cell with the weight 1/m.

    For a sentence that lumps cells together: "with basic blocks BatchNorm-minus is as good" is
    `judge(Pooled(Equivalence(margin=points(1.0))), minus, batchnorm)` with a column of four samples
    each, for two networks at two batch sizes. The interval takes its degrees of freedom from all
    arms (Welch–Satterthwaite); every cell is judged beside it, by itself.
    """

    hypothesis: OnMeans

    def __init__(self, hypothesis: OnMeans, *, level: float | None = None) -> None:
        object.__setattr__(self, "hypothesis", hypothesis)
        object.__setattr__(self, "level", level)
        super().__post_init__()
        if not isinstance(hypothesis, OnMeans):
            raise StatisticsError(f"Pooled({hypothesis!r}): expected a hypothesis on means, such as Equivalence()")

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The kind of what is pooled."""
        return self.hypothesis.kind

    @property
    def needs_all_epochs(self) -> bool:  # type: ignore[override]
        """Whether what is pooled does."""
        return self.hypothesis.needs_all_epochs

    def at(self, level: float) -> "Pooled":
        """The same at this level."""
        return Pooled(self.hypothesis, level=level)

    def bind(self, *columns: Column) -> tuple[tuple[Sample, ...], Rule]:
        """The samples of all cells, each once, and the rule with the weights spread over them."""
        rows = _rows("Pooled", columns)
        samples = tuple(dict.fromkeys(sample for row in rows for sample in row))
        _, rule = self._inner.bind(*rows[0])
        weights = np.zeros((len(rule.weights), len(samples)))
        for row in rows:
            for column, sample in enumerate(row):
                weights[:, samples.index(sample)] += [contrast[column] / len(rows) for contrast in rule.weights]
        return samples, replace(rule, weights=tuple(map(tuple, weights.tolist())))

    def judge(self, *columns: Column) -> Verdict:
        """The verdict of one look at the samples of every cell."""
        rows = _rows("Pooled", columns)
        samples, rule = self.bind(*columns)
        _, alone = self._inner.bind(*rows[0])
        labels = [_common(column) for column in zip(*rows, strict=True)]
        cells = tuple(_cell(self._inner.judge_cell(*row)) for row in rows)

        def label(contrast: int) -> str:
            return f"{self._inner.difference(labels, alone.weights[contrast])}, pooled over {len(rows)} cells"

        return self._inner.judge_by(rule, samples, label, cells)

    @property
    def _inner(self) -> OnMeans:
        return self.hypothesis if self.level is None else replace(self.hypothesis, level=self.level)


def _rows(owner: str, columns: Sequence[Column]) -> list[tuple[Sample, ...]]:
    """The samples of each cell; a single sample stands in every one of them."""
    taken = [tuple(column) if isinstance(column, Iterable) else column for column in columns]
    lengths = {len(column) for column in taken if isinstance(column, tuple)}
    if len(lengths) > 1 or 0 in lengths:
        counts = ", ".join(str(len(column)) if isinstance(column, tuple) else "one" for column in taken)
        raise StatisticsError(
            f"{owner} was given columns of {counts} samples: give as many in each column, or one sample for all cells"
        )
    cells = max(lengths, default=1)
    return list(zip(*(column if isinstance(column, tuple) else [column] * cells for column in taken), strict=True))


def _common(column: Sequence[Sample]) -> str:
    """What the labels of a column have in common before their brackets, else the first label."""
    labels = list(dict.fromkeys(sample.label for sample in column))
    names = {label.partition(" (")[0] for label in labels}
    if len(labels) == 1 or len(names) > 1:
        return labels[0] + (f" and {len(labels) - 1} more" if len(labels) > 1 else "")
    return names.pop()


def _cell(verdict: Verdict) -> Cell:
    return Cell(
        label=verdict.label,
        kind=verdict.kind,
        status=verdict.status,
        unit=verdict.unit,
        estimate=verdict.estimate,
        low=verdict.low,
        high=verdict.high,
        level=verdict.level,
    )
