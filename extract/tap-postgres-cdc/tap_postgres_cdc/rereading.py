"""Values that the log leaves out because an update did not change them: read from the table.

What is read is the value of now, which may be newer than the change; then the log holds a later
change with that value. A row that is gone by now is deleted, or gets another key, by a later one.
"""

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple, cast

import psycopg
from psycopg import pq, sql

from tap_postgres_cdc import visibility
from tap_postgres_cdc.discovery import Table
from tap_postgres_cdc.positions import parse_lsn
from tap_postgres_cdc.relations import Key
from tap_postgres_cdc.sessions import lock, one_row

# How the index of the key compares its columns. The operators are named with their schema, and both
# sides get the type that they are for, as whoever may create an operator in a schema of the search
# path, or one that suits a domain or varchar better, would have theirs run instead: see
# https://www.postgresql.org/docs/current/typeconv-oper.html. Those of polymorphic types (arrays,
# enums, ranges) take the column's own type, and a domain is compared as what it is based on. The
# -1 makes it char and bit of any length instead of one.
_OPERATORS: Final = """
WITH RECURSIVE base(attnum, oid) AS (
  SELECT attnum, atttypid FROM pg_attribute WHERE attrelid = %(table)s
  UNION ALL
  SELECT attnum, typbasetype FROM base JOIN pg_type t USING (oid) WHERE typtype = 'd'
)
SELECT a.attname, format('OPERATOR(%%I.%%s)', n.nspname, o.oprname),
  format_type(CASE WHEN y.typtype = 'p' THEN b.oid ELSE c.opcintype END, -1)
FROM pg_index i CROSS JOIN unnest(i.indkey, i.indclass) k(attnum, opclass)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN base b ON b.attnum = a.attnum
JOIN pg_type d ON d.oid = b.oid AND d.typtype <> 'd'
JOIN pg_opclass c ON c.oid = k.opclass JOIN pg_type y ON y.oid = c.opcintype
JOIN pg_amop p ON p.amopfamily = c.opcfamily AND p.amopstrategy = 3
  AND p.amoplefttype = c.opcintype AND p.amoprighttype = c.opcintype
JOIN pg_operator o ON o.oid = p.amopopr JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE i.indrelid = %(table)s
  AND CASE %(identity)s WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
"""
_IDENTITY: Final = "SELECT to_regclass(%s)::oid::bigint"
_COLUMNS: Final = (
    "SELECT attname FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
)
# What the server says of a table that is not there, or whose key has other types by now.
_GONE: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.CannotCoerce,
    psycopg.errors.DataError,
)

Row = dict[str, bytes | None]


class TableGoneError(Exception):
    """The table has another name or key by now, or is none any more."""


class _Comparison(NamedTuple):
    """How a key column is compared: operator with its schema, and the type of the value."""

    operator: sql.SQL
    type: sql.SQL


class Rereader:
    """Reads large values by key."""

    def __init__(self, connection: psycopg.Connection, patience: visibility.Patience) -> None:
        """Take a connection that is not in a transaction."""
        self._connection = connection
        self._patience = patience
        self._is_settled = True
        self._comparisons = cache(self._read_comparisons)

    def read(
        self,
        table: Table,
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Key],
        xids: set[int],
    ) -> dict[Key, Row]:
        """Read columns of the rows that still exist.

        Args:
            table: As discovered.
            key: Names of the key columns.
            columns: Names of what to read; one that was dropped since is null.
            rows: Keys as the server's text.
            xids: Transactions that have to be visible first, or their rows would seem gone.

        Raises:
            TableGoneError: It can't be read by that name and key any more.
            Interrupted: The run was asked to stop.
            CaptureError: The table was locked for too long.
            psycopg.Error: The server could not.
        """
        visibility.wait_until_visible(self._connection, xids, self._patience)

        def read() -> dict[Key, Row]:
            with self._connection.transaction():
                return self._read(table, key, columns, rows)

        try:
            return self._patience.unlocked(self._connection, read, f"table {table.full_name}")
        except _GONE:
            raise TableGoneError from None

    def settle(self) -> int:
        """Before a state that is past the changes: what was read must outlive a server's crash.

        Until then a crash is harmless, as the changes come again and are read again.

        Returns:
            LSN that nothing that was read is after, 0 if nothing was read.
        """
        if self._is_settled:
            return 0
        visibility.wait_until_durable(self._connection)
        self._is_settled = True
        (lsn,) = one_row(self._connection, "SELECT pg_current_wal_flush_lsn()::text")
        return parse_lsn(lsn)

    def _read(
        self, table: Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[Key]
    ) -> dict[Key, Row]:
        name = sql.Identifier(table.schema, table.name)
        lock(self._connection, name.as_string())
        found = self._connection.execute(_IDENTITY, [name.as_string()]).fetchone()
        existing = {column for (column,) in self._connection.execute(_COLUMNS, [table.oid])}
        if found != (table.oid,) or not existing.issuperset(key):
            raise TableGoneError
        present = [column for column in columns if column in existing]
        comparisons = self._comparisons(table.oid, table.identity)
        if not comparisons.keys() >= set(key):
            raise TableGoneError
        query = _query(name, [(column, comparisons[column]) for column in key], present, rows)
        cursor = self._connection.execute(query)
        result = cast("pq.abc.PGresult", cursor.pgresult)
        self._is_settled = False
        read = {}
        for i in range(result.ntuples):
            values = [result.get_value(i, j) for j in range(result.nfields)]
            row: Row = dict.fromkeys(columns)
            row.update(zip(present, values[len(key) :], strict=True))
            read[tuple(values[: len(key)])] = row
        return read

    def _read_comparisons(self, table: int, identity: str) -> dict[str, _Comparison]:
        parameters = {"table": table, "identity": identity}
        return {
            column: _Comparison(sql.SQL(operator), sql.SQL(kind))
            for column, operator, kind in self._connection.execute(_OPERATORS, parameters)
        }


def _query(
    table: sql.Identifier,
    key: Sequence[tuple[str, _Comparison]],
    columns: Sequence[str],
    rows: Sequence[Key],
) -> sql.Composed:
    """SQL that finds rows by key."""
    names = [f"k{i}" for i in range(len(key))]
    values = (
        sql.SQL("({})").format(
            sql.SQL(", ").join(
                sql.SQL("{}::{}").format(sql.Literal((value or b"").decode()), comparison.type)
                for value, (_, comparison) in zip(row, key, strict=True)
            )
        )
        for row in rows
    )
    conditions = (
        sql.SQL("t.{}::{} {} v.{}").format(
            sql.Identifier(column), comparison.type, comparison.operator, sql.Identifier(name)
        )
        for name, (column, comparison) in zip(names, key, strict=True)
    )
    wanted = [*(column for column, _ in key), *columns]
    return sql.SQL("SELECT {} FROM (VALUES {}) v ({}) JOIN {} t ON {}").format(
        sql.SQL(", ").join(sql.Identifier("t", column) for column in wanted),
        sql.SQL(", ").join(values),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        table,
        sql.SQL(" AND ").join(conditions),
    )
