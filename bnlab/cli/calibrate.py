"""`python -m bnlab calibrate`: how often the verdicts of the whole suite would be false."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bnlab.claims import Claim
from bnlab.errors import SpecError
from bnlab.needs import PlannedSample
from bnlab.paper import published as printed_difference
from bnlab.parts import BATCHNORM, BATCHNORM_MINUS
from bnlab.specs import RunSpec
from bnlab.stats import Every, Replication
from bnlab.stats.calibrate import Question, Tally, Truth, judged, judged_on_edges
from bnlab.stats.interval import Flags, Numbers
from bnlab.words import count

SD = 0.53
"""Sd over seeds, in points, of the mean accuracy of the last three epochs: pooled over the
recorded Runs of ResNet18, which have five (32 degrees of freedom)."""

BOTTLENECK = 1.3
"""Times as large with bottleneck blocks; assumed, as are the next two, for want of Runs."""

UNSTEADY = {50: 2.0, 101: 3.0}
"""Standard deviation, by depth, of BatchNorm-minus where it is said to have trouble converging."""

COLLAPSES, OTHER_COLLAPSES = 0.03, 0.002
"""Chance that such a Run collapses, and that any other Run does."""

_UNITS = {"points": (72.0, SD, 1.0), "nats": (0.6, 0.03, 0.1), "log ratio": (0.5, 0.15, 0.3), "ratio": (1.5, 0.15, 0.3)}
"""By unit: a mean where the paper prints none, an sd over seeds, and the sd of the prior."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The distinct contrasts of all claims, and the paper's numbers as a truth for their Runs.

    `printed` says of which contrasts the paper's tables give the difference; the others rest on assumed numbers.
    `known` says of which columns of the truth the tables give the accuracy, `unsure` how far any may be off (sd).
    """

    claims: int
    names: tuple[str, ...]
    questions: tuple[Question, ...]
    printed: tuple[bool, ...]
    paper: Truth
    known: Flags
    unsure: Numbers

    @classmethod
    def of(cls, claims: Sequence[Claim]) -> "Suite":
        """The suite of these claims, without those whose body looks at Runs before it judges."""
        asked: dict[str, tuple[tuple[PlannedSample, ...], Any]] = {}
        published: dict[RunSpec, float] = {}
        names: dict[str, str] = {}
        printed: dict[str, bool] = {}
        put = 0
        for claim in claims:
            contrast = claim.contrast
            if contrast is None:
                continue
            put += 1
            hypothesis, *samples = claim.needs.judged
            asked.setdefault(contrast, hypothesis.bind(*samples))
            names.setdefault(contrast, claim.nodeid)
            printed.setdefault(contrast, printed_difference(hypothesis, *samples) is not None)
            cells = hypothesis.cells(*samples) if isinstance(hypothesis, Every) else [hypothesis.of(*samples)]
            for cell in cells:
                if isinstance(cell.hypothesis, Replication):
                    published[cell.samples[0].spec] = cell.hypothesis.published
        columns = list(dict.fromkeys(sample for samples, _ in asked.values() for sample in samples))
        index = {sample: i for i, sample in enumerate(columns)}
        questions = tuple(
            Question(tester=tester, columns=tuple(index[sample] for sample in samples))
            for samples, tester in asked.values()
        )
        specs = list(dict.fromkeys(sample.spec for sample in columns))
        truth = Truth(
            means=np.array([_mean(sample, published) for sample in columns]),
            sds=np.array([_sd(sample) for sample in columns]),
            collapses=np.array([_collapses(sample) for sample in columns]),
            arms=tuple(specs.index(sample.spec) for sample in columns),
            percent=np.array([sample.metric.is_accuracy for sample in columns]),
        )
        unsure = np.array([_UNITS[sample.unit][2] for sample in columns])
        return cls(
            claims=put,
            names=tuple(names.values()),
            questions=questions,
            printed=tuple(printed.values()),
            paper=truth,
            known=np.array([sample.spec in published and sample.metric.is_accuracy for sample in columns]),
            unsure=unsure,
        )

    def scenarios(self, suites: int) -> list[tuple[str, Tally]]:
        """Each truth by its name, with what came of it."""
        rng = np.random.default_rng(1)
        off = self.unsure * rng.standard_normal((suites, len(self.unsure)))
        nothing = np.where(self.paper.percent, _UNITS["points"][0], 0.0)
        same = replace(self.paper, means=nothing)
        stated = [question for question, printed in zip(self.questions, self.printed, strict=True) if printed]
        return [
            (
                "the paper's numbers, others +- 1 point (sd)",
                judged(
                    self.questions, replace(self.paper, means=self.paper.means + np.where(self.known, 0, off)), suites
                ),
            ),
            ("the paper's numbers, others BatchNorm's", judged(self.questions, self.paper, suites)),
            (f"of these, {count(len(stated), 'contrast')} that it prints", judged(stated, self.paper, suites)),
            (
                "the paper's numbers +- 1 point (sd) per arm",
                judged(self.questions, replace(self.paper, means=self.paper.means + off), suites),
            ),
            ("no norm matters", judged(self.questions, same, suites)),
            ("every claim where HELD is just false", judged_on_edges(self.questions, same, suites, hold=True)),
            ("every claim where REFUTED is just false", judged_on_edges(self.questions, same, suites, hold=False)),
        ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `calibrate`."""
    parser.add_argument(
        "--suites", type=int, default=1000, metavar="N", help="simulated suites per truth (default: 1000)"
    )
    parser.add_argument(
        "--each", action="store_true", help="say how often each claim is decided, the seldom ones first"
    )


