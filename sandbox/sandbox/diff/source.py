"""Reading the source: what a publication holds, and the rows of a table in the order of its key."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import psycopg
from psycopg import sql
from psycopg.pq.abc import PGresult
from psycopg.rows import dict_row

from sandbox.diff.values import Kind

# Values are compared by their text, so the session must write it as the tap's does.
_SESSION: Final = {
    "bytea_output": "hex",
    "DateStyle": "ISO",
    "extra_float_digits": "1",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
}

_TABLES: Final = """
SELECT p.schemaname AS schema, p.tablename AS name, p.rowfilter AS filter,
  c.relkind = 'p' AS is_partitioned,
  (
    SELECT jsonb_agg(a.attname ORDER BY k.position)
    FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, position), pg_attribute a
    WHERE i.indrelid = c.oid AND k.position <= i.indnkeyatts
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END
      AND a.attrelid = c.oid AND a.attnum = k.attnum
  ) AS key,
  (
    WITH RECURSIVE resolved(attnum, attname, type, is_array) AS (
      SELECT attnum, attname, atttypid, false FROM pg_attribute a
      WHERE a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attname = ANY (p.attnames)
        AND (attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
      UNION ALL
      SELECT attnum, attname, CASE typtype WHEN 'd' THEN typbasetype ELSE typelem END,
        is_array OR typtype <> 'd'
      FROM resolved JOIN pg_type t ON t.oid = type
      WHERE typtype = 'd' OR typinput = 'array_in'::regproc
    )
    SELECT jsonb_agg(jsonb_build_array(attname, is_array,
      CASE WHEN typnamespace = 'pg_catalog'::regnamespace THEN typname ELSE 'text' END)
      ORDER BY attnum)
    FROM resolved JOIN pg_type t ON t.oid = type
    WHERE typtype <> 'd' AND typinput <> 'array_in'::regproc
  ) AS columns
FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = %s
ORDER BY p.schemaname, p.tablename
"""

Row = list[str | None]


class SourceTable(NamedTuple):
    """A published table.

    Attributes:
        filter: SQL of the publication's row filter.
        is_partitioned: Whether its rows are in partitions.
        key: Columns of its replica identity index or primary key, empty if it has neither.
        columns: Published columns.
    """

    schema: str
    name: str
    filter: str | None
    is_partitioned: bool
    key: tuple[str, ...]
    columns: dict[str, Kind]


def published_tables(connection: psycopg.Connection, publication: str) -> list[SourceTable]:
    """Return the tables of a publication; none if it does not exist."""
    rows = connection.cursor(row_factory=dict_row).execute(_TABLES, [publication]).fetchall()
    tables = []
    for row in rows:
        columns = {name: Kind(kind, is_array) for name, is_array, kind in row.pop("columns") or ()}
        key = tuple(row.pop("key") or ())
        tables.append(
            SourceTable(key=key if columns.keys() >= {*key} else (), columns=columns, **row)
        )
    return tables


@contextmanager
def snapshot(connection: psycopg.Connection) -> Iterator[None]:
    """Everything read in this context is of one moment.

    Raises:
        psycopg.ProgrammingError: The connection is in a transaction.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        for name, value in _SESSION.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        yield


def count(connection: psycopg.Connection, table: SourceTable) -> int:
    """Count the rows of a table."""
    query = sql.SQL("SELECT count(*) FROM {}").format(_filtered(table))
    row = connection.execute(query).fetchone()
    assert row is not None
    return int(row[0])


class Cursor:
    """The rows of a query as text, read forward in a transaction that is open already."""

    _numbers = itertools.count()

    def __init__(self, connection: psycopg.Connection, query: sql.Composed) -> None:
        """Begin before the first row."""
        self.position = 0
        self._connection = connection
        self._name = f"diff_{next(self._numbers)}"
        self._run(sql.SQL("DECLARE {} NO SCROLL CURSOR FOR {}").format(self._identifier, query))

    def skip_to(self, position: int) -> None:
        """Go on with this row, counted from 0, without sending those before it."""
        if position > self.position:
            self._run(sql.SQL("MOVE {} IN {}").format(position - self.position, self._identifier))
            self.position = position

    def fetch(self, rows: int) -> list[Row]:
        """Return the next rows, fewer at the end."""
        found = self._run(sql.SQL("FETCH {} FROM {}").format(rows, self._identifier))
        self.position += found.ntuples
        return [
            [_text(found.get_value(i, j)) for j in range(found.nfields)]
            for i in range(found.ntuples)
        ]

    def close(self) -> None:
        """Let the server forget the query."""
        self._run(sql.SQL("CLOSE {}").format(self._identifier))

    @property
    def _identifier(self) -> sql.Identifier:
        return sql.Identifier(self._name)

    def _run(self, statement: sql.Composed) -> PGresult:
        result = self._connection.execute(statement).pgresult
        assert result is not None
        return result


def rows(
    connection: psycopg.Connection,
    table: SourceTable,
    columns: Sequence[str],
    text_keys: Sequence[str],
) -> Cursor:
    """Read columns of a table in the order of its key.

    Args:
        connection: In a transaction.
        table: The table.
        columns: Which of its columns, in the order wanted.
        text_keys: Columns of the key that are ordered by the bytes of their text.
    """
    selected = sql.SQL(", ").join(
        sql.SQL("to_jsonb({})::text" if table.columns[name].is_array else "{}").format(
            sql.Identifier(name)
        )
        for name in columns
    )
    query = sql.SQL("SELECT {} FROM {} ORDER BY {}")
    return Cursor(connection, query.format(selected, _filtered(table), _order(table, text_keys)))


def checksums(
    connection: psycopg.Connection,
    table: SourceTable,
    text_keys: Sequence[str],
    hashes: Sequence[str],
) -> Cursor:
    """Read the key of each row, and of each hash its sum over this row and those before.

    Args:
        connection: In a transaction.
        table: The table.
        text_keys: Columns of the key that are ordered by the bytes of their text.
        hashes: SQL of whole numbers.
    """
    key = [sql.Identifier(name) for name in table.key]
    # Names of columns are quoted in it.
    sums = [sql.SQL(f"sum({hash_}) OVER upto") for hash_ in hashes]  # type: ignore[arg-type,unused-ignore]
    order = _order(table, text_keys)
    query = sql.SQL(
        "SELECT {} FROM {} WINDOW upto AS (ORDER BY {} ROWS UNBOUNDED PRECEDING) ORDER BY {}"
    )
    selected = sql.SQL(", ").join([*key, *sums])
    return Cursor(connection, query.format(selected, _filtered(table), order, order))


def _order(table: SourceTable, text_keys: Sequence[str]) -> sql.Composed:
    # Unlike a cast, concat() keeps the blanks of char(n); the collation C orders by bytes.
    return sql.SQL(", ").join(
        sql.SQL("""concat({}, '') COLLATE "C\"""" if name in text_keys else "{}").format(
            sql.Identifier(name)
        )
        for name in table.key
    )


def _filtered(table: SourceTable) -> sql.Composed:
    path = sql.Identifier(table.schema, table.name)
    if table.filter is None:
        return sql.Composed([path])
    # The filter is SQL that the server itself has written out.
    return sql.Composed([path, sql.SQL(f" WHERE {table.filter}")])  # type: ignore[arg-type,unused-ignore]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
