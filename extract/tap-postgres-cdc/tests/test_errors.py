"""What can't be done ends the run: one line that names the thing and what mends it."""

from __future__ import annotations

import copy
import socket
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.postgres import debian_programs
from tap_postgres_cdc import pgoutput, prerequisites, replication
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.pgoutput import check_known
from tap_postgres_cdc.replication import ReplicationStream
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from conftest import NewSource, Source


@pytest.fixture
def captured(source: Source) -> Source:
    """A source whose table was copied."""
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.publish("FOR TABLE t")
    source.run()
    return source


def refuse(source: Source, pattern: str, state: Any = ...) -> str:
    """Run, expecting a one-line error that changes nothing; gives the line."""
    before = copy.deepcopy(source.state)
    with pytest.raises(CaptureError, match=pattern) as raised:
        source.run(state=state)
    message = raised.value.message
    assert "\n" not in message
    assert "Traceback" not in message
    assert source.state == before
    return message


def role(source: Source, *statements: str, attributes: str = "REPLICATION") -> str:
    """Make a role of the least rights and let the tap use it."""
    name = source.name
    source.sql(f"CREATE ROLE {name} LOGIN {attributes} PASSWORD 'secret word'", *statements)
    source.block |= {"username": name, "password": "secret word"}
    return name


def test_wrong_password(embedded: Source) -> None:
    embedded.block["password"] = "wr0ng"
    assert "wr0ng" not in refuse(embedded, 'refused user "postgres": check the settings username')


def test_unknown_user(embedded: Source) -> None:
    embedded.block["username"] = "nobody_here"
    refuse(embedded, "nobody_here.*check the settings? username")


def test_unknown_database(embedded: Source) -> None:
    embedded.block["database"] = "nowhere"
    refuse(embedded, 'database "nowhere" does not exist on 127.0.0.1:.* check the setting database')


def test_port_that_nobody_listens_on(embedded: Source) -> None:
    embedded.block["port"] = 1
    refuse(embedded, r"can't reach 127.0.0.1:1 \(Connection refused\): check the settings host")


def test_host_without_address(embedded: Source) -> None:
    embedded.block["host"] = "no-such-host.invalid"
    refuse(embedded, "can't reach no-such-host.invalid:.* check the settings host and port")


def test_host_that_does_not_answer(embedded: Source) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        embedded.block["port"] = silent.getsockname()[1]
        embedded.block["jdbc_url_params"] = "connectTimeout=2"
        started = time.monotonic()
        refuse(embedded, "can't reach 127.0.0.1:.*timeout")
        assert time.monotonic() - started < 10


def test_server_without_tls(embedded: Source) -> None:
    embedded.block["ssl_mode"] = {"mode": "require"}
    refuse(embedded, "does not speak TLS: set ssl_mode.mode to disable or prefer")


def test_role_without_replication(captured: Source) -> None:
    name = role(captured, attributes="")
    captured.sql(f"GRANT SELECT ON t TO {name}")
    refuse(captured, f'user "{name}" may not replicate: .*ALTER ROLE "{name}" REPLICATION')


def test_table_that_may_not_be_read(source: Source) -> None:
    """One of many: the SQL names just that one, and nothing is written."""
    source.sql(*(f"CREATE TABLE t{i} (id int PRIMARY KEY)" for i in range(5)))
    source.publish()
    name = role(source)
    source.sql(*(f"GRANT SELECT ON t{i} TO {name}" for i in range(5) if i != 3))
    line = refuse(source, f'may not read all tables .*GRANT SELECT ON "public"."t3" TO "{name}"')
    for statement in line.split(" owner runs ")[1].split("; "):
        source.sql(statement)
    source.run()


def test_schema_that_may_not_be_used(source: Source) -> None:
    source.sql("CREATE SCHEMA hidden", "CREATE TABLE hidden.t (id int PRIMARY KEY)")
    source.publish()
    name = role(source)
    source.sql(f"GRANT SELECT ON hidden.t TO {name}")
    source.block["schemas"] = ["hidden"]
    line = refuse(source, f'GRANT USAGE ON SCHEMA "hidden" TO "{name}"')
    for statement in line.split(" owner runs ")[1].split("; "):
        source.sql(statement)
    source.run()


