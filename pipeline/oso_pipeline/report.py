"""What a run leaves behind, and the page that is made of all of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from oso_pipeline.project import PipelineError, Source


class Lag(TypedDict):
    """How far a replication slot is behind its server, as the tap's `lag` command says."""

    lag_bytes: int
    lag_seconds: float | None


class Report(TypedDict):
    """One run of one source."""

    tap: str
    target: str
    exit_code: int
    started_at: NotRequired[str]
    """RFC 3339, in UTC."""
    seconds: NotRequired[float]
    rows: NotRequired[dict[str, int]]
    """By stream: what the target has loaded, or else what the tap has read."""
    lag: NotRequired[Lag]
    error: NotRequired[str]


def read_reports(folder: Path, expected: Sequence[Source]) -> list[Report]:
    """Return a report per expected source; one that left none has failed.

    Raises:
        PipelineError: A report can't be read.
    """
    found: dict[str, Report] = {}
    for file in sorted(folder.rglob("*.json")):
        try:
            report: Report = json.loads(file.read_text(encoding="utf-8"))
            found[report["tap"]] = report
        except (ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"{file} is not a report of a run") from error
    return [
        found.get(source.tap)
        or {
            "tap": source.tap,
            "target": source.target,
            "exit_code": 1,
            "error": "the job ended before it could run the source",
        }
        for source in expected
    ]


def summary(reports: Sequence[Report]) -> str:
    """Return the page, as GitHub's Markdown."""
    lines = [
        f"## Data pipeline: {verdict(reports)}",
        "",
        "| Source | Result | Rows | Duration | Slot lag |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    lines += [_source_line(report) for report in reports]
    tables = [
        f"| {report['tap']} | {stream} | {rows:,} |"
        for report in reports
        for stream, rows in sorted(report.get("rows", {}).items())
    ]
    if tables:
        lines += ["", "| Source | Table | Rows |", "| --- | --- | ---: |", *tables]
    for report in failed(reports):
        lines += ["", f"**{report['tap']}**", "", "```text", _fenced(report), "```"]
    return "\n".join(lines) + "\n"


def verdict(reports: Sequence[Report]) -> str:
    """Return the page in a few words."""
    bad = len(failed(reports))
    return f"{bad} of {len(reports)} sources failed" if bad else f"{len(reports)} sources succeeded"


def failed(reports: Sequence[Report]) -> list[Report]:
    """Return the reports of runs that failed."""
    return [report for report in reports if report["exit_code"] != 0]


def _source_line(report: Report) -> str:
    rows = report.get("rows")
    cells = (
        f"{report['tap']} → {report['target']}",
        f"✗ exit code {report['exit_code']}" if report["exit_code"] else "✓",
        "" if rows is None else f"{sum(rows.values()):,}",
        _duration(report["seconds"]) if "seconds" in report else "",
        _lag(report["lag"]) if "lag" in report else "",
    )
    return f"| {' | '.join(cells)} |"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _lag(lag: Lag) -> str:
    size = float(lag["lag_bytes"])
    units = iter(("B", "KiB", "MiB", "GiB"))
    unit = next(units)
    while size >= 1024 and unit != "GiB":  # noqa: PLR2004
        size, unit = size / 1024, next(units)
    behind = f"{size:,.0f} {unit}"
    seconds = lag["lag_seconds"]
    return behind if seconds is None else f"{behind}, {_duration(seconds)}"


def _fenced(report: Report) -> str:
    return report.get("error", "no reason was logged").replace("```", "'''")
