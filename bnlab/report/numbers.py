"""The numbers behind the figures of the page, each figure as columns and rows.

The page shows them as a table beside the figure and `claims.json` holds them, so that nothing has to be read off a
drawing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnlab.paper import BATCH_SIZES, NETS, NORMS, PRINTED
from bnlab.parts import ResNet
from bnlab.protocol import PAPER, QUICK, Protocol
from bnlab.report.records import Summary
from bnlab.runs import Run, accuracy, last_accuracy, measured
from bnlab.specs import RunSpec, run_key
from bnlab.stats import LAST, Cell, Verdict
from bnlab.stats.interval import welch
from bnlab.stats.looks import LEVELS, level_at
from bnlab.statuses import JUDGED

EFFECTS = {
    "normalization, with shift and scale": (1.0, -1.0, 0.0, 0.0),
    "normalization, without": (0.0, 0.0, 1.0, -1.0),
    "shift and scale, normalized": (1.0, 0.0, -1.0, 0.0),
    "shift and scale, not normalized": (0.0, 1.0, 0.0, -1.0),
    "interaction": (1.0, -1.0, -1.0, 1.0),
}
"""The effects of the 2 x 2 design, as weights of the four norms in the order of NORMS."""

SHARES = (1, 5, 25, 50, 75, 95, 99)
"""Quantiles that the tables of distributions give; percent."""

FIRST_EPOCH = RunSpec(net=ResNet(18), norm=NORMS[0], batch_size=20, epochs=1)
"""What the paper's section 4.3 looks at, but for norm and batch size."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The numbers of one figure or table; `columns` have units in their names, a row has a value for each."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a number that is not finite is None."""
        rows = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in self.rows]
        return {"columns": list(self.columns), "rows": rows}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One of the 32 arms of Tables 4 to 7, and its recorded Runs of one effort, in seed order; there may be none.

    `status` is what the claim on its table says of it under the paper's protocol, if that was judged.
    """

    spec: RunSpec
    effort: Protocol
    runs: tuple[Run, ...]
    status: str | None = None

    @property
    def published(self) -> float:
        """The accuracy that the paper prints; percent."""
        return PRINTED[self.spec]

    @property
    def is_preview(self) -> bool:
        """Whether its Runs are shorter than the paper's."""
        return self.effort != PAPER

    @property
    def values(self) -> list[float]:
        """Mean test accuracy over the last fifth of the epochs, by seed; percent."""
        return [accuracy.read(run) for run in self.runs]

    @property
    def mean(self) -> float | None:
        """Their mean."""
        return _mean(self.values)

    @property
    def sd(self) -> float | None:
        """Their standard deviation (n - 1)."""
        return float(np.std(self.values, ddof=1)) if len(self.runs) > 1 else None

    @property
    def last(self) -> float | None:
        """Mean test accuracy after the last epoch; percent."""
        return _mean([run.curves["test_accuracy"][-1] for run in self.runs])

    @property
    def best(self) -> float | None:
        """Mean of each Run's best epoch; percent."""
        return _mean([max(run.curves["test_accuracy"]) for run in self.runs])

    @property
    def recalibrated(self) -> float | None:
        """Mean test accuracy with recalibrated statistics; percent, None for arms without any."""
        name = "test_accuracy_recalibrated"
        return _mean([run.readings[name] for run in self.runs if name in run.readings])

    @property
    def interval(self) -> tuple[float, float, float] | None:
        """Both ends of the mean's interval and its level."""
        found = contrast([self], (1.0,))
        return found and found[1:]

    @property
    def cell(self) -> tuple[str, str, int]:
        """Network, norm and batch size."""
        return str(self.spec.net), str(self.spec.norm), self.spec.batch_size


def contrast(arms: Sequence[Measured], weights: Sequence[float]) -> tuple[float, float, float, float] | None:
    """Estimate, both ends of its interval and the level at the fewest seeds; None below the first look."""
    seeds = min(len(arm.runs) for arm in arms)
    if seeds < min(LEVELS):
        return None
    level = level_at(seeds)
    values = [np.array(arm.values) for arm in arms]
    means, variances = np.array([v.mean() for v in values]), np.array([v.var(ddof=1) for v in values])
    found = welch(means, variances, [len(v) for v in values], [weights])
    low, high = (float(end[0]) for end in found.interval(level))
    return float(found.estimate[0]), low, high, level


