"""What the figures say: the table, the goals and the chart."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.bigquery_load import pruning
from benchmarks.bigquery_load.calls import CHANGES, TABLES, Calls
from benchmarks.bigquery_load.contenders import DLT_JSONL, OURS, Z3_DEFAULT, Z3_LARGE, Contender
from benchmarks.report import Bar, Panel, draw, table

if TYPE_CHECKING:
    from benchmarks.measure import Usage

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
GOAL_MICROS = 6.0
HEADER = (
    "mode",
    "loader",
    "records",
    "records/s",
    "CPU s",
    "CPU µs/record",
    "records/CPU s",
    "peak MiB",
)


class Load(NamedTuple):
    """One load and what it took: records given, and rows in the table afterwards."""

    contender: Contender
    mode: str
    records: int
    rows: int
    usage: Usage

    @property
    def micros(self) -> float:
        """CPU microseconds per record."""
        return self.usage.cpu / self.records * 1e6


def write(loads: list[Load], large: list[Load], calls: Calls) -> None:
    """Write RESULTS.md and results.svg."""
    modes = list(dict.fromkeys(load.mode for load in loads))
    panels = [
        Panel(
            f"{mode}: CPU time per record",
            "less",
            "{:.1f} µs",
            [
                Bar(load.contender.label, load.contender.color, [load.micros])
                for load in loads
                if load.mode == mode
            ],
        )
        for mode in modes
    ]
    title = f"{loads[0].records:,} Singer records into BigQuery's emulator"
    draw(title, "CPU time of the loading process, start included", panels, FOLDER / "results.svg")
    RESULTS.write_text(f"{report(loads, large, modes, calls)}\n{pruning.section()}")


def rewrite_pruning() -> None:
    """Write the last section of RESULTS.md anew."""
    section = pruning.section()
    before = RESULTS.read_text().split(section.splitlines()[0])[0].rstrip()
    RESULTS.write_text(f"{before}\n\n{section}")


def report(loads: list[Load], large: list[Load], modes: list[str], calls: Calls) -> str:
    """Return RESULTS.md."""
    by = {(load.contender, load.mode): load for load in loads}
    says = []
    for mode in modes:
        ours = by[OURS, mode].micros
        times = {c: by[c, mode].micros / ours for c in (Z3_LARGE, Z3_DEFAULT, DLT_JSONL)}
        listed = ", ".join(f"{ratio:.1f} × {c.label}" for c, ratio in times.items())
        says.append(
            f"- {mode}: {ours:.1f} µs of CPU per record (goal: {GOAL_MICROS:.0f}); "
            f"records per CPU second are {listed}"
        )
    for load in large:
        small = by[OURS, load.mode]
        says.append(
            f"- {load.mode}: {small.usage.peak:.0f} MiB for {small.records:,} records, "
            f"{load.usage.peak:.0f} MiB for {load.records:,}"
        )
    says.append(
        f"- a run with {CHANGES} changes in each of {TABLES} tables: {calls.calls} calls, of which "
        f"{calls.jobs} start jobs"
    )
    return f"""# bigquery_load

The same Singer file (10 columns, about 400 bytes a record) into the embedded BigQuery, one loader
after the other in one run, on {os.cpu_count()} cores of a shared machine, Python
{platform.python_version()}. CPU time and memory are those of the loading process, its start and
imports included; records/s includes the work of the emulator, which is not BigQuery: compare the
CPU time.

![CPU time per record](results.svg)

{table(HEADER, [row(load) for load in [*loads, *large]])}

{chr(10).join(says)}

z3-target-bigquery runs with `method: batch_job` and `denormalized`, with batches of 100,000 and
with its default of 500; dlt writes jsonl, its default here. What else was changed to run them
against the emulator is in `peer_z3.py` and `peer_dlt.py`. Made by `make bench-bigquery`.
"""


def row(load: Load) -> list[str]:
    """Return a line of the table."""
    usage = load.usage
    return [
        load.mode,
        load.contender.label,
        f"{load.records:,}" + (f", {load.rows:,} arrived" if load.rows != load.records else ""),
        f"{load.records / usage.wall:,.0f}",
        f"{usage.cpu:.2f}",
        f"{load.micros:.1f}",
        f"{load.records / usage.cpu:,.0f}",
        f"{usage.peak:.0f}",
    ]
