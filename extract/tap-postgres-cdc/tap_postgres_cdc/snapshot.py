"""The first copy of tables: which ranges there are, who copies them, and what is done when.

All ranges of a run are read in one exported snapshot, so that several connections see the same.
See https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Self, cast

import psycopg
from psycopg import sql

from tap_postgres_cdc import visibility
from tap_postgres_cdc.captured import Captured
from tap_postgres_cdc.connection import Connector, one_row
from tap_postgres_cdc.copy_worker import RemoteCopier, WorkerError
from tap_postgres_cdc.copying import Copier, CopyJob
from tap_postgres_cdc.discovery import Part, Table
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.output import Output
from tap_postgres_cdc.positions import Snapshot, parse_lsn
from tap_postgres_cdc.progress import CopyProgress
from tap_postgres_cdc.records import snapshot_suffix
from tap_postgres_cdc.rows import Column, Losses

logger = logging.getLogger("tap-postgres-cdc")

# A range is finished, and can be kept in the state, about this often.
RANGE_SECONDS: Final = 2.0
FIRST_RANGE_BLOCKS: Final = 256
_LEAST_BLOCKS: Final = 64
_MOST_BLOCKS: Final = 1 << 17
# Below this, starting processes takes longer than copying.
_FEW_BLOCKS: Final = 2048


class TakenSnapshot(NamedTuple):
    """An exported snapshot.

    Attributes:
        id: For SET TRANSACTION SNAPSHOT.
        seen: What it sees.
        until: LSN before which all is that it sees.
        time: When it was taken.
    """

    id: str
    seen: Snapshot
    until: int
    time: datetime

    @classmethod
    def take(cls, connection: psycopg.Connection, patience: visibility.Patience) -> Self:
        """Start a transaction on the connection and export what it sees.

        Every transaction whose commit is in the log by now will be seen, and nothing is seen that
        a crash of the server could undo.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: A transaction took too long.
        """
        visibility.wait_for_running_transactions(connection, patience)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        exported, seen, at = one_row(
            connection,
            "SELECT pg_export_snapshot(), pg_current_snapshot()::text, clock_timestamp()",
        )
        # Asked afterwards: the end of the log as of the query above could be too early.
        (until,) = one_row(connection, "SELECT pg_current_wal_insert_lsn()::text")
        visibility.wait_until_durable(connection)
        return cls(exported, Snapshot.parse(seen), parse_lsn(until), at)


@dataclass
class _PartProgress:
    """Where a part is.

    Attributes:
        next_block: Where the next range starts; None once all were handed out.
        copied_to: First block that is not copied; None once all are.
        done: Ranges that are copied but have a gap before them, end by start.
    """

    part: Part
    next_block: int | None
    copied_to: int | None
    done: dict[int | None, int | None] = field(default_factory=dict)

    def finish(self, start: int, end: int | None) -> None:
        self.done[start] = end
        while self.copied_to in self.done:
            self.copied_to = self.done.pop(self.copied_to)


class _Range(NamedTuple):
    """Blocks of a part; the last range has no end."""

    captured: Captured
    parts: list[_PartProgress]
    part: _PartProgress
    start: int
    end: int | None


class SnapshotCopy:
    """Copies tables in ranges, several at a time, and keeps their bookmarks up to date."""

    def __init__(
        self,
        tables: Sequence[Captured],
        taken: TakenSnapshot,
        end_lsn: int,
        output: Output,
        *,
        write_state: Callable[[], None],
        losses: Losses,
        stop: threading.Event,
    ) -> None:
        """Prepare to copy.

        Args:
            tables: What to copy; bookmarks say from where.
            taken: The snapshot to read.
            end_lsn: End of the log when the run began.
            output: Takes the records.
            write_state: Called when a range is finished.
            losses: Counts the values that became null.
            stop: Set to end early, with the state of the ranges that are finished.
        """
        self._tables = tables
        self._taken = taken
        self._end_lsn = end_lsn
        self._output = output
        self._write_state = write_state
        self._losses = losses
        self._stop = stop
        self._failed = threading.Event()
        self._lock = threading.Lock()
        self._range_blocks = FIRST_RANGE_BLOCKS
        self._workers = 1
        self._progress = CopyProgress()
        self._given_up: list[Table] = []
        self._ranges = self._plan()

    def run(self, connection: psycopg.Connection, connector: Connector, workers: int) -> None:
        """Copy everything.

        Args:
            connection: In the transaction that took the snapshot.
            connector: For the connections of further processes.
            workers: How many ranges to copy at a time.

        Raises:
            Interrupted: `stop` was set.
            psycopg.Error: The server could not.
        """
        self._workers = workers
        blocks = sum(part.blocks for captured in self._tables for part in captured.table.parts)
        if workers == 1 or blocks < _FEW_BLOCKS:
            self._work(Copier(connection))
        else:
            self._work_together(connection, connector, workers)
        if self._stop.is_set():
            raise Interrupted

    def _work_together(
        self, connection: psycopg.Connection, connector: Connector, workers: int
    ) -> None:
        """Copy in this process and in others, so that Python has more than one core."""
        copiers = [
            RemoteCopier(connector.parameters, connector.descriptors, self._taken.id)
            for _ in range(workers - 1)
        ]
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._work, Copier(connection))]
            futures += [pool.submit(self._work, copier) for copier in copiers]
            try:
                for future in as_completed(futures):
                    future.result()
            except WorkerError as error:
                raise error.cause or psycopg.OperationalError(str(error)) from None
            finally:
                self._failed.set()
                for copier in copiers:
                    copier.close()

    def _work(self, copier: Copier | RemoteCopier) -> None:
        """Copy one range after another until none is left."""
        while task := self._next_range():
            started = time.monotonic()
            is_rewritten = False
            for batch in copier.copy(self._job(task)):
                is_rewritten = batch.is_rewritten
                if self._stop.is_set() or self._failed.is_set():
                    return
                with self._lock:
                    self._output.records(batch.lines)
                    self._progress.copied(task.captured.table, batch.rows)
            with self._lock:
                if is_rewritten:
                    self._give_up(task.captured.table)
                else:
                    self._finish(task, time.monotonic() - started)
        with self._lock:
            self._losses.update(copier.losses)

    def _next_range(self) -> _Range | None:
        with self._lock:
            return next(self._ranges, None)

    def _plan(self) -> Iterator[_Range]:
        for captured in self._tables:
            copied = captured.bookmark.next_blocks or {}
            blocks = [copied.get(part.oid, 0) for part in captured.table.parts]
            parts = [
                _PartProgress(part, block, block)
                for part, block in zip(captured.table.parts, blocks, strict=True)
            ]
            if all(part.next_block is None for part in parts):
                self._finish_table(captured)
            for part in parts:
                while (start := part.next_block) is not None:
                    # Towards the end of a part ranges get smaller, so that all end together.
                    share = (part.part.blocks - start) // (2 * self._workers)
                    end = start + min(self._range_blocks, max(share, _LEAST_BLOCKS))
                    part.next_block = end if end < part.part.blocks else None
                    yield _Range(captured, parts, part, start, part.next_block)

    def _job(self, task: _Range) -> CopyJob:
        captured, part = task.captured, task.part.part
        query = copy_query(captured.table, part, captured.columns, task.start, task.end)
        suffix = snapshot_suffix(self._end_lsn, self._taken.time, captured.bookmark.version)
        return CopyJob(
            captured.stream,
            query,
            captured.columns,
            suffix,
            part.oid,
            part.relfilenode,
            self._losses.fail,
        )

    def _finish(self, task: _Range, seconds: float) -> None:
        task.part.finish(task.start, task.end)
        blocks = cast("dict[int, int | None]", task.captured.bookmark.next_blocks)
        blocks[task.part.part.oid] = task.part.copied_to
        if all(part.copied_to is None for part in task.parts):
            self._finish_table(task.captured)
        elif task.end is not None:
            wanted = (task.end - task.start) * RANGE_SECONDS / max(seconds, 0.001)
            most = min(4 * self._range_blocks, _MOST_BLOCKS)
            self._range_blocks = int(min(max(wanted, _LEAST_BLOCKS), most))
        self._write_state()

    def _give_up(self, table: Table) -> None:
        """Leave a range undone, so that the next run finds the table rewritten and unfinished."""
        if table not in self._given_up:
            self._given_up.append(table)
            logger.warning(
                "Table %s was truncated or rewritten (ALTER TABLE) after the snapshot was taken, "
                "and its rows can't be seen in it: the next run copies the table",
                table.full_name,
            )

    def _finish_table(self, captured: Captured) -> None:
        captured.bookmark.next_blocks = None
        # Rows that an unfinished copy left behind and that are gone since have an older version.
        self._output.activate_version(captured.stream, captured.bookmark.version)
        self._progress.finished(captured.table)


def copy_query(
    table: Table, part: Part, columns: Sequence[Column], start: int, end: int | None
) -> str:
    """SQL that copies the blocks of a part from `start` up to, not including, `end`."""
    conditions: list[sql.Composable] = (
        [sql.SQL("({})").format(sql.SQL(table.filter))] if table.filter else []
    )
    if start:
        conditions.append(sql.SQL("ctid >= {}").format(f"({start},0)"))
    if end is not None:
        conditions.append(sql.SQL("ctid < {}").format(f"({end},0)"))
    query = sql.SQL("COPY (SELECT {} FROM ONLY {} WHERE {}) TO STDOUT").format(
        sql.SQL(", ").join(sql.Identifier(column.name) for column in columns),
        sql.Identifier(part.schema, part.name),
        sql.SQL(" AND ").join(conditions or [sql.SQL("true")]),
    )
    return query.as_string()
