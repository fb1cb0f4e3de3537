"""Figures as SVG: drawn by matplotlib, with text as text and colours that follow the page's light or dark theme.

The same numbers give the same bytes: no date, no random identifiers.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from bnlab.paper import BATCH_SIZES, NETS, NORMS
from bnlab.report.numbers import Measured, Numbers
from bnlab.specs import RunSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_VARIABLES = {
    "#000001": "ink",
    "#000002": "faint",
    "#000003": "line",
    "#000004": "blue",
    "#000005": "vermillion",
    "#000006": "green",
    "#000007": "paper",
}
"""Colours that stand for a variable of the page's style sheet while a figure is drawn."""

INK, FAINT, LINE, BLUE, VERMILLION, GREEN, PAPER = _VARIABLES

_NORMS = dict(
    zip(map(str, NORMS), [(BLUE, "o", "-"), (VERMILLION, "s", "--"), (GREEN, "^", "-"), (INK, "D", "--")], strict=True)
)
"""Colour, marker and line of each norm; the line is solid where it normalizes."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.0,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}


def panel(name: str, title: str, draw: Callable[["Axes"], None], size: tuple[float, float] = (3.6, 2.7)) -> str:
    """One small figure as an SVG element; `draw` fills its axes, `name` keeps its identifiers apart from others'."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title)
        draw(axes)
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _for_page(out.getvalue(), title)


def _for_page(svg: str, title: str) -> str:
    """The SVG element alone, as wide as its place, with the page's colours and no identifier that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if f"#{found[1]}" in svg else "", svg)
    svg = re.sub(r"^<svg[^>]*viewBox", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox', svg, count=1)
    svg = re.sub(
        r'^<svg([^>]*?)( version="[^"]*")?>', rf'<svg role="img" aria-label="{escape(title)}"\1>', svg, count=1
    )
    svg = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "sans-serif", svg)
    svg = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r">\s+<", "><", svg).strip()


def factorial(numbers: Numbers) -> list[str]:
    """One panel for each network and batch size: accuracy without and with shift and scale, normalized and not."""
    return _by_cell(numbers, "factorial", _factorial)


def curves(numbers: Numbers) -> list[str]:
    """One panel for each network and batch size: every seed thin, the median of each arm thick."""
    return _by_cell(numbers, "curves", _curves)


def _by_cell(numbers: Numbers, name: str, draw: Callable[..., None]) -> list[str]:
    """The panels of those networks and batch sizes that have Runs."""
    found = []
    for net in NETS:
        for size in BATCH_SIZES:
            arms = [numbers.arms[RunSpec(net=net, norm=norm, batch_size=size)] for norm in NORMS]
            if any(arm.runs for arm in arms):
                found.append(panel(f"{name}-{net}-{size}", f"{net}, batch {size}", partial(draw, arms=arms)))
    return found


def _factorial(axes: "Axes", arms: Sequence[Measured]) -> None:
    batchnorm, affine, minus, none = arms
    for label, pair, colour, marker in (
        ("normalized", (minus, batchnorm), BLUE, "o"),
        ("not normalized", (none, affine), VERMILLION, "s"),
    ):
        axes.plot([0, 1], [arm.published for arm in pair], color=colour, linestyle=":", linewidth=1, marker="_")
        there = [(x, arm) for x, arm in enumerate(pair) if arm.runs]
        face = PAPER if any(arm.is_preview for _, arm in there) else colour
        if there:
            axes.plot(
                [x for x, _ in there],
                [np.mean(arm.values) for _, arm in there],
                color=colour,
                marker=marker,
                markerfacecolor=face,
                label=label,
            )
        for x, arm in there:
            if (ends := arm.interval) is not None:
                axes.plot([x, x], ends[:2], color=colour, linewidth=1.5)
    axes.set_xticks([0, 1], ["without", "with shift and scale"])
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylabel("test accuracy, %")
    if any(arm.runs for arm in arms):
        axes.legend(loc="best")


def _curves(axes: "Axes", arms: Sequence[Measured]) -> None:
    for arm in arms:
        if not arm.runs:
            continue
        colour, marker, line = _NORMS[str(arm.spec.norm)]
        seeds = [run.curves["test_accuracy"] for run in arm.runs]
        epochs = range(1, len(seeds[0]) + 1)
        for seed in seeds:
            axes.plot(epochs, seed, color=colour, linewidth=0.5, alpha=0.45)
        label = f"{arm.spec.norm} (n = {len(seeds)})"
        axes.plot(
            epochs,
            np.median(seeds, axis=0),
            color=colour,
            linestyle=line,
            linewidth=1.8,
            marker=marker,
            markersize=4,
            markerfacecolor=PAPER if arm.is_preview else colour,
            label=label,
        )
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.legend(loc="lower right")


def best(numbers: Numbers) -> list[str]:
    """One panel a network: the better of two batch sizes, ours with its interval and the paper's."""
    rows = [dict(zip(numbers.best.columns, row, strict=True)) for row in numbers.best.rows]
    found = []
    for net in map(str, NETS):
        own = [row for row in rows if row["net"] == net]
        hollow = any(arm.is_preview for spec, arm in numbers.arms.items() if str(spec.net) == net and arm.runs)
        found.append(panel(f"best-{net}", net, partial(_best, rows=own, hollow=hollow)))
    return found