def run(claims: Sequence[Claim], suites: int, each: bool = False) -> int:
    """Print what verdicts on these claims would be worth, for several truths."""
    if suites < 2:
        raise SpecError(f"--suites {suites}: a rate takes at least 2 suites, and some hundreds to be of use")
    suite = Suite.of(claims)
    arms = len(set(suite.paper.arms))
    contrasts = f"{count(len(suite.questions), 'distinct contrast')} of {count(arms, 'arm')}"
    print(f"{count(len(claims), 'claim')}, {suite.claims} of them on {contrasts}; {suites} suites per truth, +- 1 se")
    print(f"{'truth':<46} {'false HELD':>16} {'false REFUTED':>16} {'decided':>9} {'Runs':>14}")
    for name, tally in suite.scenarios(suites):
        print(
            f"{name:<46} {_rate(tally.false_held):>16} {_rate(tally.false_refuted):>16} "
            f"{100 * tally.decided.mean():>7.1f} % {tally.runs.mean():>5.0f} of {16 * arms:>5}"
        )
    if each:
        print("decided, if the paper's numbers are the truth:")
        decided = judged(suite.questions, suite.paper, suites).decided
        for share, name in sorted(zip(decided.tolist(), suite.names, strict=True)):
            print(f"{100 * share:>5.1f} % {name}")
    return 0


def _rate(counts: Numbers) -> str:
    return f"{counts.mean():.3f} +- {counts.std(ddof=1) / len(counts) ** 0.5:.3f}"


def _mean(sample: PlannedSample, published: dict[RunSpec, float]) -> float:
    """The published accuracy of this arm, else of BatchNorm in its network; a loss falls with it."""
    spec, default = sample.spec, _UNITS[sample.unit][0]
    if sample.unit not in ("points", "nats"):
        return default
    if sample.unit == "points" and not sample.metric.is_accuracy:
        return 0.0  # a difference of accuracies, on which the paper says nothing
    nearest = sorted(published, key=lambda other: _distance(spec, other))
    accuracy = published[nearest[0]] if nearest else _UNITS["points"][0]
    return accuracy if sample.unit == "points" else (100 - accuracy) / 50


def _depth(spec: RunSpec) -> int:
    depth = spec.net.keywords.get("depth")
    return depth if isinstance(depth, int) else 0


def _distance(spec: RunSpec, other: RunSpec) -> tuple[bool, ...]:
    return (
        _depth(spec) != _depth(other),
        spec.norm != other.norm,
        other.norm != BATCHNORM,
        spec.batch_size != other.batch_size,
    )


def _unsteady(spec: RunSpec) -> float | None:
    return UNSTEADY.get(_depth(spec)) if spec.norm == BATCHNORM_MINUS else None


def _sd(sample: PlannedSample) -> float:
    if sample.unit != "points":
        return _UNITS[sample.unit][1]
    return _unsteady(sample.spec) or SD * (BOTTLENECK if _depth(sample.spec) >= 50 else 1.0)


def _collapses(sample: PlannedSample) -> float:
    if sample.unit != "nats" and not sample.metric.is_accuracy:
        return 0.0
    return COLLAPSES if _unsteady(sample.spec) else OTHER_COLLAPSES
