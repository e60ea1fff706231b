"""The tables and changes that sources of PostgreSQL are measured with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.postgres import Postgres

COLUMNS = """(
  id bigint PRIMARY KEY, name text NOT NULL, email text, amount numeric(12, 2), active boolean,
  created timestamptz, updated timestamp, doc jsonb, score double precision, note text
)"""
VALUES = """
  SELECT i, 'name ' || i, 'user' || i || '@example.org', i * 1.25, i % 2 = 0,
    timestamptz '2020-01-01' + i * interval '1 second',
    timestamp '2020-01-01' + i * interval '1 millisecond',
    jsonb_build_object('a', i, 'b', 'x' || i), i * 0.1,
    CASE WHEN i % 3 > 0 THEN repeat('n', 20) END
  FROM generate_series({}, {}) i
"""
SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h"}


def make_table(server: Postgres, name: str, rows: int) -> None:
    """Make a table of ten columns, and a publication of the same name for it."""
    with server.connect() as connection:
        connection.execute(f"CREATE TABLE {name} {COLUMNS}")
        connection.execute(f"CREATE PUBLICATION {name} FOR TABLE {name}")
        connection.execute(f"INSERT INTO {name}" + VALUES.format(1, rows))
        connection.execute(f"VACUUM ANALYZE {name}")


def make_slot(server: Postgres, name: str) -> None:
    """Make a slot from here on."""
    with server.connect() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])


def change(server: Postgres, table: str, count: int) -> str:
    """Commit changes, a thousand at a time; gives the end of the log."""
    inserts, others = count * 3 // 5, count // 5
    with server.connect() as connection:
        for start in range(1, inserts, 1000):
            connection.execute(f"INSERT INTO {table}" + VALUES.format(start, start + 999))
        for start in range(1, others, 1000):
            where = f"id BETWEEN {start} AND {start + 999}"
            connection.execute(f"UPDATE {table} SET name = 'new', score = 1 WHERE {where}")
        for start in range(others + 1, 2 * others, 1000):
            where = f"id BETWEEN {start} AND {start + 999}"
            connection.execute(f"DELETE FROM {table} WHERE {where}")
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row
    return str(row[0])
