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


def panel(name: str, title: str, draw: Callable[["Axes"], None], left: float = 0.16) -> str:
    """One small figure as an SVG element; `draw` fills its axes, `name` keeps its identifiers apart from others'.

    `left` is the share of its width that is kept for the labels on the left.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(3.6, 2.7))
        axes = figure.add_axes((left, 0.18, 0.97 - left, 0.71))
        axes.set_title(title)
        draw(axes)
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    return _for_page(out.getvalue(), title)


def _for_page(svg: str, title: str) -> str:
    """The SVG element alone, as wide as its place, with the page's colours and no identifier that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if f"#{found[1]}" in svg else "", svg)
    svg = re.sub(r"^<svg[^>]*viewBox", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" viewBox', svg, count=1)
    svg = re.sub(
        r'^<svg([^>]*?)( version="[^"]*")?>', rf'<svg role="img" aria-label="{escape(title)}"\1>', svg, count=1
    )
    svg = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "sans-serif", svg)
    svg = re.sub(r'(?<=[ "(,])-?\d+\.\d{2,}', lambda found: f"{round(float(found[0]), 1):g}", svg)
    svg = re.sub(r"\s*\n(?=[MLCQz])|(?<=[MLCQ]) (?=[-\d])", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r">\s+<", "><", svg).strip()


def with_classes(svg: str, rules: dict[str, str]) -> str:
    """The same figure with a class in place of every style, which `rules` get: most elements of a page share one."""

    def classed(found: re.Match[str]) -> str:
        return f' class="{rules.setdefault(found[1], f"m{len(rules)}")}"'

    return re.sub(r' style="([^"]*)"', classed, svg)


def factorial(numbers: Numbers) -> list[str]:
    """One panel for each network and batch size: accuracy without and with shift and scale, normalized and not."""
    return _by_cell(numbers, "factorial", _factorial)


def curves(numbers: Numbers) -> list[str]:
    """One panel for each network and batch size: every seed thin, the median of each arm thick."""
    return _by_cell(numbers, "curves", _curves)


def _by_cell(numbers: Numbers, name: str, draw: Callable[..., None]) -> list[str]:
    """One panel for each network and batch size that `draw` has something to draw of."""
    cells = {
        f"{net}, batch {size}": [numbers.arms[RunSpec(net=net, norm=norm, batch_size=size)] for norm in NORMS]
        for net in NETS
        for size in BATCH_SIZES
    }
    return [
        panel(f"{name}-{title}", title, partial(draw, arms=arms))
        for title, arms in cells.items()
        if any(arm.runs for arm in arms) or draw is _factorial
    ]


def _factorial(axes: "Axes", arms: Sequence[Measured]) -> None:
    batchnorm, affine, minus, none = arms
    for label, pair, colour, marker, beside in (
        ("normalized", (minus, batchnorm), BLUE, "o", -0.02),
        ("not normalized", (none, affine), VERMILLION, "s", 0.02),
    ):
        axes.plot([0, 1], [arm.published for arm in pair], color=colour, linestyle=":", linewidth=1, marker="_")
        there = [(x + beside, arm) for x, arm in enumerate(pair) if arm.runs]
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
                axes.plot([x, x], np.clip(ends[:2], 0, 100), color=colour, linewidth=1.5)
    axes.set_xticks([0, 1], ["without", "with"])
    axes.set_xlabel("shift and scale")
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
        # one path for all seeds, broken between them, since a style for each would be most of the page
        broken = np.pad(np.array(seeds), ((0, 0), (0, 1)), constant_values=np.nan).ravel()
        axes.plot([*epochs, np.nan] * len(seeds), broken, color=colour, linewidth=0.5, alpha=0.45)
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
        found.append(panel(f"best-{net}", net, partial(_best, rows=own, hollow=hollow), left=0.34))
    return found


def _best(axes: "Axes", rows: Sequence[Mapping[str, Any]], hollow: bool) -> None:
    for y, row in enumerate(rows):
        colour, marker, _ = _NORMS[row["norm"]]
        axes.plot([row["paper_percent"]], [y], color=FAINT, marker="|", markersize=12, markeredgewidth=2)
        if row["mean_percent"] is None:
            continue
        if row["low_percent"] is not None:
            ends = np.clip([row["low_percent"], row["high_percent"]], 0, 100)
            axes.plot(ends, [y, y], color=colour, linewidth=1.5)
        axes.plot([row["mean_percent"]], [y], color=colour, marker=marker, markerfacecolor=PAPER if hollow else colour)
    axes.set_yticks(range(len(rows)), [row["norm"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("test accuracy, %")


def figure_3(numbers: Numbers) -> list[str]:
    """The panels of the paper's Figure 3 for each batch size: weights over the epoch, and where both arms end."""
    found = []
    for size in BATCH_SIZES:
        for norm in ("BatchNorm", "AffineLayer"):
            lines = [(norm, size, "input/weight/early"), (norm, size, "final/weight/late")]
            found += _densities(numbers, f"{norm}, batch {size}: weights", lines)
        for kind in ("weight", "gradient"):
            lines = [(norm, size, f"final/{kind}/late") for norm in ("BatchNorm", "AffineLayer")]
            found += _densities(numbers, f"Batch {size}: final {kind}s, late", lines)
    return found


def figure_4(numbers: Numbers) -> list[str]:
    """Gradients of the first layer, early and late in the first epoch, for each norm and batch size."""
    return [
        svg
        for size in BATCH_SIZES
        for norm in map(str, NORMS)
        for svg in _densities(
            numbers,
            f"{norm}, batch {size}: gradients",
            [(norm, size, f"input/gradient/{when}") for when in ("early", "late")],
        )
    ]


def _densities(numbers: Numbers, title: str, lines: Sequence[tuple[str, int, str]]) -> list[str]:
    """One panel of densities, or none if a line has no Runs; each is taken over four percent of the entries."""
    if any((norm, size) not in numbers.first_epoch for norm, size, _ in lines):
        return []

    def draw(axes: "Axes") -> None:
        several, peaks = len({norm for norm, _, _ in lines}) > 1, []
        for (norm, size, where), colour, line in zip(lines, (BLUE, VERMILLION), ("-", "--"), strict=True):
            quantiles = numbers.quantiles(norm, size, where)[1:-1]
            with np.errstate(divide="ignore", invalid="ignore"):
                density = 0.04 / (quantiles[4:] - quantiles[:-4])
            peaks.append(float(np.nanmax(density)))
            layer, _, when = where.split("/")
            label = norm if several else f"{layer}, {when}"
            axes.plot((quantiles[4:] + quantiles[:-4]) / 2, density, color=colour, linestyle=line, label=label)
        axes.set_yticks([])
        # a spike of gradients that are all but 0 would leave the other line flat: it is cut off
        axes.set_ylim(0, 1.3 * min(max(peaks), 6 * min(peaks)))
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(lines[0][2].split("/")[1])
        axes.set_ylabel("density")
        axes.legend(loc="upper right")

    return [panel(re.sub(r"\W+", "-", title), title, draw)]
