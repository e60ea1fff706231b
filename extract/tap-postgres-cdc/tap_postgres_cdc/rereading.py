"""Values that the log leaves out because an update did not change them: read from the table.

What is read is the value of now, which may be newer than the change; then the log holds a later
change with that value. A row that is gone by now is deleted, or gets another key, by a later one.
"""

from collections.abc import Sequence
from typing import Final, cast

import psycopg
from psycopg import pq, sql

from tap_postgres_cdc import visibility
from tap_postgres_cdc.relations import Key

# Keys of types that an extension brought are compared by operators that live beside them; with
# others the index of the key would be of no use.
_SET_SEARCH_PATH: Final = """
SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', (
  SELECT string_agg(DISTINCT quote_ident(nspname), ', ')
  FROM pg_opclass JOIN pg_namespace n ON n.oid = opcnamespace WHERE nspname <> 'pg_catalog'
)), false)
"""

Row = dict[str, bytes | None]


class Rereader:
    """Reads large values by key."""

    def __init__(self, connection: psycopg.Connection, patience: visibility.Patience) -> None:
        """Take a connection that is not in a transaction."""
        self._connection = connection
        self._patience = patience
        self._is_settled = True
        connection.execute(_SET_SEARCH_PATH)

    def read(
        self,
        table: tuple[str, str],
        key: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Key],
        xids: set[int],
    ) -> dict[Key, Row]:
        """Read columns of the rows that still exist.

        Args:
            table: Schema and name.
            key: Names of the key columns.
            columns: Names of what to read; one that was dropped since is null.
            rows: Keys as the server's text.
            xids: Transactions that have to be visible first, or their rows would seem gone.

        Raises:
            Interrupted: The run was asked to stop.
            psycopg.Error: The server could not.
        """
        visibility.wait_until_visible(self._connection, xids, self._patience)
        existing = self._existing(table)
        if not existing.issuperset(key):
            return {}
        present = [column for column in columns if column in existing]
        cursor = self._connection.execute(_query(table, key, present, rows))
        result = cast("pq.abc.PGresult", cursor.pgresult)
        self._is_settled = False
        found = {}
        for i in range(result.ntuples):
            values = [result.get_value(i, j) for j in range(result.nfields)]
            row: Row = dict.fromkeys(columns)
            row.update(zip(present, values[len(key) :], strict=True))
            found[tuple(values[: len(key)])] = row
        return found

    def settle(self) -> None:
        """Before a state that is past the changes: what was read must outlive a server's crash.

        Until then a crash is harmless, as the changes come again and are read again.
        """
        if not self._is_settled:
            visibility.wait_until_durable(self._connection)
            self._is_settled = True

    def _existing(self, table: tuple[str, str]) -> set[str]:
        query = (
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s)"
            " AND attnum > 0 AND NOT attisdropped"
        )
        name = sql.Identifier(*table).as_string()
        return {column for (column,) in self._connection.execute(query, [name])}


def _query(
    table: tuple[str, str], key: Sequence[str], columns: Sequence[str], rows: Sequence[Key]
) -> sql.Composed:
    """SQL that finds rows by key; literals without a type take that of the column."""
    names = sql.SQL(", ").join(map(sql.Identifier, key))
    keys = (sql.SQL(", ").join(sql.Literal((v or b"").decode()) for v in row) for row in rows)
    return sql.SQL("SELECT {} FROM {} WHERE ({}) IN ({})").format(
        sql.SQL(", ").join(map(sql.Identifier, (*key, *columns))),
        sql.Identifier(*table),
        names,
        sql.SQL(", ").join(sql.SQL("({})").format(row) for row in keys),
    )
