"""How often a whole suite would be wrong: its claims, judged look by look on simulated arms."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnlab.stats.arms import Arms
from bnlab.stats.composed import AllOf
from bnlab.stats.exact import Separation, Stability
from bnlab.stats.interval import Flags, Numbers
from bnlab.stats.looks import LAST, LEVELS
from bnlab.stats.rule import Rule, Tester
from bnlab.stats.stability import collapsed

FALLEN = 20.0
"""Accuracy in percent around which a collapsed Run of a simulation ends, with an sd of 5."""

FAR = 99.0
"""How far inside its region a contrast is put that shall not matter."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One distinct contrast of a suite: what decides it, and its arms as columns of the suite."""

    tester: Tester
    columns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What Runs are drawn from, by column: one metric of one arm.

    `means` has the shape [columns], or [suites, columns] where every suite has its own; `sds` and
    `collapses`, the chance that a Run collapses, have the shape [columns]. Columns of one arm,
    numbered in `arms`, collapse together. `percent` says which columns are accuracies.
    """

    means: Numbers
    sds: Numbers
    collapses: Numbers
    arms: tuple[int, ...]
    percent: Flags


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What came of simulated suites: one number per suite, but `decided` is a share per question."""

    false_held: Numbers
    false_refuted: Numbers
    decided: Numbers
    runs: Numbers


def judged(questions: Sequence[Question], truth: Truth, suites: int, seed: int = 0) -> Tally:
    """Put all questions to so many suites drawn from the truth; an arm trains as far as one needs."""
    return _tally([(question, truth) for question in questions], suites, seed)


def judged_on_edges(questions: Sequence[Question], truth: Truth, suites: int, hold: bool, seed: int = 0) -> Tally:
    """The same, with every question where held (`hold`), or else refuted, is just false.

    Each question moves the means of its own arms there, by as little as that takes, and no Run
    collapses. A question that has no such edge is left out.
    """
    healthy = replace(truth, collapses=np.zeros_like(truth.collapses))
    moved = []
    for question in questions:
        means = _edge(question, truth.means, hold)
        if means is not None:
            moved.append((question, replace(healthy, means=means)))
    return _tally(moved, suites, seed)


def false_where(tester: Tester, means: Numbers, collapses: Numbers) -> tuple[Flags, Flags]:
    """Whether held would be false, and refuted, where these are the true means, [..., arms].

    For the collapse of Runs the truth is their chance, [arms]; means are those of Runs that do not
    collapse.
    """
    if isinstance(tester, Rule):
        theta = means @ np.asarray(tester.weights).T - tester.reference
        (low, high), (far_low, far_high) = tester.hold, tester.refute
        held = ((theta <= low) | (theta >= high)).any(axis=-1)
        refuted = ((theta >= far_low) & (theta <= far_high)).all(axis=-1)
        return (refuted, held) if tester.turned else (held, refuted)
    if isinstance(tester, AllOf):
        parts = [false_where(part, means[..., list(own)], collapses[list(own)]) for part, own in tester.parts]
        return np.any([held for held, _ in parts], axis=0), np.all([refuted for _, refuted in parts], axis=0)
    if isinstance(tester, Separation):
        gap = means[..., 0] - means[..., 1] - tester.by.value
        return gap <= 0, gap >= 0
    assert isinstance(tester, Stability)
    everywhere = np.ones(means.shape[:-1], dtype=np.bool_)
    if len(collapses) == 2:
        return everywhere & (collapses[0] >= collapses[1]), everywhere & (collapses[1] >= tester.smallest)
    trains = collapses[0] < (tester.fails_below or tester.fails_above or 0.0)
    held, refuted = everywhere & (not trains), everywhere & trains
    return (held, refuted) if tester.fails_below else (refuted, held)


