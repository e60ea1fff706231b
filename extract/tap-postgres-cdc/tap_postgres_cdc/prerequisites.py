"""What has to hold before a run: server, slot, state and privileges. Nothing is changed here."""

import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc.captured import Captured, selected_table_columns
from tap_postgres_cdc.discovery import Publication, Table
from tap_postgres_cdc.errors import CaptureError, Interrupted, slot_lost
from tap_postgres_cdc.positions import format_lsn, parse_lsn
from tap_postgres_cdc.replication import identify_system
from tap_postgres_cdc.sessions import one_row
from tap_postgres_cdc.state import SlotState
from tap_postgres_cdc.timeline import read_forks

logger = logging.getLogger("tap-postgres-cdc")

_OLDEST_VERSION: Final = 150000
# A client that was killed holds its slot until the server notices.
_BUSY_SECONDS: Final = 15.0
_SLOT: Final = """
SELECT plugin, slot_type, database, active_pid, confirmed_flush_lsn::text, wal_status,
  two_phase, current_database()
FROM pg_replication_slots WHERE slot_name = %s
"""


class Slot(NamedTuple):
    """A replication slot that can be read; everything before `confirmed_lsn` is consumed."""

    name: str
    confirmed_lsn: int


def check_server(connection: psycopg.Connection) -> None:
    """Check version, role and `wal_level`.

    Raises:
        CaptureError: Changes can't be captured from this server.
    """
    if connection.info.server_version < _OLDEST_VERSION:
        version = connection.info.parameter_status("server_version")
        raise CaptureError(f"the server is PostgreSQL {version}: version 15 or later is needed")
    is_standby, wal_level, encoding = one_row(
        connection,
        "SELECT pg_is_in_recovery(), current_setting('wal_level'),"
        " current_setting('server_encoding')",
    )
    if is_standby:
        raise CaptureError("the server is a standby: set host to the primary")
    if wal_level != "logical":
        raise CaptureError(
            f"the server's wal_level is {wal_level}, but has to be logical: a superuser runs "
            "ALTER SYSTEM SET wal_level = 'logical' and restarts the server (managed services: a "
            "parameter and a reboot)"
        )
    if encoding == "SQL_ASCII":
        logger.warning(
            "The database's encoding is SQL_ASCII: where text is not UTF-8 it gets U+FFFD"
        )


