"""What the figures say: the tables and the chart."""

import os
import platform
import statistics
from pathlib import Path

from benchmarks.postgres_source import catalogs
from benchmarks.postgres_source.piped import Measurement
from benchmarks.report import Bar, Panel, draw, spread, table

FOLDER = Path(__file__).parent
OURS, OTHERS = "#1f6feb", "#9aa5b1"
# What the others are compared with.
COPY, RECEIVE = "psql COPY to_json", "pg_recvlogical"

Measured = dict[str, list[Measurement]]


def write(count: int, rows: Measured, changes: Measured, memory: dict[str, Measurement]) -> None:
    """Write `RESULTS.md`, but for its part by `catalogs`, and `results.svg`.

    Args:
        count: How many rows and how many changes there were.
        rows: What each contender took for them, in each round.
        changes: The same for the changes.
        memory: One run of this tap for each size.
    """
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    memory_rows = [
        (name, "", f"{m.peak_mib:.0f}", f"{m.seconds:.1f}", f"{m.cpu_seconds:.1f}")
        for name, m in memory.items()
    ]
    parts = [
        "# Reading PostgreSQL",
        f"""\
PostgreSQL 18 and its reader on one machine ({machine}), `make bench-postgres`. Time runs from the
first byte of rows to the last; figures are medians with the range of all rounds. CPU is that of the
reader and its processes, start-up included. Memory is the peak of their sum, with shared pages
counted once.""",
        "![Rates](results.svg)",
        f"## First copy of {count:,} rows of ten columns",
        _table(rows, count, COPY),
        f"## {count:,} changes: 300,000 inserts, 100,000 updates, 100,000 deletes",
        _table(changes, count, RECEIVE),
        "MeltanoLabs' tap reads changes through wal2json, which this server does not have.",
        "## Memory of this tap",
        table(("", "", "peak, MiB", "seconds", "CPU, s"), memory_rows),
    ]
    _, heading, rest = catalogs.RESULTS.read_text(encoding="utf-8").partition(catalogs.HEADING)
    page = "\n\n".join([*parts, heading + rest]).rstrip() + "\n"
    catalogs.RESULTS.write_text(page, encoding="utf-8")
    panels = [
        Panel(title, "more per second", "{:,.0f} thousand/s", _bars(measured, count))
        for title, measured in (("First copy", rows), ("Changes from the log", changes))
    ]
    subtitle = f"{count:,} rows and {count:,} changes; {machine}; medians"
    draw("Reading PostgreSQL", subtitle, panels, FOLDER / "results.svg")


def _table(measured: Measured, count: int, baseline: str) -> str:
    rows = []
    for name, taken in measured.items():
        ratios = [b.seconds / m.seconds for b, m in zip(measured[baseline], taken, strict=True)]
        rate = count / statistics.median(m.seconds for m in taken)
        rows.append(
            (
                name,
                "",
                f"{rate:,.0f}",
                spread(ratios),
                spread([m.seconds for m in taken]),
                spread([m.cpu_seconds for m in taken]),
                f"{max(m.peak_mib for m in taken):.0f}",
            )
        )
    header = ("", "", "per second", f"of {baseline}", "seconds", "CPU, s", "peak, MiB")
    return table(header, rows)


def _bars(measured: Measured, count: int) -> list[Bar]:
    return [
        Bar(
            name,
            OURS if name.startswith("this tap") else OTHERS,
            [count / m.seconds / 1000 for m in taken],
        )
        for name, taken in measured.items()
    ]
