"""Reading a copy stream as fast as libpq gives it: of COPY, and of streaming replication.

psycopg's own `Cursor.copy` waits for each row anew and knows nothing of replication.
See https://www.postgresql.org/docs/current/libpq-copy.html.
"""

import select
from typing import Final

import psycopg
from psycopg import errors, pq

_COPYING: Final = (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)


def start(connection: psycopg.Connection, query: str) -> None:
    """Send a query whose answer is a copy stream, and wait until the stream begins.

    Raises:
        psycopg.Error: The server refused.
    """
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
        psycopg.OperationalError: The connection was lost.
    """
    ready, _, _ = select.select([connection.pgconn.socket], [], [], seconds)
    if ready:
        connection.pgconn.consume_input()
    return bool(ready)


def flush(connection: psycopg.Connection) -> None:
    """Send what is waiting to be sent.

    Raises:
        psycopg.OperationalError: The connection was lost.
    """
    while connection.pgconn.flush():
        select.select([], [connection.pgconn.socket], [])


def _result(connection: psycopg.Connection) -> pq.abc.PGresult | None:
    flush(connection)
    while connection.pgconn.is_busy():
        wait(connection, 1)
    return connection.pgconn.get_result()


def _error(result: pq.abc.PGresult | None, connection: psycopg.Connection) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError(connection.pgconn.get_error_message())
    return errors.error_from_result(result)
