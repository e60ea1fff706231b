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
    """

    stream: str
    query: str
    columns: tuple[Column, ...]
    suffix: bytes


class Batch(NamedTuple):
    """Some RECORD lines."""

    lines: bytes
    rows: int


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
        if rows:
            yield Batch(b"".join(convert(rows)), len(rows))
