"""How old the oldest change is that a slot still has to deliver."""

import secrets
import time
from contextlib import closing
from datetime import datetime
from typing import Final

import psycopg

from tap_postgres_cdc import copystream
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.pgoutput import HEADER, parse_begin
from tap_postgres_cdc.positions import server_time
from tap_postgres_cdc.replication import parse_keepalive, send_status, start_replication

_SECONDS: Final = 10.0
_ASK_SECONDS: Final = 0.1
_BEGIN: Final = ord("B")
_KEEPALIVE: Final = ord("k")


class BacklogTooLong(Exception):  # noqa: N818 - not an error
    """The log could not be read far enough in the time there is."""


def oldest_change(
    connector: Connector, slot: str, publication: str, end_lsn: int
) -> datetime | None:
    """When the first published transaction was committed that the slot has not delivered.

    It is read from a temporary copy of the slot, which is gone with its connection: the slot
    itself stays as it is, free for a run to read it, and its idle time goes on. See
    https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-REPLICATION.

    Args:
        connector: Opens the connection.
        slot: Name of the slot.
        publication: Name of the publication.
        end_lsn: Where the log ends; nothing after it counts.

    Returns:
        None if nothing published is left up to `end_lsn`.

    Raises:
        BacklogTooLong: There is so much in the log that is not published that none was found.
        CaptureError: The connection can't be opened.
        psycopg.Error: The server can't copy the slot or read it.
    """
    copy = f"{slot[:50]}_{secrets.token_hex(4)}"
    with closing(connector.connect_to_replicate()) as connection:
        query = psycopg.sql.SQL("SELECT pg_copy_logical_replication_slot({}, {}, true)")
        connection.execute(query.format(slot, copy))
        start_replication(connection, copy, publication, 0)
        return _first_commit(connection, end_lsn)


def _first_commit(connection: psycopg.Connection, end_lsn: int) -> datetime | None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        length, data = connection.pgconn.get_copy_data(1)
        if length == 0:
            if not copystream.wait(connection, _ASK_SECONDS):
                send_status(connection, 0, ask=True)
        elif length < 0:
            copystream.finish(connection)
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        elif data[0] == _KEEPALIVE:
            if parse_keepalive(bytes(data))[0] >= end_lsn:
                return None
        elif data[HEADER] == _BEGIN:
            begin = parse_begin(bytes(data))
            return server_time(begin.commit_time) if begin.commit_lsn < end_lsn else None
    raise BacklogTooLong
