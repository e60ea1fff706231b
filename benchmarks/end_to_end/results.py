"""What the figures say: the tables and the charts.

What was measured is kept in `measured.json`, so that a part can be measured again by itself.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.end_to_end.contenders import CONTENDERS, DLTS, OURS, PEERS, PEERS_DEFAULT
from benchmarks.report import Bar, Panel, draw, spread, table

FOLDER = Path(__file__).parent
MEASURED = FOLDER / "measured.json"
ROWS = 500_000
SERVERS = ("PostgreSQL", "BigQuery emulator")
# How much faster than the peers' pair a copy is meant to be.
GOAL = 4.0
MOST_WORK = 6


class Run(NamedTuple):
    """One run of a pipeline.

    Attributes:
        label: Whose, or of what.
        rows: Rows or changes that it brought.
        seconds: Of the whole command.
        cpu: Processor seconds by part of the pipeline, and of the servers.
        peak_mib: The largest sum of the pipeline's memory.
        peaks_mib: The largest memory of each part.
    """

    label: str
    rows: int
    seconds: float
    cpu: dict[str, float]
    peak_mib: float
    peaks_mib: dict[str, float]

    @property
    def own_cpu(self) -> float:
        """Processor seconds without those of the servers."""
        return sum(taken for part, taken in self.cpu.items() if part not in SERVERS)


# Samples by piece of work, by part of the pipeline.
Profile = dict[str, dict[str, int]]


def read() -> dict[str, Any]:
    """Return what was measured before, by part."""
    if not MEASURED.exists():
        return {}
    measured: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return {
        part: found if part == "profile" else [Run(*run) for run in found]
        for part, found in measured.items()
    }


def write(measured: dict[str, Any]) -> None:
    """Write `measured.json`, `RESULTS.md` and the charts; parts that are missing are left out."""
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    parts = [
        "# From end to end",
        f"""\
PostgreSQL 18, the pipeline and an embedded BigQuery on one machine ({machine}), `make
bench-end-to-end`. Time is that of the whole command, its start included; every run has a new
warehouse, and its rows are counted afterwards. Memory is the peak of the sum of the pipeline's
processes, shared pages counted once. CPU is that of the pipeline, without the servers.""",
    ]
    if runs := measured.get("snapshot"):
        parts += _snapshot(runs, measured.get("changes", []), machine)
    if runs := measured.get("changes"):
        parts += _changes(runs)
    if runs := measured.get("growth"):
        parts += _growth(runs, machine)
    if found := measured.get("profile"):
        parts += _profile(found)
    (FOLDER / "RESULTS.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _snapshot(runs: list[Run], changes: list[Run], machine: str) -> list[str]:
    by = {c.label: [run for run in runs if run.label == c.label] for c in CONTENDERS}
    by = {label: found for label, found in by.items() if found}
    rows = [
        (
            label,
            "",
            f"{found[0].rows:,}",
            f"{_rate(found):,.0f}",
            spread([run.seconds for run in found], "{:.1f}"),
            spread([run.own_cpu for run in found], "{:.1f}"),
            f"{max(run.peak_mib for run in found):.0f}",
        )
        for label, found in by.items()
    ]
    colors = {contender.label: contender.color for contender in CONTENDERS}
    bars = [
        Bar(label, colors[label], [run.rows / run.seconds / 1000 for run in found])
        for label, found in by.items()
    ]
    panels = [Panel("First copy", "more per second", "{:.1f} thousand/s", bars)]
    if changes:
        rates = [run.rows / run.seconds / 1000 for run in changes]
        bar = Bar(OURS.label, OURS.color, rates)
        panels.append(Panel("Changes from the log", "more per second", "{:.1f} thousand/s", [bar]))
    subtitle = f"{ROWS:,} rows of ten columns, the whole command; {machine}; medians"
    draw("PostgreSQL to BigQuery", subtitle, panels, FOLDER / "results.svg")
    header = ("", "", "rows", "rows/s", "seconds", "CPU, s", "peak, MiB")
    ours = _rate(by[OURS.label])
    ratios = [
        f"{ours / _rate(found):.1f} × that of {label}"
        for label, found in by.items()
        if label != OURS.label
    ]
    return [
        "![Rates](results.svg)",
        f"## First copy of {ROWS:,} rows of ten columns",
        table(header, rows),
        f"The rate of {OURS.label} is {', '.join(ratios)}.",
        _goals(by),
        """\
