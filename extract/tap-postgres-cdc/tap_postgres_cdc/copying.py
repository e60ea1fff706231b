"""Copying one range of a table: rows of `COPY … TO STDOUT` become RECORD lines."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc import copystream
from tap_postgres_cdc.rows import Column, Losses, copy_function
from tap_postgres_cdc.sessions import lock, one_row

# How many rows are turned into lines at once; large rows end a batch early.
_BATCH_ROWS: Final = 1000
_BATCH_BYTES: Final = 1 << 20
# A table stays locked while a range of it is read. When that takes longer, the rest of the range is
# read at once, whether the loader takes it or not.
_LOCKED_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 1.0
_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_IDENTITY: Final = "SELECT to_regclass(%s)::oid::bigint, pg_relation_filenode(%s::oid)"
# What a query says of a table or column that was dropped or renamed.
_GONE: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


class CopyJob(NamedTuple):
    """A range of a table to copy.

    Attributes:
        query: SQL of the COPY.
        columns: What the query selects, in order.
        suffix: The end of every record, after the last column's value.
        snapshot: As given by `pg_export_snapshot()`, None for one of its own.
        part: Name, oid and file of what the query should read; None if it does not matter.
        fail_on_loss: Whether a value that can't be written ends the run.
        show_losses: Whether the keys of such values' rows are named.
    """

    stream: str
    query: str
    columns: tuple[Column, ...]
    suffix: bytes
    snapshot: str | None = None
    part: tuple[str, int, int] | None = None
    fail_on_loss: bool = False
    show_losses: bool = False


class Outcome(Enum):
    """How a range ended: done; another table or file was read, or there was none; it is locked."""

    DONE = "done"
    CHANGED = "changed"
    LOCKED = "locked"


class Batch(NamedTuple):
    """Some RECORD lines; the last of a range has its outcome."""

    lines: bytes
    rows: int
    outcome: Outcome | None = None


class Copier:
    """Copies ranges over a connection of its own, each in a transaction of its own.

    So a table is locked for no longer than it takes to read a range of it.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection]) -> None:
        """Take what opens a connection in autocommit mode."""
        self.losses = Losses()
        self._connect = connect
        self._connection: psycopg.Connection | None = None

    def copy(self, job: CopyJob) -> Iterator[Batch]:
        """Copy a range, a batch of lines at a time; an empty one says that the server is busy.

        Raises:
            psycopg.Error: The server could not.
            ValueLossError: A value can't be written.
        """
        self.losses.fail, self.losses.show = job.fail_on_loss, job.show_losses
        connection = self._connection = self._connection or self._connect()
        is_over = False
        try:
            begin = (
                f"{_BEGIN}; SET TRANSACTION SNAPSHOT '{job.snapshot}'" if job.snapshot else _BEGIN
            )
            connection.execute(begin)
            yield from self._copy(connection, job)
            is_over = True
        except psycopg.errors.LockNotAvailable:
            yield Batch(b"", 0, Outcome.LOCKED)
        except _GONE:
            yield Batch(b"", 0, Outcome.CHANGED)
        finally:
            if not is_over:
                # In the middle of a copy, or in a transaction that failed.
                self.close()

    def close(self) -> None:
        """Close the connection; the next range opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def _copy(self, connection: psycopg.Connection, job: CopyJob) -> Iterator[Batch]:
        outcome = Outcome.DONE if self._is_the_part(connection, job) else Outcome.CHANGED
        if outcome is Outcome.CHANGED:
            connection.execute("ROLLBACK")
        else:
            convert = copy_function(job.stream, job.columns, job.suffix, self.losses)
            copystream.start(connection, job.query)
            rows = _Rows(connection)
            try:
                for some in rows.batches():
                    yield Batch(b"".join(convert(some)), len(some))
            finally:
                rows.close()
        yield Batch(b"", 0, outcome)

    def _is_the_part(self, connection: psycopg.Connection, job: CopyJob) -> bool:
        """Lock what COPY would read; gives whether it is the table that was meant, and all of it.

        It goes by name, and the name may be another table's by now. TRUNCATE and ALTER TABLE put
        new files in place that hold no row older than they are, see
        https://www.postgresql.org/docs/current/mvcc-caveats.html. Both functions, unlike the
        catalog's tables, do not look through the snapshot.
        """
        if job.part is None:
            return True
        name, oid, relfilenode = job.part
        lock(connection, name)
        return one_row(connection, _IDENTITY, [name, oid]) == (oid, relfilenode)


class _Rows:
    """Rows of a COPY; with the last of them its transaction ends, and so the lock of the table.

    Who takes them may be kept waiting by the loader for minutes. So after a while a thread reads
    all that are left; a range is small enough to be kept in memory.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        """Take a connection on which the stream has begun."""
        self._connection = connection
        self._read: deque[list[bytes]] = deque()
        self._is_over = self._is_closed = False
        self._error: Exception | None = None
        self._turn = threading.Lock()
        self._timer = threading.Timer(_LOCKED_SECONDS, self._read_rest)
        self._timer.daemon = True
        self._timer.start()

    def batches(self) -> Iterator[list[bytes]]:
        """Some rows at a time, none when the server is busy.

        Raises:
            Interrupted: The run was asked to stop.
            psycopg.Error: The server could not.
        """
        while self._read or not self._is_over:
            if self._turn.acquire(timeout=_IDLE_SECONDS):
                try:
                    if self._error:
                        raise self._error
                    if not self._read and not self._is_over:
                        self._read_some()
                finally:
                    self._turn.release()
            yield self._read.popleft() if self._read else []

    def close(self) -> None:
        """Read no more; the connection is free then."""
        self._timer.cancel()
        self._is_closed = True
        with self._turn:
            pass  # the thread has noticed

    def _read_rest(self) -> None:
        with self._turn:
            try:
                while not self._is_over and not self._is_closed:
                    self._read_some()
            except Exception as error:  # noqa: BLE001 - raised by `batches`
                self._error = error

    def _read_some(self) -> None:
        rows: list[bytes] = []
        size = 0
        get = self._connection.pgconn.get_copy_data
        while len(rows) < _BATCH_ROWS and size < _BATCH_BYTES:
            length, data = get(1)
            if length > 0:
                rows.append(bytes(data))
                size += length
            elif length < 0:
                copystream.finish(self._connection)
                self._connection.execute("COMMIT")
                self._is_over = True
                break
            elif not copystream.wait(self._connection, _IDLE_SECONDS):
                break
        self._read.append(rows)
