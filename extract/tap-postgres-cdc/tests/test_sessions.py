"""Sessions: what surrounds a run changes nothing of what it reads, and every wait ends."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tap_postgres_cdc import capture, replication, sessions
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from conftest import NewSource, Source

WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'tap-postgres-cdc'"
    " AND (wait_event_type = 'Lock' OR query LIKE '%pg_current_snapshot%' AND EXISTS ("
    "SELECT FROM pg_stat_activity WHERE query LIKE 'DELETE%'))"
)


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


def test_hanging_backend_ends_the_run(embedded: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SILENCE_SECONDS", 1)
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY)")
    embedded.publish()
    frozen: list[int] = []

    def freeze(connection: Any, *_: Any) -> None:
        frozen.append(connection.info.backend_pid)
        os.kill(frozen[0], signal.SIGSTOP)
        connection.execute("SELECT 1")

    monkeypatch.setattr(capture, "discover", freeze)
    try:
        with pytest.raises(CaptureError, match=r"has not answered for 1 s: the server at .* hangs"):
            embedded.run()
    finally:
        os.kill(frozen[0], signal.SIGCONT)


def test_hanging_walsender_ends_the_run(embedded: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SILENCE_SECONDS", 1)
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY)")
    embedded.publish()
    follow, send_status = capture.Capture._follow, replication.send_status
    frozen: list[int] = []

    def freeze_first(connection: Any, lsn: int, *, ask: bool = False) -> None:
        if not frozen:
            frozen.append(connection.info.backend_pid)
            os.kill(frozen[0], signal.SIGSTOP)
        send_status(connection, lsn, ask=ask)

    def follow_on(self: Any, a: Any, b: Any, end: int) -> None:
        follow(self, a, b, end + 1_000_000)

    monkeypatch.setattr(replication, "send_status", freeze_first)
    monkeypatch.setattr(capture.Capture, "_follow", follow_on)
    try:
        with pytest.raises(CaptureError, match="has not answered for 1 s"):
            embedded.run()
    finally:
        os.kill(frozen[0], signal.SIGCONT)


@pytest.mark.parametrize(
    ("rows", "statement", "hangs"),
    [
        (10, "LOCK TABLE t", False),
        (10, "LOCK TABLE t", True),
        (20000, "LOCK TABLE t", False),
        (10, "DELETE FROM t", False),
    ],
    ids=["lock", "hanging server", "lock for processes", "old transaction"],
)
def test_signal_ends_a_run_that_waits(
    embedded: Source, rows: int, statement: str, hangs: bool
) -> None:
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, t text)",
        f"INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, {rows}) i",
    )
    embedded.publish()
    with embedded.connect(autocommit=False) as holder:
        holder.execute(statement.encode())
        process = embedded.start()
        while not (waiting := embedded.sql(WAITING)):
            assert process.poll() is None
            time.sleep(0.02)
        if hangs:
            os.kill(waiting[0][0], signal.SIGSTOP)
        process.terminate()
        since = time.monotonic()
        try:
            _, log = process.communicate(timeout=30)
            seconds = time.monotonic() - since
        finally:
            if hangs:
                os.kill(waiting[0][0], signal.SIGCONT)
    assert process.returncode == 143
    assert log.decode().strip().endswith("Stopped as asked; the next run goes on from here")
    assert seconds < 2


def test_lock_of_another_session_is_not_waited_for_long(embedded: Source) -> None:
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY)")
    connector = Connector(read_settings(embedded.config))
    with embedded.connect(autocommit=False) as holder, connector.session() as session:
        holder.execute("LOCK TABLE t")
        since = time.monotonic()
        with (
            pytest.raises(CaptureError, match="another session holds a lock"),
            connector.errors(),
        ):
            session.execute("TABLE public.t")
    assert 1 < time.monotonic() - since < 4


def test_old_transactions_are_waited_for_so_long_and_then_named(own_source: NewSource) -> None:
    """Also to a role that may not see what others do."""
    source = own_source("18", settings={"max_prepared_transactions": "5"})
    source.options["wait_minutes"] = 0.01
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'x'",
        "GRANT SELECT ON t TO reader",
    )
    source.publish()
    source.block |= {"username": "reader", "password": "x"}
    waited = (
        r"gave up after 0.01 minutes \(setting wait_minutes\) of waiting for transactions to end"
    )
    with source.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        pid = writer.info.backend_pid
        named = rf"process {pid} of user postgres .* \(SELECT pg_terminate_backend\({pid}\)\)"
        with pytest.raises(CaptureError, match=f"{waited}: {named}"):
            source.run()
        writer.execute("PREPARE TRANSACTION 'it''s old'")
    named = r"prepared transaction it's old of user postgres in database tests since \S+ \S+"
    ends = r"\(in that database: ROLLBACK PREPARED 'it''s old' or COMMIT PREPARED 'it''s old'\)"
    with pytest.raises(CaptureError, match=rf"{waited}: {named} {ends}"):
        source.run()
    source.sql("COMMIT PREPARED 'it''s old'")
    assert len(source.run().records("t")) == 1
