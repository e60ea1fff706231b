"""The `sandbox` command."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import click

from sandbox import services
from sandbox.http.faults import KINDS
from sandbox.meltano import project_root
from sandbox.oso import ROWS
from sandbox.postgres import embedded_programs
from sandbox.terminal import open_console, show_rows, step


class _Commands(click.Group):
    """Commands whose failures are one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (FileNotFoundError, RuntimeError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Local services for trying and testing OSO Connect."""


@main.command()
@click.option("--port", default=8480, show_default=True, help="Where to listen; 0 for a free port.")
@click.option("--comics", default=500, show_default=True, help="Number of comics.")
@click.option("--organizations", default=2, show_default=True, help="Named org-1, org-2, …")
@click.option("--repositories", default=5, show_default=True, help="In each organization.")
@click.option("--releases", default=3, show_default=True, help="In each repository.")
@click.option("--latency", default=0.0, show_default=True, help="Seconds that each answer takes.")
@click.option("--token", help="Token that the GitHub part demands.")
@click.option(
    "--fault",
    "faults",
    type=(str, str, int),
    multiple=True,
    metavar="PATH KIND TIMES",
    help=f"Answer requests for PATH (a shell pattern) with {KINDS}. May be repeated.",
)
@click.option(
    "--recorded",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the recorded responses of this folder instead.",
)
def http(
    port: int,
    comics: int,
    organizations: int,
    repositories: int,
    releases: int,
    latency: float,
    token: str | None,
    faults: tuple[tuple[str, str, int], ...],
    folder: Path | None,
) -> None:
    """Serve the XKCD and GitHub APIs until Ctrl-C.

    More comics appear with `curl -X POST 'http://127.0.0.1:8480/xkcd/publish?count=5'`.
    """
    # Web servers are slow to import.
    from sandbox.http import HttpSandbox, World, recorded  # noqa: PLC0415

    world = World.generate(
        comics=comics, organizations=organizations, repositories=repositories, releases=releases
    )
    app = recorded(folder) if folder else None
    server = HttpSandbox(world, app=app, latency=latency, token=token, port=port)
    try:
        for path, kind, times in faults:
            server.inject(path, kind, times)
        server.start()
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if folder:
        click.echo(f"Serving {folder} at {server.url}")
    else:
        click.echo(f"export TAP_OSO_EXAMPLE_XKCD_URL={server.url}/xkcd")
        click.echo(f"export TAP_OSO_EXAMPLE_GITHUB_URL={server.url}/github")
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    stop.wait()
    server.stop()


@main.command("demo-http")
def run_demo_http() -> None:
    """Run the example tap against a local server and show what it wrote."""
    from sandbox.demo_http import demo_http  # noqa: PLC0415  # web servers are slow to import

    demo_http()


scale_option = click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help=f"Size of the database; 1 means about {sum(ROWS.values()):,} rows.",
)


@main.command("demo")
@scale_option
def run_demo(scale: float) -> None:
    """Copy a PostgreSQL database into a BigQuery, change it, bring the changes, compare."""
    from sandbox.demo_postgres import demo_postgres  # noqa: PLC0415  # Google's library is slow

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    demo_postgres(scale)


@main.command()
@scale_option
def up(scale: float) -> None:
    """Start a PostgreSQL with data in it and an embedded BigQuery, and leave them running."""
    console = open_console()
    with step(console, "PostgreSQL and BigQuery are up"):
        services.up(_folder(), scale)
    console.print(
        'eval "$(uv run sandbox env)"             sets what Meltano has to know about them\n'
        "meltano run tap-my-postgres-datasource target-bigquery\n"
        "uv run sandbox sql 'SELECT …'            asks BigQuery\n"
        "uv run sandbox psql -c 'UPDATE …'        changes the source\n"
        "uv run sandbox down                      stops both and forgets their data"
    )


@main.command()
def env() -> None:
    """Print the environment to use what `up` started: eval "$(sandbox env)"."""
    for name, value in services.environment(_folder()).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@main.command()
@click.argument("query")
def sql(query: str) -> None:
    """Ask the BigQuery that `up` started: sandbox sql 'SELECT COUNT(*) FROM oso.issues'."""
    names, rows = services.ask(query, services.environment(_folder()))
    show_rows(open_console(), names, rows)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql, as the owner, on the database that `up` started; takes psql's arguments."""
    settings = services.environment(_folder())
    program = embedded_programs() / "psql"
    os.execve(program, [str(program), *arguments], {**os.environ, **settings})  # noqa: S606


@main.command()
def down() -> None:
    """Stop what `up` started, and forget its data."""
    click.echo("stopped" if services.down(_folder()) else "nothing was running")


def _folder() -> Path:
    return project_root() / services.FOLDER


@main.command()
@click.argument("tables", nargs=-1)
@click.option(
    "--source",
    help="Connection string of the source, its password in PGPASSWORD. "
    "[default: from TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_HOST and so on]",
)
@click.option("--publication", default="oso_publication", show_default=True)
@click.option("--project", envvar="TARGET_BIGQUERY_PROJECT", required=True, show_envvar=True)
@click.option("--dataset", envvar="TARGET_BIGQUERY_DATASET", required=True, show_envvar=True)
@click.option(
    "--dropped-partitions",
    type=click.Choice(["copy", "keep"]),
    default="copy",
    show_default=True,
    envvar="TAP_MY_POSTGRES_DATASOURCE_DROPPED_PARTITIONS",
    help="The tap's setting: with keep, rows of dropped partitions are no difference.",
)
def diff(
    tables: tuple[str, ...],
    source: str | None,
    publication: str,
    project: str,
    dataset: str,
    dropped_partitions: str,
) -> None:
    """Compare a PostgreSQL database with the dataset it was loaded into.

    Names the rows that differ, in the TABLES or in all of the publication. The exit code is 0 if
    everything is equal and 1 if not. See docs/verifying.md.
    """
    from sandbox.diff.command import show_differences  # noqa: PLC0415  # Google's library is slow

    is_equal = show_differences(
        tables,
        source,
        publication,
        project,
        dataset,
        keeps_dropped_partitions=dropped_partitions == "keep",
    )
    sys.exit(0 if is_equal else 1)
