"""Lines of the stream that wait for values which the log left out."""

from collections.abc import Sequence
from typing import NamedTuple

from tap_postgres_cdc.pgoutput import Missing, Values
from tap_postgres_cdc.relations import RelationRows
from tap_postgres_cdc.rereading import Rereader, Row, TableGoneError
from tap_postgres_cdc.rows import KeyLossError


class WaitingLine(NamedTuple):
    """A line that is empty until the values that are `Missing` were read.

    Attributes:
        line: Its place among the lines to write.
        xid: The transaction that changed the row.
    """

    line: int
    rows: RelationRows
    values: Values
    prefix: bytes
    number: int
    xid: int


def complete(lines: list[bytes], waiting: Sequence[WaitingLine], rereader: Rereader) -> None:
    """Fill in the lines that wait; those of rows that are gone by now stay empty.

    A table that can't be read by its name any more becomes stale.

    Raises:
        Interrupted: The run was asked to stop.
        psycopg.Error: The server could not.
    """
    by_rows: dict[RelationRows, list[WaitingLine]] = {}
    for one in waiting:
        by_rows.setdefault(one.rows, []).append(one)
    for rows, group in by_rows.items():
        missing = [
            i for i in rows.wanted if any(one.values[i] is Missing.UNCHANGED for one in group)
        ]
        try:
            found = rereader.read(
                rows.captured.table,
                [rows.columns[i].name for i in rows.key],
                [rows.columns[i].name for i in missing],
                [rows.key_of(one.values) for one in group],
                {one.xid for one in group},
            )
        except TableGoneError:
            rows.captured.leave_out()
            continue
        try:
            for one in group:
                if row := found.get(rows.key_of(one.values)):
                    lines[one.line] = _line(one, missing, row)
        except KeyLossError as error:
            rows.captured.leave_out(str(error))


def _line(one: WaitingLine, missing: Sequence[int], row: Row) -> bytes:
    rows, values = one.rows, one.values
    for i in missing:
        if values[i] is Missing.UNCHANGED:
            values[i] = row[rows.columns[i].name]
    return rows.functions.values(values, one.prefix, one.number, rows.suffix)
