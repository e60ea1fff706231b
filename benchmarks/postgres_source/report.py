"""The results as a Markdown table and a chart."""

import os
import platform
from pathlib import Path

import matplotlib as mpl

from benchmarks.postgres_source.measure import Measurement

mpl.use("svg")
from matplotlib import pyplot as plt

OURS, OTHERS = "#1f6feb", "#9aa4b2"

_HOW = """\
Made by `python -m benchmarks.postgres_source` on a machine of {} cores ({}, Python {}), with
PostgreSQL 18 on the same machine. Seconds are from the first to the last byte of output; the best
of three runs each, taken in turn. CPU is that of the client and its processes, start-up included;
memory is the largest sum over its processes, with shared pages counted once."""


def write(
    folder: Path,
    count: int,
    rows: dict[str, Measurement],
    changes: dict[str, Measurement],
    memory: dict[str, Measurement],
) -> None:
    """Write `RESULTS.md` and `chart.svg`."""
    baseline = rows["psql COPY to_json"], changes["pg_recvlogical"]
    text = [
        "# Reading PostgreSQL: results",
        "",
        _HOW.format(os.cpu_count(), platform.machine(), platform.python_version()),
        "",
        "![Rates](chart.svg)",
        "",
        f"## First copy of {count:,} rows of ten columns",
        "",
        *_table(rows, count, baseline[0], "rows"),
        "",
        f"## {count:,} changes: 300,000 inserts, 100,000 updates, 100,000 deletes",
        "",
        *_table(changes, count, baseline[1], "changes"),
        "",
        "meltanolabs-tap-postgres reads changes through wal2json, which the embedded server lacks.",
        "",
        "## Memory of this tap",
        "",
        "| | peak, MiB | seconds | CPU s |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {m.peak_mib:.0f} | {m.seconds:.1f} | {m.cpu_seconds:.1f} |"
            for name, m in memory.items()
        ),
        "",
    ]
    (folder / "RESULTS.md").write_text("\n".join(text))
    _chart(folder / "chart.svg", count, rows, changes)


def _table(
    measured: dict[str, Measurement], count: int, baseline: Measurement, what: str
) -> list[str]:
    name = next(name for name, one in measured.items() if one is baseline)
    return [
        f"| | {what}/s | of {name} | seconds | CPU s | peak, MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {count / m.seconds:,.0f} | {baseline.seconds / m.seconds:.2f} "
            f"| {m.seconds:.2f} | {m.cpu_seconds:.2f} | {m.peak_mib:.0f} |"
            for name, m in measured.items()
        ),
    ]


def _chart(
    path: Path, count: int, rows: dict[str, Measurement], changes: dict[str, Measurement]
) -> None:
    # Text as text, and the same file for the same numbers.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "chart", "font.size": 10})
    height = len(rows) + len(changes) + 1
    ratios = {"height_ratios": [len(rows), len(changes)]}
    figure, axes = plt.subplots(2, figsize=(8, 0.45 * height + 1), gridspec_kw=ratios)
    for axis, title, measured in zip(
        axes,
        (f"First copy of {count:,} rows", f"{count:,} changes"),
        (rows, changes),
        strict=True,
    ):
        rates = [count / m.seconds / 1000 for m in measured.values()]
        colours = [OURS if name.startswith("this tap") else OTHERS for name in measured]
        bars = axis.barh(list(measured), rates, color=colours)
        axis.bar_label(bars, fmt="%.0f", padding=4)
        axis.set_title(f"{title}, thousands per second", loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.xaxis.set_visible(False)
        for side in ("top", "right", "bottom"):
            axis.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
