"""The check of a database: everything a pipeline needs, read from the server and judged."""

from contextlib import closing
from datetime import UTC, datetime
from typing import Final

import psycopg

from tap_postgres_cdc.commands import (
    connection_advice,
    inspection,
    publication_advice,
    server_advice,
    table_advice,
)
from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.sampling import measure_copy
from tap_postgres_cdc.commands.services import Service, detect
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.discovery import discover, read_blocks
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.prerequisites import open_env_file
from tap_postgres_cdc.sessions import one_row
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.typecatalog import TypeCatalog

# A run has one connection for queries, one for the stream and one for each further worker.
_CONNECTIONS: Final = 2


def check(settings: Settings, connector: Connector, service: Service | None) -> list[Finding]:
    """Look at everything that a pipeline needs; nothing is changed.

    Args:
        settings: What to look at.
        connector: Opens the connections.
        service: Who runs the server; None to find out.

    Raises:
        CaptureError: The server could not be asked.
    """
    secrets = [connection_advice.check_env_file(file)] if (file := open_env_file()) else []
    try:
        connection = connector.connect()
    except CaptureError as error:
        cause = str(error.__cause__ or "")
        service = service or detect(settings.host, ())
        refusal = connection_advice.check_refusal(error.message, cause, settings, service)
        return [refusal, *secrets]
    with connector.errors(), closing(connection):
        return secrets + _check(settings, connector, connection, service)


def _check(
    settings: Settings,
    connector: Connector,
    connection: psycopg.Connection,
    service: Service | None,
) -> list[Finding]:
    server = inspection.read_server(connection)
    role = inspection.read_role(connection)
    service = service or detect(settings.host, server.markers)
    findings = [
        connection_advice.check_connection(settings, role),
        server_advice.check_version(server),
        connection_advice.check_encryption(settings, server, _encryption(connection)),
        server_advice.check_primary(server),
        connection_advice.check_timeouts(server),
    ]
    if findings[1].status is Status.ERROR:
        return findings
    refusal = _try_to_replicate(connector)
    limit = _CONNECTIONS + settings.snapshot_workers
    findings += [
        server_advice.check_writable(server, service, settings.database),
        server_advice.check_encoding(server),
        server_advice.check_wal_level(server, service),
        *server_advice.check_prepared(server),
        *server_advice.check_role(role, service, refusal, limit=limit, now=datetime.now(UTC)),
        *server_advice.check_headroom(server, service, settings.slot, refusal),
        *_check_tables(settings, connector, connection, role),
    ]
    slot = inspection.read_slot(connection, settings.slot)
    findings += server_advice.check_slot(server, service, role.name, settings.slot, slot)
    return findings


def _check_tables(
    settings: Settings,
    connector: Connector,
    connection: psycopg.Connection,
    role: inspection.Role,
) -> list[Finding]:
    name = settings.publication
    schemas = inspection.read_schemas(connection, settings.schemas)
    publication = inspection.read_publication(connection, name)
    relations = inspection.read_relations(connection, name, publication, settings.schemas)
    findings = publication_advice.check_publication(name, publication, relations, schemas)
    if publication is None:
        return findings
    left_out = publication_advice.check_left_out(name, publication, relations)
    if not any(relation.is_published for relation in relations):
        return findings + left_out
    try:
        published = discover(
            connection, TypeCatalog(connection), name, settings.schemas, settings.stream_name
        ).tables
        blocks = read_blocks(connection, published)
        tables = tuple(table.sized(blocks) for table in published)
    except CaptureError as error:
        wrong, _, what_to_do = error.message.partition(": ")
        fix = Fix("you", do=what_to_do)
        return [*findings, Finding("streams", Status.ERROR, wrong, fix), *left_out]
    findings += publication_advice.check_privileges(role, schemas, relations, tables)
    by_oid = {table.oid: table for table in tables}
    findings += [
        table_advice.check_table(name, publication, relation, by_oid.get(relation.oid))
        for relation in relations
        if relation.is_published
    ]
    findings += left_out
    sizes = {relation.oid: relation.size for relation in relations}
    sample = measure_copy(connector, tables, sizes)
    copy = tables, sizes, sample
    findings.append(publication_advice.check_copy_time(*copy, settings.max_rows_per_second))
    findings.append(publication_advice.check_copy_holds(*copy, settings.snapshot_minutes))
    return findings


def _encryption(connection: psycopg.Connection) -> connection_advice.Encryption:
    (version,) = one_row(
        connection, "SELECT (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)"
    )
    return connection_advice.Encryption(version)


def _try_to_replicate(connector: Connector) -> str | None:
    """Open a connection for replication; gives why the server refused.

    Services grant the right in ways of their own, so trying is the one way to know.
    """
    try:
        connector.connect_to_replicate().close()
    except CaptureError as error:
        return str(error.__cause__ or error.message)
    return None
