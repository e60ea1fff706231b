"""Waiting until what the log says is what a query sees, and until what a query sees will last."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from tap_postgres_cdc.errors import CaptureError, Interrupted
from tap_postgres_cdc.positions import Snapshot, parse_lsn
from tap_postgres_cdc.sessions import one_row

logger = logging.getLogger("tap-postgres-cdc")


_POLL_SECONDS: Final = 0.05
_REPORT_SECONDS: Final = 10.0
# Only those that have an id, as they have written, are waited for, in all databases. Every role may
# see locks and prepared transactions, but of others' sessions only whose they are.
_HOLDERS: Final = """
SELECT DISTINCT format('process %%s of %%s in database %%s%%s (SELECT pg_terminate_backend(%%s))',
    pid, coalesce('user ' || usename, backend_type), datname,
    ' since ' || date_trunc('second', xact_start), pid) AS holder,
  xact_start AS since
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND granted
  AND age(transactionid) > age(%(newest)s::text::xid)
UNION ALL
SELECT format('prepared transaction %%s of user %%s in database %%s since %%s (in that database: '
    'ROLLBACK PREPARED %%L or COMMIT PREPARED %%L)', gid, owner, database,
    date_trunc('second', prepared), gid, gid), prepared
FROM pg_prepared_xacts WHERE age(transaction) > age(%(newest)s::text::xid)
ORDER BY since LIMIT 5
"""


_LOCK_HOLDERS: Final = """
SELECT string_agg(DISTINCT format('process %s of user %s', pid, usename), ', ')
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_Result = TypeVar("_Result")


class Patience:
    """How long a run waits for others: until it is asked to stop, or for so many minutes."""

    def __init__(self, stop: threading.Event, minutes: float) -> None:
        """Take what ends the waiting; `minutes` is the setting `wait_minutes`."""
        self.stop = stop
        self._minutes = minutes

    def wait(self, is_over: Callable[[], bool], what: Callable[[], str]) -> None:
        """Ask again and again until something is over, and tell of it every ten seconds.

        Args:
            is_over: Whether it is.
            what: Goes on after "Waiting".

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: It took too long.
        """
        began = time.monotonic()
        report_at = began + _REPORT_SECONDS
        while not is_over():
            now = time.monotonic()
            if now >= began + 60 * self._minutes:
                raise CaptureError(
                    f"gave up after {self._minutes:g} minutes (setting wait_minutes) of waiting "
                    f"{what()}"
                )
            if now >= report_at:
                logger.info("Waiting %s", what())
                report_at = now + _REPORT_SECONDS
            if self.stop.wait(_POLL_SECONDS):
                raise Interrupted

    def unlocked(
        self, connection: psycopg.Connection, action: Callable[[], _Result], table: str
    ) -> _Result:
        """Do what needs a table that nobody has locked, from its beginning when it has to wait.

        Args:
            connection: What it is done on; each of its tries takes `lock_timeout` at most, so that
                nobody who comes later has to wait for us for long.
            action: What to do.
            table: What may be locked, for people.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: It took too long; the message names who has locked a table.
        """
        results: list[_Result] = []

        def is_done() -> bool:
            try:
                results.append(action())
            except psycopg.errors.LockNotAvailable:
                connection.rollback()
            return bool(results)

        self.wait(is_done, lambda: f"for a lock on {table}{lock_holders(connection)}")
        return results[0]


def lock_holders(connection: psycopg.Connection) -> str:
    """Who has locked tables of the database against all others, to go on after a table's name."""
    (holders,) = one_row(connection, _LOCK_HOLDERS)
    return f", which may be held by {holders}" if holders else ""


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


def wait_for_running_transactions(connection: psycopg.Connection, patience: Patience) -> None:
    """Wait until every transaction that is in progress now is over.

    The log can hold the commit of a transaction that is still in progress for others: with
    `commit_delay`, or until a synchronous standby has answered. A snapshot does not tell of all
    that are in progress: its xmax is past the newest that has *ended*. So a new id is taken, which
    is past all that have begun.

    Raises:
        Interrupted: The run was asked to stop.
        CaptureError: One took too long; the message names it.
    """
    newest = int(one_row(connection, "SELECT pg_current_xact_id()::text")[0])
    patience.wait(
        lambda: current_snapshot(connection).xmin > newest,
        lambda: f"for transactions to end: {_holders(connection, newest)}",
    )


def wait_until_visible(connection: psycopg.Connection, xids: set[int], patience: Patience) -> None:
    """Wait until the next query sees transactions whose commit is in the log.

    Args:
        connection: Not in a transaction.
        xids: As in Begin messages.
        patience: Ends the waiting.

    Raises:
        Interrupted: The run was asked to stop.
        CaptureError: It took too long.
    """
    patience.wait(
        lambda: all(map(current_snapshot(connection).sees, xids)),
        lambda: "until committed transactions can be seen (is a synchronous standby gone?)",
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


def _holders(connection: psycopg.Connection, newest: int) -> str:
    """Transactions up to `newest` that are in progress, the oldest first, and what ends each."""
    rows = connection.execute(_HOLDERS, {"newest": newest & 0xFFFFFFFF}).fetchall()
    return ", ".join(holder for holder, _ in rows) or "none is left"