def _best(axes: "Axes", rows: Sequence[Mapping[str, Any]], hollow: bool) -> None:
    for y, row in enumerate(rows):
        colour, marker, _ = _NORMS[row["norm"]]
        axes.plot([row["paper_percent"]], [y], color=FAINT, marker="|", markersize=12, markeredgewidth=2)
        if row["mean_percent"] is None:
            continue
        if row["low_percent"] is not None:
            axes.plot([row["low_percent"], row["high_percent"]], [y, y], color=colour, linewidth=1.5)
        axes.plot([row["mean_percent"]], [y], color=colour, marker=marker, markerfacecolor=PAPER if hollow else colour)
    axes.set_yticks(range(len(rows)), [row["norm"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %   ( | the paper's )")


def figure_3(numbers: Numbers) -> list[str]:
    """Weights and gradients of the first and the last layer, early and late in the first epoch."""
    return [
        panel(
            f"figure3-{norm}-{size}-{kind}",
            f"{norm}, batch {size}: {kind}s",
            partial(
                _densities,
                numbers=numbers,
                arm=(norm, size),
                where=[("input", kind, "early"), ("input", kind, "late"), ("final", kind, "late")],
            ),
        )
        for size in BATCH_SIZES
        for kind in ("weight", "gradient")
        for norm in ("BatchNorm", "AffineLayer")
        if (norm, size) in numbers.first_epoch
    ]


def figure_4(numbers: Numbers) -> list[str]:
    """Gradients of the first layer, early and late in the first epoch."""
    return [
        panel(
            f"figure4-{norm}-{size}",
            f"{norm}, batch {size}",
            partial(
                _densities,
                numbers=numbers,
                arm=(norm, size),
                where=[("input", "gradient", "early"), ("input", "gradient", "late")],
            ),
        )
        for norm, size in numbers.first_epoch
    ]


_DENSITIES = {("input", "early"): (BLUE, "-"), ("input", "late"): (VERMILLION, "--"), ("final", "late"): (GREEN, "-.")}


def _densities(axes: "Axes", numbers: Numbers, arm: tuple[str, int], where: Sequence[tuple[str, str, str]]) -> None:
    """Densities between neighbouring percentiles from 1 to 99 %."""
    for layer, kind, when in where:
        quantiles = numbers.quantiles(*arm, f"{layer}/{kind}/{when}")[1:-1]
        colour, line = _DENSITIES[layer, when]
        with np.errstate(divide="ignore", invalid="ignore"):
            density = 0.01 / np.diff(quantiles)
        axes.plot((quantiles[1:] + quantiles[:-1]) / 2, density, color=colour, linestyle=line, label=f"{layer}, {when}")
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(where[0][1])
    axes.set_ylabel("density")
    axes.legend(loc="upper right")