def find_slot(
    connection: psycopg.Connection, name: str, stop: threading.Event, *, is_first_run: bool
) -> Slot:
    """Read a slot, waiting a while for the client that had it last.

    Raises:
        Interrupted: `stop` was set meanwhile.
        CaptureError: There is none, it is lost or in use, or it is not for this.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        row = connection.execute(_SLOT, [name]).fetchone()
        if row is None:
            raise CaptureError(
                f'replication slot "{name}" does not exist: create it with '
                f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')"
                + ("" if is_first_run else ", then run with --full-refresh")
            )
        plugin, kind, database, active_pid, confirmed, wal_status, two_phase, here = row
        if kind != "logical" or plugin != "pgoutput":
            raise CaptureError(
                f'replication slot "{name}" is {f"for {plugin}" if plugin else "physical"}: set '
                "replication_slot to one made by "
                "SELECT pg_create_logical_replication_slot('<name>', 'pgoutput')"
            )
        if database != here:
            raise CaptureError(
                f'replication slot "{name}" belongs to database {database}, not to {here}: set '
                "database or replication_slot to match"
            )
        if wal_status == "lost":
            raise slot_lost(name)
        if two_phase:
            # Such a slot sends transactions when they are prepared, before they are committed.
            raise CaptureError(
                f'replication slot "{name}" was made with two_phase, which is not supported: '
                f"SELECT pg_drop_replication_slot('{name}'), create it again with "
                f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput'), then run with "
                "--full-refresh"
            )
        if active_pid is None:
            return Slot(name, parse_lsn(confirmed))
        if time.monotonic() > deadline:
            raise CaptureError(
                f'replication slot "{name}" is in use by process {active_pid} of the server: end '
                f"the other run, or that process with SELECT pg_terminate_backend({active_pid}); "
                "each pipeline needs a slot of its own"
            )
        if stop.wait(0.2):
            raise Interrupted


def current_slot(
    connection: psycopg.Connection, replication: psycopg.Connection, slot: Slot
) -> SlotState:
    """Where a slot is, and of which server and database."""
    (database,) = one_row(
        connection, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
    )
    system = identify_system(replication)
    return SlotState(
        name=slot.name,
        system_identifier=system["systemid"],
        database=database,
        timeline=int(system["timeline"]),
        confirmed_lsn=slot.confirmed_lsn,
    )


def check_state(
    state: SlotState, now: SlotState, end_lsn: int, replication: psycopg.Connection
) -> None:
    """Check that a state goes on from this server, database and slot.

    Args:
        state: What came in.
        now: As it is now.
        end_lsn: End of the server's log.
        replication: A connection that replicates.

    Raises:
        CaptureError: It does not; changes would be missing.
    """
    refresh = "copy everything anew with --full-refresh"
    if state.system_identifier != now.system_identifier:
        raise CaptureError(
            f"the state is of another database server (system identifier "
            f"{state.system_identifier}, this one is {now.system_identifier}): correct the "
            f"setting host, or {refresh}"
        )
    if state.database != now.database:
        raise CaptureError(
            f"the state is of another database of this server (oid {state.database}, this one is "
            f"{now.database}): correct the setting database, or {refresh}"
        )
    if now.confirmed_lsn > state.confirmed_lsn:
        raise CaptureError(
            f'replication slot "{now.name}" was read by someone else up to '
            f"{format_lsn(now.confirmed_lsn)}, or made anew, past the state's "
            f"{format_lsn(state.confirmed_lsn)}: changes in between are gone; give this pipeline a "
            f"slot of its own and {refresh}"
        )
    if state.confirmed_lsn > end_lsn:
        raise CaptureError(
            f"the state is at {format_lsn(state.confirmed_lsn)}, but the server's log ends at "
            f"{format_lsn(end_lsn)}: it was restored from a backup; {refresh}"
        )
    if state.timeline != now.timeline:
        _check_timeline(state, now, replication, refresh)


def _check_timeline(
    state: SlotState, now: SlotState, replication: psycopg.Connection, refresh: str
) -> None:
    """Check that a server that was promoted or restored has all that the state has seen."""
    try:
        left_at = read_forks(replication, now.timeline).get(state.timeline)
    except (psycopg.Error, ValueError):
        left_at = None
    seen = max(state.confirmed_lsn, state.seen_lsn)
    what = f"the server is on timeline {now.timeline}, the state on {state.timeline}"
    if left_at is None:
        raise CaptureError(
            f"{what}, which is not in its history: it was restored from a backup, or that file of "
            f"its pg_wal is lost; {refresh}"
        )
    if left_at < seen:
        raise CaptureError(
            f"{what}, which it left at {format_lsn(left_at)}, before the {format_lsn(seen)} that "
            f"the warehouse has seen: it was restored from a backup, or failed over to a standby "
            f"that was behind, and changes were lost; {refresh}"
        )
    logger.info("%s, which it left after all that the warehouse has seen", what.capitalize())


def check_readable(tables: Iterable[Captured], username: str) -> None:
    """Check that what has to be copied can be read.

    Raises:
        CaptureError: A privilege is missing; the message names them all.
    """
    grants = []
    for captured in tables:
        table = captured.table
        unreadable = [part for part in table.parts if not part.readable]
        wanted = selected_table_columns(table, captured.selection)
        if not unreadable and any(not column.readable for column in wanted):
            unreadable = list(table.parts)
        names = ", ".join(f'"{part.schema}"."{part.name}"' for part in unreadable)
        if names:
            schemas = ", ".join(sorted({f'"{part.schema}"' for part in unreadable}))
            grants.append(
                f'GRANT USAGE ON SCHEMA {schemas} TO "{username}"; '
                f'GRANT SELECT ON {names} TO "{username}"'
            )
    if grants:
        raise CaptureError(
            f'user "{username}" may not read all tables that have to be copied: their owner runs '
            f"{'; '.join(grants)}"
        )


def open_env_file() -> Path | None:
    """The file that Meltano reads secrets from, if others on this machine may read it too."""
    file = Path(os.environ.get("MELTANO_PROJECT_ROOT", ""), ".env")
    is_open = (
        "MELTANO_PROJECT_ROOT" in os.environ and file.is_file() and file.stat().st_mode & 0o077
    )
    return file if is_open else None


def warn_of_tables(tables: Iterable[Table], publication: Publication) -> None:
    """Say what will not work as one may expect."""
    if publication.unpublished:
        logger.warning(
            "The publication leaves out %s: rows changed that way stay as they are in the "
            "warehouse",
            ", ".join(publication.unpublished),
        )
    for table in tables:
        if not table.key:
            logger.warning(
                "Table %s has no usable key: records are appended, and unless its replica identity "
                "is FULL, updates and deletes fail at the source (give it a primary key, or ALTER "
                "TABLE … REPLICA IDENTITY USING INDEX …)",
                table.full_name,
            )
        elif table.identity == "n":
            logger.warning(
                "Table %s has REPLICA IDENTITY NOTHING: its updates and deletes fail at the source",
                table.full_name,
            )
