"""How fast a table can be copied from here, by copying some of it and throwing the rows away."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.copying import Copier, CopyJob
from tap_postgres_cdc.discovery import Part, Table
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.records import snapshot_suffix
from tap_postgres_cdc.rows import Column
from tap_postgres_cdc.sessions import one_row
from tap_postgres_cdc.snapshot import copy_query

# Rows per second that Meltano moves from a tap to a loader at least, whatever the tap could do.
PIPE_ROWS: Final = 90_000
_SECONDS: Final = 0.5
_FIRST_BLOCKS: Final = 8
_TIMEOUT: Final = "SET statement_timeout = '5s'"


class Sample(NamedTuple):
    """Bytes on disk per second that one connection copied, TOAST included, and of which table."""

    table: str
    rate: float


def measure_copy(
    connector: Connector, tables: Sequence[Table], sizes: Mapping[int, int]
) -> Sample | None:
    """Copy some of the largest table that can be read, as a run would, for half a second or so.

    Args:
        connector: Opens a connection of its own.
        tables: What the first copy would read.
        sizes: Bytes of the tables, by oid.

    Returns:
        None if there is nothing to read, or the server would not let it be read.
    """
    parts = [
        (part, table)
        for table in tables
        for part in table.parts
        if part.readable and part.blocks and all(column.readable for column in table.columns)
    ]
    if not parts:
        return None
    part, table = max(parts, key=lambda one: one[0].blocks)
    try:
        with closing(connector.connect()) as connection:
            connection.execute(_TIMEOUT)
            (block_size,) = one_row(connection, "SELECT current_setting('block_size')::int")
            blocks, seconds = _copy(connection, table, part)
    except (psycopg.Error, CaptureError):
        return None
    # A table's values that are stored apart are copied with the rows of its blocks.
    heap = sum(one.blocks for one in table.parts) * block_size
    factor = max(sizes.get(table.oid, 0) / heap, 1)
    return Sample(table.full_name, blocks * block_size * factor / seconds)


def _copy(connection: psycopg.Connection, table: Table, part: Part) -> tuple[int, float]:
    """Copy blocks until the time is up; gives how many and how long it took."""
    columns = tuple(
        Column(column.name, column.datatype, selected=True, is_key=False)
        for column in table.columns
    )
    suffix = snapshot_suffix(0, datetime.now(UTC), 0)
    copier = Copier(lambda: connection)
    done, count = 0, _FIRST_BLOCKS
    started = time.monotonic()
    seconds = 0.0
    while done < part.blocks and seconds < _SECONDS:
        end = min(done + count, part.blocks)
        query = copy_query(table, part, columns, done, end)
        job = CopyJob(table.stream, query, columns, suffix)
        for _ in copier.copy(job):
            pass
        done, count = end, 2 * count
        seconds = time.monotonic() - started
    return done, seconds
