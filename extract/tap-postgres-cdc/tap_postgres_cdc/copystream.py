"""Reading a copy stream as fast as libpq gives it: of COPY, and of streaming replication.

psycopg's own `Cursor.copy` waits for each row anew and knows nothing of replication. All waiting
ends as that of `Session` does, with the same errors.
See https://www.postgresql.org/docs/current/libpq-copy.html.
"""

from typing import Final, cast

import psycopg
from psycopg import errors, pq
from psycopg.waiting import Ready, Wait

from tap_postgres_cdc.sessions import Session

_COPYING: Final = (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
_POLL_SECONDS: Final = 0.2


def start(connection: psycopg.Connection, query: str) -> None:
    """Send a query whose answer is a copy stream, and wait until the stream begins.

    Raises:
        Interrupted: The run was asked to stop.
        psycopg.Error: The server refused.
    """
    _session(connection).listen()
    connection.pgconn.send_query(query.encode())
    result = _result(connection)
    if result is None or result.status not in _COPYING:
        while _result(connection):
            pass  # the connection is ready for another query only then
        raise _error(result, connection)


def finish(connection: psycopg.Connection) -> None:
    """Take what comes after the end of the stream.

    Raises:
        psycopg.Error: The stream ended because of an error.
    """
    while result := _result(connection):
        if result.status not in (pq.ExecStatus.COMMAND_OK, *_COPYING):
            raise _error(result, connection)
        if result.status in _COPYING:
            raise psycopg.OperationalError("the copy stream did not end")


def wait(connection: psycopg.Connection, seconds: float) -> bool:
    """Wait for bytes from the server and take them; False when none came in time.

    Raises:
        Interrupted: The run was asked to stop.
        psycopg.OperationalError: The server is silent, or the connection was lost.
    """
    is_ready = bool(_session(connection).poll(Wait.R, seconds))
    if is_ready:
        connection.pgconn.consume_input()
    return is_ready


def flush(connection: psycopg.Connection) -> None:
    """Send what is waiting to be sent.

    Raises:
        Interrupted: The run was asked to stop.
        psycopg.OperationalError: The server is silent, or the connection was lost.
    """
    while connection.pgconn.flush():
        if _session(connection).poll(Wait.RW, _POLL_SECONDS) & Ready.R:
            # A server that waits for us to read does not read either.
            connection.pgconn.consume_input()


def _result(connection: psycopg.Connection) -> pq.abc.PGresult | None:
    flush(connection)
    while connection.pgconn.is_busy():
        wait(connection, _POLL_SECONDS)
    return connection.pgconn.get_result()


def _session(connection: psycopg.Connection) -> Session:
    """Every connection of the tap is one."""
    return cast("Session", connection)


def _error(result: pq.abc.PGresult | None, connection: psycopg.Connection) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError(connection.pgconn.get_error_message())
    return errors.error_from_result(result)
