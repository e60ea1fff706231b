"""The stream: changes from the log become RECORD lines, transaction by transaction.

Only whole transactions move the state, so a run that ends in the middle of one reads it again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Final

from tap_postgres_cdc import pgoutput
from tap_postgres_cdc.captured import Captured
from tap_postgres_cdc.discovery import TableColumn
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.output import Output
from tap_postgres_cdc.pgoutput import (
    HEADER,
    PADDING,
    TUPLE,
    Missing,
    Relation,
    RelationColumn,
    Values,
)
from tap_postgres_cdc.positions import server_time
from tap_postgres_cdc.records import change_prefix, property_schema, record_schema
from tap_postgres_cdc.relations import IGNORED, IgnoredRows, RelationRows
from tap_postgres_cdc.replication import ReplicationStream
from tap_postgres_cdc.rereading import Rereader
from tap_postgres_cdc.rows import Column, KeyLossError, Losses
from tap_postgres_cdc.typecatalog import TypeCatalog
from tap_postgres_cdc.waiting import WaitingLine, complete

logger = logging.getLogger("tap-postgres-cdc")

# Lines are written when they are this many bytes, or when the server has nothing more for a while.
_FLUSH_BYTES: Final = 1 << 18
_IDLE_SECONDS: Final = 0.2
_SUFFIX_SECONDS: Final = 1.0
# Lines that wait for values from the table are completed this many at a time.
_MOST_WAITING: Final = 64

_MESSAGE, _KEEPALIVE = ord("w"), ord("k")
_BEGIN, _COMMIT, _RELATION, _TRUNCATE = ord("B"), ord("C"), ord("R"), ord("T")
_INSERT, _UPDATE, _DELETE = ord("I"), ord("U"), ord("D")
_NEW_TUPLE, _FULL_OLD_TUPLE = ord("N"), ord("O")
_OID: Final = Struct(">I")


class Follower:
    """Reads the log up to where it ended when the run began."""

    def __init__(
        self,
        log: ReplicationStream,
        tables: Iterable[Captured],
        end_lsn: int,
        *,
        output: Output,
        types: TypeCatalog,
        rereader: Rereader,
        losses: Losses,
        advance: Callable[[int, int], None],
        stop: threading.Event,
    ) -> None:
        """Prepare to read.

        Args:
            log: Where messages come from.
            tables: Those whose changes are wanted.
            end_lsn: Transactions that commit at or after it are left to the next run.
            output: Takes the messages.
            types: Datatypes of columns.
            rereader: Reads values that the log leaves out.
            losses: Counts the values that became null.
            advance: Called with the LSN before which everything was written, and the number of
                changes since the last call.
            stop: Set to end early.
        """
        self._log = log
        self._tables = {captured.table.oid: captured for captured in tables}
        self._handoffs = [table for table in self._tables.values() if table.bookmark.handoff]
        self._end_lsn = end_lsn
        self._output = output
        self._types = types
        self._rereader = rereader
        self._losses = losses
        self._advance = advance
        self._stop = stop
        self._relations: dict[bytes, Relation] = {}
        self._prepared: dict[bytes, RelationRows | IgnoredRows] = {}
        # What rows of the current transaction are decoded with.
        self._active = self._prepared
        self._lines: list[bytes] = []
        self._waiting: list[WaitingLine] = []
        self._truncated: list[Captured] = []
        self._in_transaction = False
        self._begin = pgoutput.Begin(0, 0, 0)
        self._prefix = self._delete_prefix = b""
        self._renewed_at = time.monotonic()

    def run(self) -> None:  # noqa: C901, PLR0912, PLR0915 - a branch per message, for speed
        """Read until the end.

        Raises:
            Interrupted: `stop` was set; all that was advanced to is written.
            CaptureError, psycopg.Error: Something went wrong.
        """
        get, join, lines = self._log.get, b"".join, self._lines
        number = size = 0
        while True:
            length, chunk = get(1)
            if length <= 0:
                self._wait(length)
                continue
            # One copy makes bytes of libpq's buffer and room for reading past a last null.
            data = join((chunk, PADDING))
            if data[0] != _MESSAGE:
                if data[0] == _KEEPALIVE and self._keepalive(data):
                    return
                continue
            kind = data[HEADER]
            try:
                if kind == _INSERT or (kind == _UPDATE and data[TUPLE - 1] == _NEW_TUPLE):
                    oid = data[HEADER + 1 : HEADER + 5]
                    rows = self._active.get(oid) or self._prepare(oid)
                    line = rows.row(data, self._prefix, number, rows.suffix)
                    if line is None:
                        self._complete(rows, pgoutput.parse_tuple(data, TUPLE)[0], number)
                        size += _FLUSH_BYTES // _MOST_WAITING
                    else:
                        lines.append(line)
                        size += len(line)
                    number += 1
                elif kind == _DELETE:
                    oid = data[HEADER + 1 : HEADER + 5]
                    rows = self._active.get(oid) or self._prepare(oid)
                    line = rows.key_row(data, self._delete_prefix, number, rows.suffix)
                    lines.append(line or b"")
                    size += len(line or b"")
                    number += 1
                elif kind == _UPDATE:
                    size += self._update(data, number)
                    number += 2
                elif kind == _BEGIN:
                    if self._start_transaction(data):
                        return
                    number = 0
                elif kind == _COMMIT:
                    self._end_transaction(data, number)
                elif kind == _RELATION:
                    self._relate(pgoutput.parse_relation(data))
                elif kind == _TRUNCATE:
                    self._truncate(data)
                else:
                    pgoutput.check_known(kind)
            except KeyLossError as error:
                # The message is read; without it none that follows for the table is of use.
                self._leave_out(error)
            if size >= _FLUSH_BYTES:
                self._flush()
                size = 0

    def flush(self) -> None:
        """Write the lines that wait to be written."""
        if self._waiting:
            with self._log.paused():
                complete(self._lines, self._waiting, self._rereader)
            for waiting in self._waiting:
                if waiting.rows.captured.is_left_out:
                    self._ignore(waiting.rows.captured)
            self._waiting.clear()
        if self._lines:
            lines = b"".join(self._lines)
            self._lines.clear()
            with self._log.paused():
                self._output.records(lines)
        now = time.monotonic()
        if now - self._renewed_at >= _SUFFIX_SECONDS:
            self._renewed_at = now
            for rows in self._prepared.values():
                if isinstance(rows, RelationRows):
                    rows.renew_suffix()

    def _flush(self) -> None:
        self.flush()
        self._log.tell_status_if_due()
        if self._stop.is_set():
            raise Interrupted

    def _wait(self, length: int) -> None:
        if length < 0:
            self._log.finish()
        if not self._log.wait(_IDLE_SECONDS):
            self._flush()

    def _keepalive(self, data: bytes) -> bool:
        """Whether the keepalive says that the end is reached."""
        lsn = self._log.keepalive(data)
        if self._in_transaction:
            return False
        self._reach(min(lsn, self._end_lsn), 0)
        return lsn >= self._end_lsn

    def _start_transaction(self, data: bytes) -> bool:
        """Whether the transaction is beyond the end."""
        begin = self._begin = pgoutput.parse_begin(data)
        if begin.commit_lsn >= self._end_lsn:
            self._reach(self._end_lsn, 0)
            return True
        self._in_transaction = True
        commit_time = server_time(begin.commit_time)
        self._prefix = change_prefix(begin.commit_lsn, commit_time, is_delete=False)
        self._delete_prefix = change_prefix(begin.commit_lsn, commit_time, is_delete=True)
        self._active = self._prepared
        if self._handoffs:
            self._active = {
                oid: rows
                for oid, rows in self._prepared.items()
                if isinstance(rows, IgnoredRows) or not self._is_copied(rows.captured)
            }
        return False

    def _end_transaction(self, data: bytes, changes: int) -> None:
        self._in_transaction = False
        for captured in self._truncated:
            captured.bookmark.version = captured.version
        self._truncated.clear()
        self._reach(pgoutput.parse_commit(data), changes)

    def _reach(self, lsn: int, changes: int) -> None:
        for captured in self._handoffs:
            if captured.bookmark.handoff and captured.bookmark.handoff.until <= lsn:
                captured.bookmark.handoff = None
        self._handoffs = [table for table in self._handoffs if table.bookmark.handoff]
        self._advance(lsn, changes)
        if self._stop.is_set():
            raise Interrupted

    def _is_copied(self, captured: Captured) -> bool:
        """Whether the snapshot of the table held the current transaction."""
        handoff = captured.bookmark.handoff
        return handoff is not None and handoff.snapshot.sees(self._begin.xid)

    def _relate(self, relation: Relation) -> None:
        oid = _OID.pack(relation.oid)
        if self._relations.get(oid) == relation:
            return  # it comes again after every ANALYZE
        self._relations[oid] = relation
        # Prepared anew, and announced, only if a row of it is wanted.
        self._prepared.pop(oid, None)
        self._active.pop(oid, None)

    def _prepare(self, oid: bytes) -> RelationRows | IgnoredRows:
        captured = self._tables.get(_OID.unpack(oid)[0])
        if captured is None or captured.is_left_out:
            self._prepared[oid] = self._active[oid] = IGNORED
            return IGNORED
        if self._is_copied(captured):
            self._active[oid] = IGNORED
            return IGNORED
        relation = self._relations[oid]
        self._types.load(column.type_oid for column in relation.columns)
        self._types.load(column.type_oid for column in captured.table.columns)
        if what := _other(captured, relation, self._types):
            logger.warning(
                "The %s of table %s was another one when rows of it were written: it is copied "
                "again",
                what,
                captured.table.full_name,
            )
            captured.leave_out()
            return self._prepare(oid)
        then = [captured.column(column, self._types) for column in relation.columns]
        self._announce(captured, then)
        rows = RelationRows(captured, then, self._losses)
        self._prepared[oid] = self._active[oid] = rows
        return rows

    def _ignore(self, captured: Captured) -> None:
        """Leave out what the rest of the log has of a table."""
        oid = _OID.pack(captured.table.oid)
        self._prepared[oid] = self._active[oid] = IGNORED

    def _leave_out(self, error: KeyLossError) -> None:
        for captured in self._tables.values():
            if captured.stream == error.stream:
                captured.leave_out(str(error))
                self._ignore(captured)

    def _announce(self, captured: Captured, columns: Iterable[Column]) -> None:
        """Write a SCHEMA if there was none, or if the relation has what the last one did not."""
        is_first = not captured.schema
        if is_first:
            captured.schema = record_schema(captured.columns)
        known = captured.schema["properties"]
        news = {
            column.name: schema
            for column in columns
            if column.selected
            and known.get(column.name)
            != (schema := property_schema(column.datatype, is_key=column.is_key))
        }
        if news or is_first:
            captured.schema = {**captured.schema, "properties": {**known, **news}}
            self.flush()
            self._output.schema(captured.stream, captured.schema, captured.table.key)

    def _update(self, data: bytes, number: int) -> int:
        """Handle an Update with an old tuple; gives about how many bytes it adds."""
        oid = data[HEADER + 1 : HEADER + 5]
        rows = self._active.get(oid) or self._prepare(oid)
        if isinstance(rows, IgnoredRows):
            return 0
        old, at = pgoutput.parse_tuple(data, TUPLE)
        new, _ = pgoutput.parse_tuple(data, at + 1)
        in_old = range(len(old)) if data[TUPLE - 1] == _FULL_OLD_TUPLE else rows.key
        for i in in_old:
            if new[i] is Missing.UNCHANGED:
                new[i] = old[i]
        if rows.key_of(old) != rows.key_of(new):
            values = rows.functions.key_values
            self._lines.append(values(old, self._delete_prefix, number, rows.suffix))
        self._complete(rows, new, number + 1)
        return len(data)

    def _complete(self, rows: RelationRows | IgnoredRows, values: Values, number: int) -> None:
        """Add the line of a row, now or once its missing values were read."""
        if isinstance(rows, IgnoredRows):
            return
        if any(values[i] is Missing.UNCHANGED for i in rows.wanted):
            # A key that can't be written can't be asked for either.
            rows.functions.key_values(values, self._prefix, number, rows.suffix)
            line = len(self._lines)
            waiting = WaitingLine(line, rows, values, self._prefix, number, self._begin.xid)
            self._waiting.append(waiting)
            self._lines.append(b"")
        else:
            self._lines.append(rows.functions.values(values, self._prefix, number, rows.suffix))

    def _truncate(self, data: bytes) -> None:
        milliseconds = round(server_time(self._begin.commit_time).timestamp() * 1000)
        for number in pgoutput.parse_truncate(data):
            oid = _OID.pack(number)
            rows = self._active.get(oid) or self._prepare(oid)
            if isinstance(rows, RelationRows):
                self.flush()
                captured = rows.captured
                captured.truncated_by.add(self._begin.xid)
                captured.version = max(captured.version + 1, milliseconds)
                rows.renew_suffix()
                self._output.activate_version(captured.stream, captured.version)
                self._truncated.append(captured)


def _other(captured: Captured, relation: Relation, types: TypeCatalog) -> str:
    """What was not as the run found it when rows of a relation were written, empty if all was.

    A column that is new by now, or gone, is no harm. One that has both was renamed.
    """
    then = {column.name: column for column in relation.columns}
    identity = {column.name for column in relation.columns if column.in_identity}
    key = {*captured.table.key}
    if not key <= then.keys() or (relation.identity in "di" and key and identity != key):
        return "key"
    names = {column.name for column in captured.table.columns}
    for column in captured.known_columns:
        if column.name not in then and not then.keys() <= names:
            return f"name of column {column.name}"
        if column.name in then and _form(types, then[column.name]) != _form(types, column):
            return f"type of column {column.name}"
    return ""


def _form(types: TypeCatalog, column: RelationColumn | TableColumn) -> str:
    return types.form(column.type_oid, types.newest_label(column.type_oid))
