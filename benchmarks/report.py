"""Writing what was measured: numbers with their spread, a table in Markdown, a chart."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

INK, FAINT = "#1f2933", "#9aa5b1"
# In inches.
WIDTH, BAR_HEIGHT, PANEL_HEIGHT = 9.0, 0.32, 0.55
HEAD_HEIGHT = 0.75


class Bar(NamedTuple):
    """A bar of a chart: one value per round, of which the median is drawn and the range marked."""

    label: str
    color: str
    values: Sequence[float]


class Panel(NamedTuple):
    """A part of a chart with a scale of its own.

    `better` says what is better, such as "less time"; `form` formats a value, such as `{:.1f} s`.
    `limit`, if there is one, is drawn as a line with `limit_label`.
    """

    title: str
    better: str
    form: str
    bars: Sequence[Bar]
    limit: float | None = None
    limit_label: str = ""


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Return the median and the range, such as `1.52 (1.48–1.60)`; a single value as it is."""
    middle, least, most = (
        form.format(value) for value in (statistics.median(values), min(values), max(values))
    )
    return f"{middle} ({least}–{most})" if len(values) > 1 else middle


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first two are aligned to the right."""
    rules = ["---" if column < 2 else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rules, *rows))


def draw(title: str, subtitle: str, panels: Sequence[Panel], path: Path) -> None:
    """Draw horizontal bars, a panel below the other, into an SVG file."""
    # Only who draws needs the library, which is large.
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: PLC0415

    heights = [PANEL_HEIGHT + BAR_HEIGHT * len(panel.bars) for panel in panels]
    height = sum(heights) + HEAD_HEIGHT
    layout = ConstrainedLayoutEngine(rect=(0, 0, 0.98, 1 - HEAD_HEIGHT / height), hspace=0.08)
    # The salt: the same numbers give the same file.
    with rc_context({"svg.hashsalt": "oso", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(WIDTH, height), layout=layout)
        axes = figure.subplots(len(panels), height_ratios=heights, squeeze=False)[:, 0]
        figure.text(0.012, 1 - 0.28 / height, title, size=13, weight="bold", color=INK)
        figure.text(0.012, 1 - 0.55 / height, subtitle, color=INK)
        for axis, panel in zip(axes, panels, strict=True):
            _draw_panel(axis, panel)
        figure.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white")
    # The library leaves blanks at the ends of lines.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


def _draw_panel(axis: Axes, panel: Panel) -> None:
    middles = [statistics.median(bar.values) for bar in panel.bars]
    ranges = [
        [middle - min(bar.values) for middle, bar in zip(middles, panel.bars, strict=True)],
        [max(bar.values) - middle for middle, bar in zip(middles, panel.bars, strict=True)],
    ]
    places = range(len(panel.bars))
    axis.barh(
        places,
        middles,
        height=0.7,
        color=[bar.color for bar in panel.bars],
        xerr=ranges,
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 2.5},
    )
    widest = max(max(bar.values) for bar in panel.bars)
    for place, bar, middle in zip(places, panel.bars, middles, strict=True):
        text = panel.form.format(middle)
        axis.text(max(bar.values) + widest * 0.012, place, text, va="center", color=INK)
    axis.set_yticks(places, [bar.label for bar in panel.bars])
    axis.invert_yaxis()
    axis.set_xlim(0, widest * 1.16)
    axis.set_title(panel.title, loc="left", size=9.5, weight="bold", color=INK)
    axis.set_title(f"{panel.better} is better", loc="right", size=8.5, color=INK)
    axis.tick_params(length=0, colors=INK)
    axis.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["left"].set_color(FAINT)
    if panel.limit is not None:
        axis.axvline(panel.limit, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axis.annotate(
            panel.limit_label,
            (panel.limit, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -2),
            textcoords="offset points",
            ha="center",
            va="top",
            size=8,
            color=INK,
        )
