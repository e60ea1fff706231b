"""Rows of a source as the tap's records have them, for comparing them with the model."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import sql

# Of a type that is a domain, what counts is the type below it.
_PUBLISHED: Final = """
SELECT p.schemaname, p.tablename, p.rowfilter, c.relkind = 'p', (
  SELECT coalesce(jsonb_agg(jsonb_build_array(a.attname, CASE
      WHEN b.typname = 'numeric' OR b.typtype = 'c' THEN '{}::text'
      WHEN b.typcategory IN ('N', 'B') THEN '{}'
      WHEN b.typcategory = 'D' OR b.typname = 'jsonb' THEN 'to_jsonb({})'
      WHEN b.typcategory = 'A' AND e.typcategory = 'N' THEN 'to_jsonb({})'
      WHEN b.typcategory = 'A' THEN 'to_jsonb({}::text[])'
      -- A cast is not always what the type's output function gives: inet, char(n).
      ELSE 'to_jsonb({}) #>> ''{{}}'''
    END) ORDER BY a.attnum), '[]')
  FROM pg_attribute a
  JOIN pg_type t ON t.oid = a.atttypid
  JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
  LEFT JOIN pg_type e ON e.oid = b.typelem
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY (p.attnames)
    -- Before 18 the view lists generated columns, but they are never published.
    AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
)
FROM pg_publication_tables p
JOIN pg_namespace n ON n.nspname = p.schemaname
JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename
WHERE p.pubname = %s
ORDER BY p.schemaname, p.tablename
"""

Row = dict[str, Any]


class Published(NamedTuple):
    """A published table: its columns, and the rows that are published of it."""

    schema: str
    name: str
    columns: tuple[str, ...]
    rows: list[Row]


def published(
    connection: psycopg.Connection, publication: str = "oso_publication"
) -> Iterator[Published]:
    """Read all rows of all tables of a publication; values are those of the records' JSON."""
    connection.execute("SET timezone = 'UTC'")
    for schema, name, where, is_partitioned, columns in connection.execute(
        _PUBLISHED, [publication]
    ).fetchall():
        names = tuple(name for name, _ in columns)
        values = sql.SQL(", ").join(
            sql.SQL(value).format(sql.Identifier(name)) for name, value in columns
        )
        query = sql.SQL("SELECT {} FROM {} {} WHERE {}").format(
            values,
            # Rows of children that inherit are their own, those of partitions the root's.
            sql.SQL("" if is_partitioned else "ONLY"),
            sql.Identifier(schema, name),
            sql.SQL(where or "true"),
        )
        found = connection.execute(query).fetchall()
        yield Published(schema, name, names, [dict(zip(names, row, strict=True)) for row in found])
