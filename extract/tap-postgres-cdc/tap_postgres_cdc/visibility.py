"""Waiting until what the log says is what a query sees, and until what a query sees will last."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg

from tap_postgres_cdc.connection import one_row
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.positions import Snapshot, parse_lsn

logger = logging.getLogger("tap-postgres-cdc")


_POLL_SECONDS: Final = 0.05
_REPORT_SECONDS: Final = 10.0
_OLDEST: Final = """
SELECT coalesce(string_agg(format('process %s of user %s since %s', pid, usename, xact_start), ', '
  ORDER BY xact_start), 'prepared transactions')
FROM (SELECT * FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()
  AND backend_type = 'client backend' ORDER BY xact_start LIMIT 3) activity
"""


def end_of_log(connection: psycopg.Connection) -> int:
    """LSN up to which the log is on disk, and which a walsender reaches within a second.

    The server may write the log up to the end of a page, but it sends whole records. The rest of
    one that goes beyond the page is written with the next commit: on a server that is idle but for
    an open transaction after 6 to 23 seconds, with its own housekeeping. So this commits, which
    costs a transaction id.
    """
    (end,) = one_row(connection, "SELECT pg_current_wal_flush_lsn()::text")
    connection.execute("SELECT pg_current_xact_id()")
    return parse_lsn(end)


def current_snapshot(connection: psycopg.Connection) -> Snapshot:
    """What a query sees now."""
    return Snapshot.parse(one_row(connection, "SELECT pg_current_snapshot()::text")[0])


def wait_for_running_transactions(connection: psycopg.Connection, stop: threading.Event) -> None:
    """Wait until every transaction that is in progress now is over.

    The log can hold the commit of a transaction that is still in progress for others: with
    `commit_delay`, or until a synchronous standby has answered. A snapshot does not tell of all
    that are in progress: its xmax is past the newest that has *ended*. So a new id is taken, which
    is past all that have begun.

    Raises:
        Interrupted: `stop` was set meanwhile.
    """
    newest = int(one_row(connection, "SELECT pg_current_xact_id()::text")[0])
    _wait(
        lambda: current_snapshot(connection).xmin > newest,
        lambda: f"for transactions to end: {one_row(connection, _OLDEST)[0]}",
        stop,
    )


def wait_until_visible(
    connection: psycopg.Connection, xids: set[int], stop: threading.Event
) -> None:
    """Wait until the next query sees transactions whose commit is in the log.

    Args:
        connection: Not in a transaction.
        xids: As in Begin messages.
        stop: Ends the waiting.

    Raises:
        Interrupted: `stop` was set meanwhile.
    """
    _wait(
        lambda: all(map(current_snapshot(connection).sees, xids)),
        lambda: "until committed transactions can be seen (is a synchronous standby gone?)",
        stop,
    )


def wait_until_durable(connection: psycopg.Connection) -> None:
    """Wait until a crash of the server could not undo what queries saw so far.

    With `synchronous_commit = off` a transaction is visible before its commit is on disk, but for
    no longer than three times `wal_writer_delay`, see
    https://www.postgresql.org/docs/current/wal-async-commit.html.
    """
    target, delay = one_row(
        connection,
        "SELECT pg_current_wal_insert_lsn(), 3 * extract(epoch FROM"
        " current_setting('wal_writer_delay')::interval)::float",
    )
    deadline = time.monotonic() + delay
    query = f"SELECT pg_current_wal_flush_lsn() >= '{target}'"
    while time.monotonic() < deadline and not one_row(connection, query)[0]:
        time.sleep(_POLL_SECONDS / 10)


def _wait(is_over: Callable[[], bool], what: Callable[[], str], stop: threading.Event) -> None:
    report_at = time.monotonic() + _REPORT_SECONDS
    while not is_over():
        if time.monotonic() >= report_at:
            logger.info("Waiting %s", what())
            report_at = time.monotonic() + _REPORT_SECONDS
        if stop.wait(_POLL_SECONDS):
            raise Interrupted
