"""Sessions: what surrounds a run changes nothing of what it reads, and every wait ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Source


@pytest.fixture
def table(source: Source) -> Source:
    """A table that is large enough for several processes, with types whose text varies."""
    source.options["snapshot_workers"] = 2
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, z timestamptz, d date, m money, t text, i interval,"
        " padding text)",
        "INSERT INTO t SELECT i, '2024-01-02 03:04:05.6+07', '2024-02-01', 12.34::numeric, 'é',"
        " '1 day', repeat('x', 1000) FROM generate_series(1, 20000) i",
    )
    source.publish()
    return source


def read(source: Source) -> set[tuple[object, ...]]:
    """What is distinct of a first copy and of the same row in the stream, without state."""
    copied = source.run(state=None)
    source.sql("INSERT INTO t SELECT id + 20000, z, d, m, t, i FROM t WHERE id = 1")
    streamed = source.run()
    source.sql("DELETE FROM t WHERE id > 20000")
    records = copied.records("t") + streamed.records("t")
    assert len(records) == 20001
    return {tuple(record[name] for name in "zdmti") for record in records}


def test_environment_and_role_change_nothing_of_what_is_read(
    table: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.sql("CREATE ROLE odd SUPERUSER LOGIN PASSWORD 'x'")
    odd = {
        "TimeZone": "Asia/Tokyo",
        "DateStyle": "German",
        "IntervalStyle": "postgres_verbose",
        "lc_monetary": "C.UTF-8",
        "statement_timeout": "500ms",
        "idle_session_timeout": "500ms",
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "quote_all_identifiers": "on",
        "standard_conforming_strings": "off",
        "client_encoding": "LATIN1",
    }
    with table.connect() as connection:
        version = connection.info.server_version
    if version >= 170000:
        odd["transaction_timeout"] = "500ms"
    expected = read(table)
    assert len(expected) == 1
    table.sql(*(f"ALTER ROLE odd SET {name} = '{value}'" for name, value in odd.items()))
    table.block |= {"username": "odd", "password": "x"}
    environment = {
        "PGTZ": "Asia/Tokyo",
        "PGDATESTYLE": "German",
        "PGCLIENTENCODING": "LATIN1",
        "PGOPTIONS": "-c IntervalStyle=sql_standard",
    }
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setitem(os.environ, name, value)
        table.sql(f"SELECT pg_drop_replication_slot('{table.slot}')")
        table.sql(f"SELECT pg_create_logical_replication_slot('{table.slot}', 'pgoutput')")
        assert read(table) == expected
        patch.setitem(os.environ, "PGCLIENTENCODING", "bogus")
        assert table.execute().code == 0
    table.sql("DROP ROLE odd")