def _tally(asked: Sequence[tuple[Question, Truth]], suites: int, seed: int) -> Tally:
    held, refuted, decided = np.zeros(suites), np.zeros(suites), []
    seeds = np.zeros((suites, max((max(truth.arms) for _, truth in asked), default=0) + 1))
    noise: Numbers | None = None
    for question, truth in asked:
        if noise is None:
            rng = np.random.default_rng(seed)
            noise = rng.standard_normal((suites, len(truth.sds), LAST))
            luck = rng.random((suites, seeds.shape[1], LAST))
        columns = list(question.columns)
        arms = [truth.arms[column] for column in columns]
        means = np.broadcast_to(truth.means, (suites, len(truth.sds)))[:, columns]
        percent = truth.percent[columns]
        fell = luck[:, arms] < truth.collapses[columns][:, None]
        down = np.where(percent[:, None], FALLEN + 5.0 * noise[:, columns], means[..., None] + FAR)
        values = np.where(fell, down, means[..., None] + truth.sds[columns][:, None] * noise[:, columns])
        says_held, says_refuted, look = _settled(question.tester, values, fell, percent)
        false_held, false_refuted = false_where(question.tester, means, truth.collapses[columns])
        held += says_held & false_held
        refuted += says_refuted & false_refuted
        decided.append((says_held | says_refuted).mean())
        seeds[:, arms] = np.maximum(seeds[:, arms], look[:, None])
    return Tally(false_held=held, false_refuted=refuted, decided=np.array(decided), runs=seeds.sum(axis=1))


def _settled(tester: Tester, values: Numbers, fell: Flags, percent: Flags) -> tuple[Flags, Flags, Numbers]:
    """Held, refuted and the seeds at which that was said or training stopped, by suite."""
    held, refuted = np.zeros(len(values), dtype=np.bool_), np.zeros(len(values), dtype=np.bool_)
    seeds = np.zeros(len(values))
    open_ = np.arange(len(values))
    for look in LEVELS:
        runs, bad = values[open_, :, :look], fell[open_, :, :look]
        seen = np.where(percent[:, None], collapsed(np.where(percent[:, None], runs, 70.0), np.zeros_like(bad)), bad)
        arms = Arms.summarised(runs, seen)
        decision = tester.decide(arms)
        held[open_], refuted[open_], seeds[open_] = decision.held, decision.refuted, look
        if look < LAST:
            goes_on = ~decision.held & ~decision.refuted & np.logical_or(*tester.hopeful(arms))
            open_ = open_[goes_on]
    return held, refuted, seeds


def _edge(question: Question, means: Numbers, hold: bool) -> Numbers | None:
    """The nearest means that put the question on its edge; None if there are none."""
    columns = list(question.columns)
    for weights, targets in _targets(question.tester, len(columns), hold):
        moved = means.copy()
        moved[columns] += np.linalg.pinv(weights) @ (targets - weights @ means[columns])
        if false_where(question.tester, moved[columns], np.zeros(len(columns)))[not hold]:
            return moved
    return None


def _targets(tester: Tester, arms: int, hold: bool) -> Iterator[tuple[Numbers, Numbers]]:
    """Contrasts, and values for them at which the answer is just false."""
    if isinstance(tester, Separation):
        yield np.array([[1.0, -1.0]]), np.array([tester.by.value])
        return
    rows = list(_rows(tester, arms))
    turned = isinstance(tester, Rule) and tester.turned
    if hold == turned:
        # refuted is just false with every contrast at the edge of its region
        ends = [rule.reference + (low if math.isfinite(low := rule.refute[0]) else rule.refute[1]) for rule, _ in rows]
        if rows:
            yield np.array([row for _, row in rows]), np.array(ends)
        return
    for critical in range(len(rows)):
        # held is just false with one contrast at its edge and the others far inside
        ends = []
        for i, (rule, _) in enumerate(rows):
            low, high = rule.hold
            inside = (low + high) / 2 if math.isfinite(low + high) else low + FAR if math.isfinite(low) else high - FAR
            edge = low if math.isfinite(low) else high
            ends.append(rule.reference + (edge if i == critical else inside))
        yield np.array([row for _, row in rows]), np.array(ends)


def _rows(tester: Tester, arms: int) -> Iterator[tuple[Rule, Numbers]]:
    """Every contrast with its rule, its weights spread over so many arms."""
    if isinstance(tester, Rule):
        for weights in tester.weights:
            yield tester, np.asarray(weights)
    elif isinstance(tester, AllOf):
        for part, own in tester.parts:
            for rule, row in _rows(part, len(own)):
                spread = np.zeros(arms)
                spread[list(own)] = row
                yield rule, spread
