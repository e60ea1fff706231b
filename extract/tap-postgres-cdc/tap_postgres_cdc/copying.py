"""Copying one range of a table: rows of `COPY … TO STDOUT` become RECORD lines."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc import copystream
from tap_postgres_cdc.rows import Column, Losses, copy_function

# How many rows are turned into lines at once; large rows end a batch early.
_BATCH_ROWS: Final = 1000
_BATCH_BYTES: Final = 1 << 20


class CopyJob(NamedTuple):
    """A range of a table to copy.

    Attributes:
        query: SQL of the COPY.
        columns: What the query selects, in order.
        suffix: The end of every record, after the last column's value.
        part: oid of what the query reads, 0 if it does not matter whether that is rewritten.
        relfilenode: Of the part, as the snapshot sees it.
        fail_on_loss: Whether a value that can't be written ends the run.
    """

    stream: str
    query: str
    columns: tuple[Column, ...]
    suffix: bytes
    part: int = 0
    relfilenode: int | None = None
    fail_on_loss: bool = False


class Batch(NamedTuple):
    """Some RECORD lines.

    Attributes:
        rows: How many.
        is_rewritten: Whether the table was rewritten since the snapshot was taken: rows that the
            snapshot should see are then invisible to it. Known with the last batch of a range.
    """

    lines: bytes
    rows: int
    is_rewritten: bool = False


class Copier:
    """Copies ranges over one connection, which is in a transaction of the wanted snapshot."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.losses = Losses()
        self._connection = connection

    def copy(self, job: CopyJob) -> Iterator[Batch]:
        """Copy a range, a batch of lines at a time; an empty one says that the server is busy.

        Raises:
            psycopg.Error: The server could not.
        """
        self.losses.fail = job.fail_on_loss
        convert = copy_function(job.stream, job.columns, job.suffix, self.losses)
        rows: list[bytes] = []
        size = 0
        copystream.start(self._connection, job.query)
        get = self._connection.pgconn.get_copy_data
        while (length := (found := get(1))[0]) >= 0:
            if length == 0:
                if not copystream.wait(self._connection, 1):
                    yield Batch(b"", 0)
                continue
            rows.append(bytes(found[1]))
            size += length
            if len(rows) >= _BATCH_ROWS or size >= _BATCH_BYTES:
                yield Batch(b"".join(convert(rows)), len(rows))
                rows.clear()
                size = 0
        copystream.finish(self._connection)
        yield Batch(b"".join(convert(rows)), len(rows), self._is_rewritten(job))

    def _is_rewritten(self, job: CopyJob) -> bool:
        """Whether a TRUNCATE or ALTER TABLE came before the COPY, whose lock keeps others out.

        Both put new files in place that hold no row older than they are, see
        https://www.postgresql.org/docs/current/mvcc-caveats.html. The function, unlike the
        catalog's table, does not look through the snapshot.
        """
        found = self._connection.execute("SELECT pg_relation_filenode(%s)", [job.part]).fetchone()
        return found != (job.relfilenode,)