def test_table_with_row_security(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    source.publish()
    name = role(source)
    source.sql(f"GRANT SELECT ON t TO {name}")
    refuse(source, f'table "t" has row-level security.*ALTER ROLE "{name}" BYPASSRLS')


def test_missing_slot(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish(slot=False)
    line = refuse(source, f'replication slot "{source.slot}" does not exist: create it with SELECT')
    source.sql(line.split("create it with ")[1])
    source.run()


def test_missing_slot_after_a_run(captured: Source) -> None:
    captured.sql(f"SELECT pg_drop_replication_slot('{captured.slot}')")
    refuse(captured, "does not exist.*--full-refresh")


def test_slot_made_anew_after_a_run(captured: Source) -> None:
    captured.sql(
        f"SELECT pg_drop_replication_slot('{captured.slot}')",
        "INSERT INTO t VALUES (2)",
        f"SELECT pg_create_logical_replication_slot('{captured.slot}', 'pgoutput')",
    )
    refuse(captured, "made anew, past the state's .*--full-refresh")
    captured.run(state=None)
    assert [row["id"] for row in captured.warehouse.rows("t")] == [1, 2]


def test_slot_read_by_someone_else(captured: Source) -> None:
    captured.sql("INSERT INTO t VALUES (2)")
    captured.sql(
        f"SELECT pg_replication_slot_advance('{captured.slot}', pg_current_wal_flush_lsn())"
    )
    refuse(captured, "was read by someone else up to .* give this pipeline a slot of its own")


def test_slot_in_use(captured: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "_BUSY_SECONDS", 0.5)
    monkeypatch.setattr(replication, "_BUSY_SECONDS", 0.5)
    with closing(Connector(read_settings(captured.config)).connect_to_replicate()) as other:
        replication.start_replication(other, captured.slot, "oso_publication", 0)
        refuse(captured, "is in use by process .*SELECT pg_terminate_backend")
        monkeypatch.setattr(prerequisites, "_BUSY_SECONDS", 0)
        monkeypatch.setattr(prerequisites, "find_slot", lambda *_, **__: prerequisites.Slot("x", 0))
        refuse(captured, "is in use by process .*SELECT pg_terminate_backend")


def test_slot_for_two_phase_commits(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY)",
        f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput', false, true)",
    )
    source.publish(slot=False)
    message = refuse(source, "was made with two_phase, which is not supported")
    assert "pg_drop_replication_slot" in message
    assert "--full-refresh" in message


@pytest.mark.parametrize("kind", b"bPKrpSEcAM")
def test_message_that_is_not_known_is_refused(kind: int) -> None:
    with pytest.raises(CaptureError, match=f'a message of type "{chr(kind)}"'):
        check_known(kind)


def test_message_that_is_not_known_ends_the_run(
    captured: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As nobody sends one, one that is known is taken for it."""
    captured.sql("INSERT INTO t VALUES (2)")
    monkeypatch.setattr(pgoutput, "KNOWN", pgoutput.KNOWN - {ord("Y")})
    captured.sql("CREATE TYPE mood AS ENUM ('glad')", "ALTER TABLE t ADD mood mood")
    captured.sql("INSERT INTO t VALUES (3, 'glad')")
    before = captured.confirmed()
    captured.run_to_failure('a message of type "Y"')
    assert captured.confirmed() == before


def test_slot_of_another_database(captured: Source) -> None:
    captured.slot += "_2"
    with captured.server.connect() as connection:
        connection.execute(
            "SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [captured.slot]
        )
        try:
            refuse(captured, "belongs to database postgres, not to", state=None)
        finally:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [captured.slot])


def test_slot_of_another_plugin(captured: Source) -> None:
    if captured.server.programs == debian_programs():
        captured.sql("SELECT pg_create_logical_replication_slot('other_plugin', 'test_decoding')")
    else:
        captured.sql("SELECT pg_create_physical_replication_slot('other_plugin')")
    captured.slot = "other_plugin"
    try:
        refuse(captured, "(is for test_decoding|is physical): set replication_slot", state=None)
    finally:
        captured.sql("SELECT pg_drop_replication_slot('other_plugin')")


@pytest.mark.parametrize("version", ["18", "15"])
def test_lost_slot(own_source: NewSource, version: str) -> None:
    source = own_source(version, settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"})
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    source.run()
    for _ in range(4):
        source.sql("SELECT pg_switch_wal()", "INSERT INTO t SELECT count(*) FROM t", "CHECKPOINT")
    assert source.sql("SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    refuse(source, "is lost: the server has removed WAL.* --full-refresh")


@pytest.mark.parametrize("version", ["18", "15"])
def test_slot_lost_between_the_check_and_the_stream(
    own_source: NewSource, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = own_source(version, settings={"max_slot_wal_keep_size": "1MB"})
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    original = ReplicationStream.__init__

    def lose_first(self: ReplicationStream, *arguments: Any) -> None:
        for _ in range(4):
            source.sql("SELECT pg_switch_wal()", "INSERT INTO t SELECT count(*) FROM t")
            source.sql("CHECKPOINT")
        original(self, *arguments)

    monkeypatch.setattr(ReplicationStream, "__init__", lose_first)
    with pytest.raises(CaptureError, match="is lost: the server has removed WAL"):
        source.run()


def test_missing_publication(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    source.publication = "nothing"
    refuse(source, 'publication "nothing" does not exist: create it with CREATE PUBLICATION')


def test_publication_dropped_after_a_run(captured: Source) -> None:
    captured.sql("DROP PUBLICATION oso_publication", "INSERT INTO t VALUES (2)")
    refuse(captured, 'publication "oso_publication" does not exist')


def test_publication_without_tables(source: Source) -> None:
    source.publish("FOR TABLES IN SCHEMA public")
    refuse(source, 'publication "oso_publication" holds no table of schema public: add tables')


def test_schema_that_does_not_exist(captured: Source) -> None:
    captured.block["schemas"] = ["nowhere"]
    refuse(captured, 'schema "nowhere" does not exist: correct the setting airbyte_config.schemas')


def test_state_of_another_server(captured: Source) -> None:
    state = copy.deepcopy(captured.state)
    assert state
    state["slot"]["system_identifier"] = "123"
    refuse(captured, "the state is of another database server.* --full-refresh", state=state)


def test_state_ahead_of_the_server(captured: Source) -> None:
    state = copy.deepcopy(captured.state)
    assert state
    state["slot"]["confirmed_lsn"] = "FFFF/0"
    refuse(captured, "restored from a backup", state=state)


def test_state_of_a_timeline_that_is_not_in_the_history_is_refused(captured: Source) -> None:
    assert captured.state
    captured.state["slot"]["timeline"] = 7
    refuse(captured, "timeline 1, the state on 7, which is not in its history: .*--full-refresh")


@pytest.mark.parametrize(
    "state",
    [{"bookmarks": {"t": {"starting_replication_value": 3}}}, {"slot": {"name": "x"}}],
)
def test_state_of_another_tap(captured: Source, state: dict[str, Any]) -> None:
    refuse(captured, "the state is not of this tap: .*--full-refresh", state=state)


def test_wal_level_too_low(own_source: NewSource) -> None:
    source = own_source("18", settings={"wal_level": "replica"})
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION oso_publication FOR TABLE t"
    )
    refuse(source, "wal_level is replica, but has to be logical: .*ALTER SYSTEM SET wal_level")


def test_standby(captured: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "one_row", lambda *_: (True, "logical", "UTF8"))
    refuse(captured, "the server is a standby: set host to the primary")


def test_nothing_is_confirmed_by_a_run_that_fails(captured: Source) -> None:
    captured.sql("INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
    before = captured.confirmed()
    captured.block["schemas"] = ["nowhere"]
    refuse(captured, "nowhere")
    assert captured.confirmed() == before


def test_run_confirms_no_more_than_the_state_it_was_given(captured: Source) -> None:
    given = captured.state
    assert given
    captured.sql("INSERT INTO t VALUES (2)")
    captured.run()
    assert captured.confirmed() == given["slot"]["confirmed_lsn"]
    second = captured.state
    assert second
    assert second["slot"]["confirmed_lsn"] != given["slot"]["confirmed_lsn"]
    captured.run()
    assert captured.confirmed() == second["slot"]["confirmed_lsn"]


def test_quiet_table_does_not_hold_the_log_back(captured: Source) -> None:
    """What others write moves the position on, though nothing of it is published."""
    captured.sql("CREATE TABLE busy (id int)")
    captured.sql(*["INSERT INTO busy SELECT generate_series(1, 1000)"] * 3)
    before = captured.state
    assert captured.run().of("RECORD") == []
    assert captured.state != before
    captured.run()
    ((held,),) = captured.sql(
        "SELECT pg_current_wal_flush_lsn() - confirmed_flush_lsn FROM pg_replication_slots"
        f" WHERE slot_name = '{captured.slot}'"
    )
    assert held < 100_000
