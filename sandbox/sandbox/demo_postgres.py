"""What `make demo` shows: a database, its copy in a warehouse, changes, and both equal again."""

from __future__ import annotations

import contextlib
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from sandbox import oso
from sandbox.diff import TableReport, differences
from sandbox.meltano import Meltano, project_root
from sandbox.postgres import HOST
from sandbox.services import DATASET, Services, ask
from sandbox.terminal import open_console, show_rows, step

if TYPE_CHECKING:
    from rich.console import Console

PIPELINE = "run tap-my-postgres-datasource target-bigquery"
LOOK = """\
SELECT id, title, labels, reactions, closed_at
FROM oso.issues
WHERE reactions IS NOT NULL AND closed_at IS NOT NULL
ORDER BY id LIMIT 3"""
NEXT = f"""
[bold]To connect your own[/]
  database    run the SQL of step 2 in it, with your tables and a password of your own;
              host, port, database, role, password go into [cyan].env[/], see [cyan].env.example[/];
              schemas, publication, slot into [cyan]extract/postgres.meltano.yml[/]
  warehouse   TARGET_BIGQUERY_PROJECT and TARGET_BIGQUERY_DATASET go into [cyan].env[/];
              [green]gcloud auth application-default login[/] is all it needs to be let in
  then        [green].venv/bin/meltano {PIPELINE}[/]
[bold]To play with what you saw[/]
              [green]uv run sandbox up[/] leaves it running; then see [cyan]docs/running.md[/]"""


def demo_postgres(scale: float = 1) -> None:
    """Copy a database, change it, bring the changes, and compare; `scale` is that of `oso.fill`.

    Raises:
        RuntimeError: Something failed, or source and warehouse are not equal.
    """
    console = open_console()
    root = project_root()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        with step(console, "1  A PostgreSQL database and an embedded BigQuery start"):
            services = stack.enter_context(Services(scale))
        _show_services(console, services)
        source = stack.enter_context(services.postgres.connect())
        meltano = Meltano(root, Path(folder), services.environ)

        with step(console, "2  The owner of the database lets OSO Connect read it"):
            oso.prepare(source)
        for statement in oso.PREPARATION:
            shown = statement.replace(oso.ROLE_PASSWORD, "…")
            console.print(f"   [cyan]{shown};[/]", soft_wrap=True)

        _run(console, 3, meltano)
        _show_tables(console, services)

        with step(console, "4  The source changes"):
            touched = [(change, oso.change(source, change)) for change in oso.CHANGES]
        rows = [(change.kind, count, change.title) for change, count in touched]
        show_rows(console, ("change", "rows", ""), rows, indent=3, grouped=True)

        _run(console, 5, meltano)
        _compare(console, services)
    console.print(NEXT)


def _show_services(console: Console, services: Services) -> None:
    postgres = f"postgresql://{HOST}:{services.postgres.port}/postgres"
    console.print(f"   source     [cyan]{postgres}[/], {services.rows:,} rows")
    console.print(f"   warehouse  [cyan]{services.warehouse.url}[/], empty")


def _run(console: Console, number: int, meltano: Meltano) -> None:
    with step(console, f"{number}  [green]$[/] meltano {PIPELINE}"):
        meltano.run(*PIPELINE.split())


def _show_tables(console: Console, services: Services) -> None:
    query = " UNION ALL ".join(
        f"SELECT '{table}' AS table, COUNT(*) AS `rows` FROM {DATASET}.{table}"  # noqa: S608
        for table in oso.TABLES
    )
    names, rows = ask(f"{query} ORDER BY 2 DESC", services.environ)
    show_rows(console, names, rows, indent=3, grouped=True)
    console.print("\n" + textwrap.indent(f"[cyan]{LOOK}[/]", "   "))
    show_rows(console, *ask(LOOK, services.environ), indent=3)


def _compare(console: Console, services: Services) -> None:
    with (
        step(console, "6  Every row and value of both, side by side") as status,
        services.postgres.connect() as source,
        contextlib.closing(services.warehouse.client()) as client,
    ):

        def on_progress(table: str, done: int, total: int) -> None:
            status.update(f"comparing {table}: {done:,} of {total:,} rows")

        reports = list(differences(source, client, DATASET, on_progress=on_progress))
    show_rows(
        console,
        ("table", "PostgreSQL", "BigQuery", ""),
        [
            (report.table, report.source_rows, report.warehouse_rows, _verdict(report))
            for report in reports
        ],
        indent=3,
        grouped=True,
    )
    if not all(report.is_equal for report in reports):
        raise RuntimeError("source and warehouse differ, which they never should")


def _verdict(report: TableReport) -> str:
    return "[green]equal[/]" if report.is_equal else f"[red]{report.different} rows differ[/]"
