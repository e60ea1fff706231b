"""What `sandbox diff` shows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click
import psycopg
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPIError
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from sandbox.diff.compare import differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.diff.report import Difference, TableReport

SETTINGS: Final = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
_PARAMETERS: Final = {
    "host": "HOST",
    "port": "PORT",
    "dbname": "DATABASE",
    "user": "USERNAME",
    "password": "PASSWORD",
}
_CHARACTERS: Final = 60


def show_differences(
    tables: Sequence[str],
    source: str | None,
    publication: str,
    project: str,
    dataset: str,
    *,
    keeps_dropped_partitions: bool,
) -> bool:
    """Compare, print a line for each table and each row that differs, and tell if all is equal.

    Raises:
        click.ClickException: One of the two could not be read.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        with _connect(source) as connection, _progress() as progress:
            task = progress.add_task("", total=None)

            def on_progress(table: str, done: int, total: int) -> None:
                progress.update(task, description=table, completed=done, total=total)

            reports = differences(
                connection,
                _client(project),
                dataset,
                tables,
                publication=publication,
                keeps_dropped_partitions=keeps_dropped_partitions,
                on_progress=on_progress,
            )
            shown = [_show(console, report) for report in reports]
            return all(shown)
    except (GoogleAPIError, GoogleAuthError, psycopg.Error, ValueError) as error:
        raise click.ClickException(" ".join(str(error).split())) from error


def _connect(source: str | None) -> psycopg.Connection:
    given: dict[str, Any] = {"connect_timeout": 10, "application_name": "sandbox diff"}
    if source is None:
        names = {name: os.environ.get(SETTINGS + suffix) for name, suffix in _PARAMETERS.items()}
        given |= {name: value for name, value in names.items() if value}
    return psycopg.connect(source or "", autocommit=True, **given)


def _client(project: str) -> bigquery.Client:
    emulator = os.environ.get("BIGQUERY_EMULATOR_HOST")
    if emulator is None:
        return bigquery.Client(project)
    return bigquery.Client(
        project,
        AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(api_endpoint=emulator),
    )


def _progress() -> Progress:
    # Gone when it is done, and apart from the result, which may go into a file.
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show(console: Console, report: TableReport) -> bool:
    counts = f"{report.source_rows:>12,} rows"
    if report.is_equal:
        verdict = Text("equal", "green")
    else:
        counts += f", {report.warehouse_rows:,} in the warehouse"
        verdict = Text("different", "red")
    console.print(Text.assemble(f"{report.table:<40} ", verdict, f"  {counts}"))
    for remark in (report.problem, report.note):
        if remark:
            console.print(Text(f"  {remark}"))
    for row in report.rows:
        console.print(Text(f"  {_described(row)}"))
    if (more := report.different - len(report.rows)) and report.rows:
        console.print(Text(f"  and {more:,} more"))
    return report.is_equal


def _described(row: Difference) -> str:
    """One line, such as `changed id=5: name 'a' in the source, 'b' in the warehouse`."""
    key = " ".join(f"{name}={_brief(value)}" for name, value in row.key.items())
    columns = "; ".join(
        f"{name} {_brief(source)} in the source, {_brief(stored)} in the warehouse"
        for name, (source, stored) in row.columns.items()
    )
    return f"{row.kind} {key}: {columns}" if columns else f"{row.kind} {key}"


def _brief(value: Any) -> str:
    text = str(value) if not isinstance(value, (str, bytes)) else repr(value)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"