def _told(found: Verdict | Cell) -> tuple[Any, ...]:
    return found.label, found.unit, found.estimate, found.low, found.high, found.level


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Every number of the figures, from the claims of a session and the recorded Runs by key."""

    summary: Summary
    runs: Mapping[str, Run]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All of them, in the order of the page."""
        return (self.cells, self.factorial, self.forest, self.distributions, self.best, self.curves)

    @cached_property
    def arms(self) -> Mapping[RunSpec, Measured]:
        """The 32 arms; those of one network and batch size with the highest effort that any of them has Runs of."""
        efforts = [PAPER, QUICK] if self.summary.protocol == PAPER.name else [QUICK]
        found: dict[RunSpec, Measured] = {}
        for net in NETS:
            for batch_size in BATCH_SIZES:
                specs = [RunSpec(net=net, norm=norm, batch_size=batch_size) for norm in NORMS]
                tried = [{spec: self._measured(spec, effort) for spec in specs} for effort in efforts]
                found |= next((arms for arms in tried if any(arm.runs for arm in arms.values())), tried[0])
        return found

    def _measured(self, spec: RunSpec, effort: Protocol) -> Measured:
        trained = effort.apply(spec, self.summary.data)
        label = measured(trained, last_accuracy)
        cells = [
            cell.status
            for claim in self.summary.claims
            if claim.status in JUDGED and claim.verdict is not None
            for cell in claim.verdict.cells
            if cell.kind == "replication" and cell.label.startswith(f"{label} - ")
        ]
        runs = self._of(trained)
        return Measured(spec=spec, effort=effort, runs=runs, status=next(iter(cells), None) if runs else None)

    def _of(self, spec: RunSpec) -> tuple[Run, ...]:
        """The recorded Runs of this RunSpec up to the last look."""
        found = (self.runs.get(run_key(spec, seed)) for seed in range(LAST))
        return tuple(run for run in found if run is not None)

    @cached_property
    def cells(self) -> Figure:
        """The paper's tables beside ours."""
        columns = (
            *("net", "norm", "batch_size", "paper_percent", "last_epoch_percent", "last_epoch_minus_paper_points"),
            *("mean_percent", "low_percent", "high_percent", "level", "n", "sd_points", "recalibrated_percent"),
            *("best_epoch_percent", "replication", "protocol"),
        )
        rows = []
        for arm in self.arms.values():
            difference = None if arm.last is None else arm.last - arm.published
            row = (*arm.cell, arm.published, arm.last, difference, arm.mean, *(arm.interval or (None, None, None)))
            rows.append((*row, len(arm.runs), arm.sd, arm.recalibrated, arm.best, arm.status, arm.effort.name))
        return Figure(name="cells", columns=columns, rows=tuple(rows))

    @cached_property
    def factorial(self) -> Figure:
        """What normalization and the affine map each add, with and without the other."""
        columns = ("net", "batch_size", "effect", "paper_points", "estimate_points", "low_points", "high_points")
        rows = []
        for net in NETS:
            for batch_size in BATCH_SIZES:
                arms = [self.arms[RunSpec(net=net, norm=norm, batch_size=batch_size)] for norm in NORMS]
                for effect, weights in EFFECTS.items():
                    used = [(arm, weight) for arm, weight in zip(arms, weights, strict=True) if weight]
                    paper = round(sum(arm.published * weight for arm, weight in used), 2)
                    found = contrast([arm for arm, _ in used], [weight for _, weight in used]) or (None,) * 4
                    rows.append((str(net), batch_size, effect, paper, *found, used[0][0].effort.name))
        return Figure(name="factorial", columns=(*columns, "level", "protocol"), rows=tuple(rows))

    @cached_property
    def forest(self) -> Figure:
        """The deciding contrast of every claim, and every contrast of a composed one."""
        columns = ("nodeid", "deciding", "contrast", "unit", "estimate", "low", "high", "level", "status", "protocol")
        rows = []
        for claim in self.summary.claims:
            outcome = claim.shown
            if outcome is None or (verdict := outcome.verdict) is None or verdict.unit is None:
                continue
            rows.append((claim.nodeid, True, *_told(verdict), outcome.status, outcome.protocol))
            rows += [(claim.nodeid, False, *_told(cell), cell.status, outcome.protocol) for cell in verdict.cells]
        return Figure(name="forest", columns=columns, rows=tuple(rows))

    @cached_property
    def first_epoch(self) -> Mapping[tuple[str, int], tuple[Run, ...]]:
        """The Runs of one epoch with the probe `first_epoch`, by norm and batch size."""
        specs = [replace(FIRST_EPOCH, norm=norm, batch_size=size) for norm in NORMS for size in BATCH_SIZES]
        found = {(str(spec.norm), spec.batch_size): self._first_epoch(spec) for spec in specs}
        return {arm: runs for arm, runs in found.items() if runs}

    def _first_epoch(self, spec: RunSpec) -> tuple[Run, ...]:
        found = self._of(PAPER.apply(spec, self.summary.data))
        return tuple(run for run in found if "final/gradient/late/quantiles" in run.probes.get("first_epoch", {}))

    @cached_property
    def distributions(self) -> Figure:
        """Weights and gradients of the first epoch (Figures 3 and 4 of the paper)."""
        columns = ("norm", "batch_size", "layer", "kind", "when", "n", "deviation", *(f"q{q}" for q in SHARES))
        rows = []
        for arm, runs in self.first_epoch.items():
            for layer, kind, when in WHERE:
                read = [run.probes["first_epoch"] for run in runs]
                deviation = float(np.mean([found[f"{layer}/{kind}/{when}/deviation"] for found in read]))
                quantiles = self.quantiles(*arm, f"{layer}/{kind}/{when}")[list(SHARES)]
                rows.append((*arm, layer, kind, when, len(runs), deviation, *map(float, quantiles)))
        return Figure(name="distributions", columns=columns, rows=tuple(rows))

    def quantiles(self, norm: str, batch_size: int, where: str) -> NDArray[np.float64]:
        """Quantiles of 0, 1, ..., 100 percent, [101], each the mean over the seeds."""
        runs = self.first_epoch[norm, batch_size]
        read = np.asarray([run.probes["first_epoch"][f"{where}/quantiles"] for run in runs], np.float64)
        return np.asarray(np.mean(read, axis=0))

    @cached_property
    def best(self) -> Figure:
        """The better of two batch sizes for every network and norm (Figure 5 of the paper)."""
        columns = ("net", "norm", "paper_percent", "batch_size", "mean_percent", "low_percent", "high_percent", "n")
        rows = []
        for net in NETS:
            for norm in NORMS:
                arms = [self.arms[RunSpec(net=net, norm=norm, batch_size=size)] for size in BATCH_SIZES]
                paper = max(arm.published for arm in arms)
                better = max(arms, key=lambda arm: -1.0 if arm.mean is None else arm.mean)
                ends = (better.interval or (None, None))[:2]
                told = (better.spec.batch_size, better.mean, *ends, len(better.runs)) if better.runs else (None,) * 5
                rows.append((str(net), str(norm), paper, *told))
        return Figure(name="best", columns=columns, rows=tuple(rows))

    @cached_property
    def curves(self) -> Figure:
        """Test accuracy by epoch of every Run of the 32 arms."""
        columns = ("net", "norm", "batch_size", "seed", "protocol", "test_accuracy_by_epoch_percent")
        rows = [
            (*arm.cell, run.seed, arm.effort.name, list(run.curves["test_accuracy"]))
            for arm in self.arms.values()
            for run in arm.runs
        ]
        return Figure(name="curves", columns=columns, rows=tuple(rows))


WHERE = [(la, kind, when) for la in ("input", "final") for kind in ("weight", "gradient") for when in ("early", "late")]
"""Layer, kind and time of the distributions that the probe reads."""
