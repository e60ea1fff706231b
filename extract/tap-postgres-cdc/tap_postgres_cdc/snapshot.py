"""The first copy of tables: which ranges there are, who copies them, and what is done when.

Ranges are read in an exported snapshot, so that several connections see the same. The connection
that exports it reads no table, and each range is a transaction of its own: tables are locked for
seconds. A snapshot keeps VACUUM from removing rows that died after it, so a long copy goes on in a
new one every now and then, as one that was interrupted does.
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
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.copy_worker import RemoteCopier, WorkerError
from tap_postgres_cdc.copying import Copier, CopyJob, Outcome
from tap_postgres_cdc.discovery import Part, Table
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.output import Output
from tap_postgres_cdc.positions import Snapshot, parse_lsn
from tap_postgres_cdc.progress import CopyProgress
from tap_postgres_cdc.records import snapshot_suffix
from tap_postgres_cdc.rows import Column, KeyLossError, Losses
from tap_postgres_cdc.sessions import one_row
from tap_postgres_cdc.settings import Settings
from tap_postgres_cdc.state import Handoff

logger = logging.getLogger("tap-postgres-cdc")

# A range is finished, and can be kept in the state, about this often.
RANGE_SECONDS: Final = 2.0
FIRST_RANGE_BLOCKS: Final = 256
_LEAST_BLOCKS: Final = 64
_MOST_BLOCKS: Final = 1 << 14
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
    def take(cls, connection: psycopg.Connection) -> Self:
        """Start a transaction on the connection and export what it sees.

        Nothing is seen that a crash of the server could undo. That every transaction whose commit
        is in the log will be seen takes `visibility.wait_for_running_transactions` before.
        """
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
        settings: Settings,
        write_state: Callable[[], None],
        seen: Callable[[int], None],
        losses: Losses,
        patience: visibility.Patience,
    ) -> None:
        """Prepare to copy.

        Args:
            tables: What to copy; bookmarks say from where.
            taken: The snapshot to read.
            end_lsn: End of the log when the run began.
            output: Takes the records.
            settings: How many at a time, how fast, how long in one snapshot.
            write_state: Called when a range is finished.
            seen: Called with the end of the log as of a new snapshot.
            losses: Counts the values that can't be written.
            patience: With who has locked a table, until the run is asked to stop.
        """
        self._tables = tables
        self._first = self._taken = taken
        self._end_lsn = end_lsn
        self._output = output
        self._settings = settings
        self._write_state = write_state
        self._seen = seen
        self._losses = losses
        self._patience = patience
        self._stop = patience.stop
        self._failed = threading.Event()
        self._lock = threading.Lock()
        self._range_blocks = FIRST_RANGE_BLOCKS
        self._workers = 1
        self._progress = CopyProgress()
        self._pace = _Pace(settings.max_rows_per_second, patience.stop)
        self._renew_at = self._due()
        self._is_renewal_due = False
        self._ranges = self._plan()

    def run(self, connection: psycopg.Connection, connector: Connector) -> None:
        """Copy everything; a table that changes meanwhile becomes stale, and the others go on.

        Args:
            connection: In the transaction that took the snapshot.
            connector: For the connections that copy.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: A table was locked for too long.
            psycopg.Error: The server could not.
        """
        self._exporter = connection
        blocks = sum(part.blocks for captured in self._tables for part in captured.table.parts)
        if blocks >= _FEW_BLOCKS:
            self._workers = self._settings.snapshot_workers
        copiers: list[Copier | RemoteCopier] = [Copier(connector.connect)]
        # In this process and in others, so that Python has more than one core.
        copiers += [
            RemoteCopier(connector.parameters, connector.descriptors)
            for _ in range(self._workers - 1)
        ]
        try:
            self._work_together(copiers)
            while self._is_renewal_due and not self._stop.is_set():
                self._renew(connection)
                self._work_together(copiers)
        except WorkerError as error:
            raise error.cause or psycopg.OperationalError(str(error)) from None
        finally:
            for copier in copiers:
                copier.close()
        if self._stop.is_set():
            raise Interrupted
        connection.execute("COMMIT")

    def _work_together(self, copiers: Sequence[Copier | RemoteCopier]) -> None:
        """Copy ranges until there are no more, or a new snapshot is due."""
        if len(copiers) == 1:
            self._work(copiers[0])
            return
        with ThreadPoolExecutor(len(copiers)) as pool:
            futures = [pool.submit(self._work, copier) for copier in copiers]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._failed.set()
                for copier in copiers[1:]:
                    copier.close()
                raise

    def _renew(self, connection: psycopg.Connection) -> None:
        """Go on in a new snapshot.

        Of a table that is begun the stream still skips only what its first one saw, so rows that
        are copied from now on get some older changes again, then the newer ones, and end right.
        """
        connection.execute("COMMIT")
        self._taken = TakenSnapshot.take(connection)
        self._seen(self._taken.until)
        self._renew_at = self._due()
        self._is_renewal_due = False

    def _due(self) -> float:
        return time.monotonic() + 60 * self._settings.snapshot_minutes

    def _work(self, copier: Copier | RemoteCopier) -> None:
        """Copy one range after another until none is left."""
        while task := self._next_range():
            started = time.monotonic()
            captured = task.captured
            try:
                outcome = self._copy(copier, task)
            except KeyLossError as error:
                with self._lock:
                    captured.leave_out(str(error))
                continue
            if outcome is None:
                return
            with self._lock:
                if outcome is Outcome.DONE and not captured.is_left_out:
                    self._finish(task, time.monotonic() - started)
                elif outcome is Outcome.CHANGED:
                    self._give_up(captured)
        with self._lock:
            self._losses.update(copier.losses)
            copier.losses.clear()

    def _copy(self, copier: Copier | RemoteCopier, task: _Range) -> Outcome | None:
        """Copy a range, once nobody has locked the table; None when the run is to end."""
        outcomes: list[Outcome | None] = []

        def is_done() -> bool:
            outcomes.append(self._copy_once(copier, task))
            return outcomes[-1] is not Outcome.LOCKED

        name = task.captured.table.full_name
        self._patience.wait(
            is_done, lambda: f"for a lock on table {name}{visibility.lock_holders(self._exporter)}"
        )
        return outcomes[-1]

    def _copy_once(self, copier: Copier | RemoteCopier, task: _Range) -> Outcome | None:
        outcome, rows, since = None, 0, time.monotonic()
        for batch in copier.copy(self._job(task)):
            if self._stop.is_set() or self._failed.is_set():
                return None
            outcome = batch.outcome
            rows += batch.rows
            with self._lock:
                if batch.rows and not task.captured.is_left_out:
                    self._output.records(batch.lines)
                    self._progress.copied(task.captured.table, batch.rows)
        self._pace.keep(rows, since)
        return outcome

    def _next_range(self) -> _Range | None:
        with self._lock:
            return None if self._is_renewal_due else next(self._ranges, None)

    def _plan(self) -> Iterator[_Range | None]:
        """All ranges; None where a new snapshot is due, which nobody goes beyond before it is."""
        for captured in self._tables:
            copied = captured.bookmark.next_blocks or {}
            blocks = [copied.get(part.oid, 0) for part in captured.table.parts]
            parts = [
                _PartProgress(part, block, block)
                for part, block in zip(captured.table.parts, blocks, strict=True)
            ]
            if all(part.next_block is None for part in parts):
                self._finish_table(captured)
            # Of one that an earlier run began rows can be loaded that its snapshot saw.
            handoff, is_begun = captured.bookmark.handoff, False
            is_new = handoff is not None and handoff.snapshot is self._first.seen
            for part in parts:
                while (start := part.next_block) is not None and not captured.is_left_out:
                    # Without a key, rows that moved between two snapshots would come twice.
                    if time.monotonic() >= self._renew_at and (captured.table.key or not is_begun):
                        self._is_renewal_due = True
                        yield None
                    if not is_begun and is_new:
                        # The stream has to skip what the snapshot saw in which it is begun.
                        captured.bookmark.handoff = Handoff(self._taken.seen, self._taken.until)
                    is_begun = True
                    # Towards the end of a part ranges get smaller, so that all end together.
                    share = (part.part.blocks - start) // (2 * self._workers)
                    end = start + min(self._range_blocks, max(share, _LEAST_BLOCKS))
                    part.next_block = end if end < part.part.blocks else None
                    yield _Range(captured, parts, part, start, part.next_block)

    def _job(self, task: _Range) -> CopyJob:
        captured, part = task.captured, task.part.part
        query = copy_query(captured.table, part, captured.columns, task.start, task.end)
        suffix = snapshot_suffix(self._end_lsn, self._taken.time, captured.bookmark.version)
        name = sql.Identifier(part.schema, part.name).as_string()
        wanted = (name, part.oid, part.relfilenode)
        return CopyJob(
            captured.stream,
            query,
            captured.columns,
            suffix,
            self._taken.id,
            wanted,
            self._losses.fail,
            self._losses.show,
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

    def _give_up(self, captured: Captured) -> None:
        """Copy no more of a table whose rows the snapshot does not see any more."""
        if not captured.is_left_out:
            captured.leave_out()
            logger.warning(
                "Table %s was truncated, altered or renamed while it was copied: it is copied "
                "again",
                captured.table.full_name,
            )

    def _finish_table(self, captured: Captured) -> None:
        captured.bookmark.next_blocks = None
        # Rows that an unfinished copy left behind and that are gone since have an older version.
        self._output.activate_version(captured.stream, captured.bookmark.version)
        self._progress.finished(captured.table)


class _Pace:
    """Keeps copying to a number of rows per second, between ranges, when no table is locked."""

    def __init__(self, rows_per_second: int | None, stop: threading.Event) -> None:
        self._rate = rows_per_second
        self._stop = stop
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def keep(self, rows: int, since: float) -> None:
        """Wait until as many rows may have been copied since then."""
        if self._rate:
            with self._lock:
                self._free_at = max(self._free_at, since) + rows / self._rate
                seconds = self._free_at - time.monotonic()
            self._stop.wait(max(seconds, 0))


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