MeltanoLabs' tap and z3's target run under the same Meltano, with upsert as ours does. The jsonb
column is not selected for them: the target takes it for an array, and its load job fails. "As it
comes" the target loads 500 rows at a time, which takes that long that it gets a tenth of the
rows. dlt appends; its Arrow backends get the jsonb column as a text, because dlt can't load JSON
from Parquet, and neither follows the log afterwards. What else was changed to run the peers
against the emulator is in `peer_dlt.py` and in `../bigquery_load/peer_z3.py`.""",
    ]


def _goals(by: dict[str, list[Run]]) -> str:
    ours = _rate(by[OURS.label])
    ratios = [
        f"{ratio:.1f} × {how} ({'reached' if ratio >= GOAL else 'not reached'})"
        for contender, how in ((PEERS_DEFAULT, "as it comes"), (PEERS, "in batches of 100,000"))
        for ratio in [ours / _rate(by[contender.label])]
    ]
    behind = [c.label for c in DLTS if c.label in by and _rate(by[c.label]) > ours]
    ahead = f"not ahead of {', '.join(behind)}" if behind else "ahead of dlt in each of its ways"
    return f"Meant to be {GOAL:.0f} × the peers' pair: {', '.join(ratios)}. It is {ahead}."


def _changes(runs: list[Run]) -> list[str]:
    return [
        f"## {ROWS:,} changes: 300,000 inserts, 100,000 updates, 100,000 deletes",
        table(
            ("", "", "changes/s", "seconds", "CPU, s", "peak, MiB"),
            [
                (
                    OURS.label,
                    "",
                    f"{_rate(runs):,.0f}",
                    spread([run.seconds for run in runs], "{:.1f}"),
                    spread([run.own_cpu for run in runs], "{:.1f}"),
                    f"{max(run.peak_mib for run in runs):.0f}",
                )
            ],
        ),
    ]


def _growth(runs: list[Run], machine: str) -> list[str]:
    panels = [
        Panel(
            "Time per thousand rows",
            "less",
            "{:.0f} ms",
            [Bar(run.label, OURS.color, [run.seconds / run.rows * 1e6]) for run in runs],
        ),
        Panel(
            "Peak memory",
            "less",
            "{:.0f} MiB",
            [Bar(run.label, OURS.color, [run.peak_mib]) for run in runs],
        ),
    ]
    draw("First copy as the table grows", machine, panels, FOLDER / "growth.svg")
    names = ("Meltano", "tap", "target")
    rows = [
        (
            run.label,
            "",
            f"{run.seconds:.1f}",
            f"{run.rows / run.seconds:,.0f}",
            *(f"{run.peaks_mib.get(name, 0):.0f}" for name in names),
        )
        for run in runs
    ]
    return [
        "## As the table grows",
        "![Time and memory by size](growth.svg)",
        table(("", "", "seconds", "rows/s", *(f"{name}, peak MiB" for name in names)), rows),
        """\
What a run takes whatever the size is the start of Meltano, of the tap (twice: Meltano asks it
for its catalog first) and of the target. The tap is faster than the target, so with many rows
Meltano's buffer between them fills: `elt.buffer_size` in `meltano.yml`, which takes twice that
while lines move.""",
    ]


def _profile(found: dict[str, Any]) -> list[str]:
    cpu, profile = found["cpu"], found["work"]
    total = sum(cpu.values())
    shares = [
        (part, "", f"{taken:.1f}", f"{taken / total:.0%}")
        for part, taken in sorted(cpu.items(), key=lambda item: -item[1])
    ]
    samples = sum(sum(work.values()) for work in profile.values())
    work = [
        (part, name, f"{count / samples:.0%}")
        for part, counts in sorted(profile.items(), key=lambda item: -sum(item[1].values()))
        for name, count in Counter(counts).most_common(MOST_WORK)
        if count / samples >= 0.01
    ]
    return [
        "## Where the time goes",
        f"Processor time of one copy of {ROWS:,} rows, by process:",
        table(("", "", "CPU, s", "share"), shares),
        f"""\
Tap, Meltano and target work at the same time and share the cores; the emulator loads beside them,
or behind them if the table is no larger than one flush. Meltano's {cpu["Meltano"] / total:.0%}
are its start and the way of each line from the tap to the target.""",
        "And by what the pipeline's processes were doing, as py-spy saw them in another run:",
        table(("part", "work", "share of samples"), work),
    ]


def _rate(runs: list[Run]) -> float:
    return statistics.median(run.rows / run.seconds for run in runs)
