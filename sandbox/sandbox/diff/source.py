"""Reading the source: what a publication holds, and the rows of a table in the order of its key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import psycopg
from psycopg import sql
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
  c.reltuples AS estimate,
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
        estimate: Rows as the server last counted them, -1 if it never did.
        key: Columns of its replica identity index or primary key, empty if it has neither.
        columns: Published columns.
    """

    schema: str
    name: str
    filter: str | None
    estimate: float
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


def rows(
    connection: psycopg.Connection,
    table: SourceTable,
    columns: Sequence[str],
    text_keys: Sequence[str],
    at_a_time: int,
) -> Iterator[list[Row]]:
    """Give the rows of a table in the order of its key, some at a time, as text.

    Args:
        connection: In a transaction.
        table: The table.
        columns: Which of its columns, in the order wanted.
        text_keys: Columns of the key that are ordered by the bytes of their text.
        at_a_time: How many rows a list has, the last one fewer.
    """
    selected = sql.SQL(", ").join(
        sql.SQL("to_jsonb({})::text" if table.columns[name].is_array else "{}").format(
            sql.Identifier(name)
        )
        for name in columns
    )
    # Unlike a cast, concat() keeps the blanks of char(n); the collation C orders by bytes.
    order = sql.SQL(", ").join(
        sql.SQL("""concat({}, '') COLLATE "C\"""" if name in text_keys else "{}").format(
            sql.Identifier(name)
        )
        for name in table.key
    )
    connection.execute(
        sql.SQL("DECLARE diff NO SCROLL CURSOR FOR SELECT {} FROM {} ORDER BY {}").format(
            selected, _filtered(table), order
        )
    )
    while True:
        result = connection.execute(f"FETCH {at_a_time:d} FROM diff").pgresult
        assert result is not None
        found = [
            [_text(result.get_value(i, j)) for j in range(result.nfields)]
            for i in range(result.ntuples)
        ]
        if found:
            yield found
        if len(found) < at_a_time:
            connection.execute("CLOSE diff")
            return


def _filtered(table: SourceTable) -> sql.Composed:
    path = sql.Identifier(table.schema, table.name)
    if table.filter is None:
        return sql.Composed([path])
    # The filter is SQL that the server itself has written out.
    return sql.Composed([path, sql.SQL(f" WHERE {table.filter}")])  # type: ignore[arg-type,unused-ignore]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
