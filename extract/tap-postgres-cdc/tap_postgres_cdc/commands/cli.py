"""The subcommands as the command line has them.

Meltano runs `tap-postgres-cdc --config FILE check`, without discovery, so that they work on a
database that is not ready for a run.
"""

import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Final

import click

from tap_postgres_cdc.commands import findings, lag, statements
from tap_postgres_cdc.commands.administration import (
    ADMIN_URL,
    Administrator,
    administrator,
    run_as_role,
)
from tap_postgres_cdc.commands.check import check
from tap_postgres_cdc.commands.services import SERVICES, Service, detect
from tap_postgres_cdc.commands.statements import Statement, TableName, Wanted
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import Settings

ReadSettings = Callable[[], Settings]

_UNITS: Final = {"": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_service: Final = click.option(
    "--service",
    type=click.Choice(list(SERVICES)),
    help="Who runs the server. Found out if not given.",
)
_yes: Final = click.option("--yes", is_flag=True, help="Do not ask.")


def _size(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    """Read a number of bytes, such as `500MB`, with the units of PostgreSQL."""
    del context, option
    if value is None:
        return None
    found = re.fullmatch(r"(\d+) ?([kmgt]b|)", value, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{value} is no size: use bytes, kB, MB, GB or TB")
    return int(found[1]) * _UNITS[found[2].lower()]


@click.command("check")
@_service
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def check_command(read: ReadSettings, service: str | None, form: str) -> None:
    """Say what the database lacks for a pipeline, and what mends it.

    Each line is right (✓), good to know (!) or wrong (✗). Nothing is changed. The exit code is 1
    if anything is wrong.
    """
    settings = read()
    found = check(settings, Connector(settings), SERVICES[service] if service else None)
    if form == "json":
        click.echo(json.dumps(findings.as_json(found)))
    else:
        for finding in found:
            click.echo(findings.as_text(finding))
        click.echo(f"\n{findings.summary(found)}")
    if findings.failed(found):
        sys.exit(1)


@click.command("setup")
@_service
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="[SCHEMA.]TABLE",
    help="Capture this table; can be given several times.",
)
@click.option("--all-tables", is_flag=True, help="Capture every table of the database.")
@click.option(
    "--apply", is_flag=True, help=f"Run it, with the administrator's connection in {ADMIN_URL}."
)
@_yes
@click.pass_obj
def setup_command(
    read: ReadSettings,
    service: str | None,
    tables: Sequence[str],
    *,
    all_tables: bool,
    apply: bool,
    yes: bool,
) -> None:
    """Print the SQL that prepares the database, or run it.

    A role of the least rights, a publication and a slot, with the names of the settings. Without
    --table and --all-tables, every table of the schemas of the settings is captured, also those
    that will be made.
    """
    if tables and all_tables:
        raise click.UsageError("--table and --all-tables exclude each other")
    settings = read()
    wanted = _wanted(settings, tables, all_tables=all_tables)
    connector = Connector(settings)
    with administrator(settings, connector) as admin:
        if admin is None:
            if apply:
                raise CaptureError(_missing_url("applied"))
            of = SERVICES[service] if service else detect(settings.host, ())
            _check_wanted(wanted, of, is_superuser=False)
            plan = statements.setup(settings, of, wanted, None)
            click.echo(statements.as_script(settings, of, plan))
            return
        of = SERVICES[service] if service else admin.service()
        _check_wanted(wanted, of, is_superuser=admin.is_superuser)
        wanted = admin.find_tables(wanted)
        schemas = {*settings.schemas, *(table.schema for table in wanted.partitions)}
        existing = admin.existing(of, sorted(schemas))
        plan = statements.setup(settings, of, wanted, existing)
        if not plan:
            click.echo("-- Nothing is missing.")
        elif not apply:
            click.echo(statements.as_script(settings, of, plan))
        else:
            _apply_setup(admin, connector, of, plan, yes=yes)


def _apply_setup(
    admin: Administrator, connector: Connector, of: Service, plan: Sequence[Statement], *, yes: bool
) -> None:
    _check_terminal(yes=yes)
    for statement in plan:
        if statement.by_role:
            _check_wal_level(admin, of)
        click.echo(f"-- {statement.purpose}\n{statement.sql};")
        if yes or click.confirm("Run it?", default=True):
            _run(admin, connector, statement, of)
        else:
            click.echo("-- left out")
    click.echo("Done: the command check says whether everything is there.")


def _run(admin: Administrator, connector: Connector, statement: Statement, of: Service) -> None:
    if statement.by_role:
        run_as_role(connector, statement)
    else:
        admin.run(statement, of)


def _check_wal_level(admin: Administrator, of: Service) -> None:
    if admin.wal_level != "logical":
        fix = of.set_parameter("wal_level", "logical", restart=True)
        how = "; then ".join(filter(None, (*fix.sql, fix.do)))
        raise CaptureError(
            f"the slot has to wait: wal_level is {admin.wal_level}, not logical ({fix.by}: {how}); "
            "then run this again"
        )


@click.command("lag")
@click.option("--format", "form", type=click.Choice(["text", "json", "prometheus"]), default="text")
@click.option(
    "--max-bytes", callback=_size, metavar="SIZE", help="Exit with 1 above this, such as 10GB."
)
@click.option("--max-seconds", type=float, help="Exit with 1 above this, or if it is unknown.")
@click.pass_obj
def lag_command(
    read: ReadSettings, form: str, max_bytes: int | None, max_seconds: float | None
) -> None:
    """Say how far the slot is behind, and how much WAL it keeps.

    A run confirms what the run before it has loaded, so between two runs the slot is behind by
    one of them. The exit code is 1 if the slot is lost, or above a limit that is given.
    """
    settings = read()
    connector = Connector(settings)
    with connector.errors(), closing(connector.connect()) as connection:
        found = lag.measure(settings, connector, connection)
    forms = {"text": lag.as_text, "json": lag.as_json, "prometheus": lag.as_prometheus}
    click.echo(forms[form](found))
    if exceeded := lag.exceeded(found, max_bytes, max_seconds):
        raise CaptureError("; ".join(exceeded))


@click.command("teardown")
@_yes
@click.pass_obj
def teardown_command(read: ReadSettings, *, yes: bool) -> None:
    """Remove the slot, the publication, the role's rights and the role.

    Needs an administrator's connection in TAP_POSTGRES_CDC_ADMIN_URL; without it the SQL is
    printed. Tables and rows stay as they are, here and in the warehouse.
    """
    settings = read()
    connector = Connector(settings)
    with administrator(settings, connector) as admin:
        if admin is None:
            for statement in statements.teardown(settings, None):
                click.echo(f"{statement.sql};")
            raise CaptureError(_missing_url("removed"))
        leftovers = admin.leftovers()
        if leftovers.reader:
            raise CaptureError(
                f'replication slot "{settings.slot}" is being read by process {leftovers.reader} '
                "of the server: wait until the run is over, or end it"
            )
        member = "" if admin.is_superuser else admin.name
        plan = statements.teardown(settings, leftovers, member, slot_by_role=not admin.replicates)
        if leftovers.kept:
            click.echo(f"-- The role {settings.username} stays: {leftovers.kept}.")
        if not plan:
            click.echo("-- Nothing is left to remove.")
            return
        for statement in plan:
            click.echo(f"-- {statement.purpose}\n{statement.sql};")
        _check_terminal(yes=yes)
        if not yes and not click.confirm("Remove all of this?", default=False):
            raise CaptureError("nothing was removed")
        for statement in plan:
            _run(admin, connector, statement, SERVICES["plain"])
    click.echo("Done. What Meltano knows of the pipeline goes with meltano state clear.")


COMMANDS: Final = (check_command, setup_command, lag_command, teardown_command)


def _wanted(settings: Settings, tables: Sequence[str], *, all_tables: bool) -> Wanted:
    if all_tables:
        return Wanted("all")
    if not tables:
        return Wanted("schemas")
    named = []
    for table in tables:
        schema, _, name = table.rpartition(".")
        named.append(TableName(schema or settings.schemas[0], name))
        if schema and schema not in settings.schemas:
            raise CaptureError(
                f"table {table} is in schema {schema}, which is not captured: add it to the "
                "setting airbyte_config.schemas"
            )
    return Wanted("tables", tuple(named))


def _check_wanted(wanted: Wanted, of: Service, *, is_superuser: bool) -> None:
    if wanted.kind != "tables" and not is_superuser and wanted.kind not in of.publishes:
        raise CaptureError(
            f"on {of.label} only single tables can be published: name them with --table"
        )


def _check_terminal(*, yes: bool) -> None:
    if not yes and not sys.stdin.isatty():
        raise CaptureError("nobody can be asked here: add --yes to do it all without asking")


def _missing_url(what: str) -> str:
    return (
        f"nothing was {what}: set {ADMIN_URL} to postgresql://<user>:<password>@/ of an "
        "administrator (host and database are those of the settings), or have the SQL run by one"
    )
