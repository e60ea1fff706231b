"""Changes from the log."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tap_postgres_cdc import capture, replication
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.follow import Follower
from tap_postgres_cdc.positions import parse_lsn
from tap_postgres_cdc.tap import TapPostgresCDC

if TYPE_CHECKING:
    from conftest import Run, Source

LARGE = 4000


@pytest.fixture
def votes(source: Source) -> Source:
    """A source with a table of three rows, already copied."""
    source.sql(
        "CREATE TABLE votes (id int PRIMARY KEY, name text, large text, amount numeric(8, 2))",
        "ALTER TABLE votes ALTER large SET STORAGE EXTERNAL",
        f"INSERT INTO votes SELECT i, 'n' || i, repeat(i::text, {LARGE}), i"
        " FROM generate_series(1, 3) i",
    )
    source.publish()
    source.run()
    return source


def changes(run: Run, stream: str = "votes") -> list[tuple[Any, ...]]:
    """Id, name and whether the row was deleted, for each record."""
    return [
        (record["id"], record.get("name"), record["_ab_cdc_deleted_at"] is not None)
        for record in run.records(stream)
    ]


def test_changes_come_in_the_order_of_their_commits(votes: Source) -> None:
    with votes.connect(autocommit=False) as early, votes.connect(autocommit=False) as late:
        early.execute("UPDATE votes SET name = 'first written' WHERE id = 1")
        late.execute("INSERT INTO votes VALUES (10, 'ten')")
        late.commit()
        early.commit()
    run = votes.run()
    assert changes(run) == [(10, "ten", False), (1, "first written", False)]
    sequences = [record["_ab_cdc_sequence"] for record in run.records("votes")]
    assert sequences == sorted(sequences)
    assert all(len(sequence) == 33 for sequence in sequences)


def test_order_is_the_stream_s_bookmark_property(votes: Source) -> None:
    votes.sql("INSERT INTO votes VALUES (4, 'a')")
    (schema,) = votes.run().of("SCHEMA")
    assert schema["bookmark_properties"] == ["_ab_cdc_sequence"]
    assert schema["key_properties"] == ["id"]


def test_changes_of_a_row_in_one_transaction_are_numbered(votes: Source) -> None:
    with votes.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO votes VALUES (4, 'a')")
        connection.execute("UPDATE votes SET name = 'b' WHERE id = 4")
        connection.execute("DELETE FROM votes WHERE id = 4")
        connection.commit()
    run = votes.run()
    assert changes(run) == [(4, "a", False), (4, "b", False), (4, None, True)]
    first, second, third = (record["_ab_cdc_sequence"] for record in run.records("votes"))
    assert first < second < third
    assert first.split("/")[0] == second.split("/")[0] == third.split("/")[0]


def test_record_says_when_and_where_its_change_was_committed(votes: Source) -> None:
    votes.sql("INSERT INTO votes VALUES (4, 'a')")
    (record,) = votes.run().records("votes")
    assert f"{record['_ab_cdc_lsn']:016X}/0000000000000000" == record["_ab_cdc_sequence"]
    ((now,),) = votes.sql("SELECT now()")
    assert record["_ab_cdc_updated_at"] < now.isoformat()
    assert record["_ab_cdc_deleted_at"] is None


def test_rolled_back_work_is_not_there(votes: Source) -> None:
    with votes.connect() as connection:
        with connection.transaction():
            connection.execute("INSERT INTO votes VALUES (4, 'kept')")
            with connection.transaction(force_rollback=True):
                connection.execute("INSERT INTO votes VALUES (5, 'savepoint')")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO votes VALUES (6, 'rolled back')")
    assert changes(votes.run()) == [(4, "kept", False)]


def test_delete_holds_key_and_metadata_only(votes: Source) -> None:
    votes.sql("DELETE FROM votes WHERE id = 2")
    (record,) = votes.run().records("votes")
    assert [name for name in record if not name.startswith("_ab_cdc_")] == ["id"]
    assert record["_ab_cdc_deleted_at"] == record["_ab_cdc_updated_at"]


def test_key_change_deletes_the_old_row(votes: Source) -> None:
    votes.sql("UPDATE votes SET id = 20 WHERE id = 2")
    run = votes.run()
    assert changes(run) == [(2, None, True), (20, "n2", False)]
    assert run.records("votes")[1]["large"] == "2" * LARGE


def test_unchanged_large_value_is_read_from_the_table(votes: Source) -> None:
    votes.sql("UPDATE votes SET name = 'new' WHERE id = 3")
    (record,) = votes.run().records("votes")
    assert record["name"] == "new"
    assert record["large"] == "3" * LARGE


def test_unchanged_large_value_of_a_row_that_is_gone_is_left_to_its_delete(votes: Source) -> None:
    votes.sql("UPDATE votes SET name = 'new' WHERE id = 3", "DELETE FROM votes WHERE id = 3")
    assert changes(votes.run()) == [(3, None, True)]


def test_unchanged_large_value_follows_the_row_to_its_new_key(votes: Source) -> None:
    votes.sql(
        "UPDATE votes SET name = 'new' WHERE id = 3",
        "UPDATE votes SET id = 30 WHERE id = 3",
        "UPDATE votes SET name = 'newer' WHERE id = 30",
    )
    votes.run()
    rows = {row["id"]: row for row in votes.warehouse.rows("votes")}
    assert rows[30]["large"] == "3" * LARGE
    assert rows[30]["name"] == "newer"
    assert 3 not in rows


def test_unchanged_large_value_comes_from_the_old_row_when_it_is_there(source: Source) -> None:
    source.sql(
        "CREATE TABLE votes (id int PRIMARY KEY, name text, large text)",
        "ALTER TABLE votes ALTER large SET STORAGE EXTERNAL, REPLICA IDENTITY FULL",
        f"INSERT INTO votes VALUES (1, 'a', repeat('x', {LARGE}))",
    )
    source.publish()
    source.run()
    source.sql("UPDATE votes SET name = 'b' WHERE id = 1", "DELETE FROM votes WHERE id = 1")
    run = source.run()
    assert changes(run) == [(1, "b", False), (1, None, True)]
    assert run.records("votes")[0]["large"] == "x" * LARGE


def test_many_unchanged_large_values_are_read_in_batches(votes: Source) -> None:
    votes.sql(
        f"INSERT INTO votes SELECT i, 'n', repeat('x', {LARGE}) FROM generate_series(100, 999) i"
    )
    votes.run()
    votes.sql("UPDATE votes SET name = 'new' WHERE id >= 100")
    records = votes.run().records("votes")
    assert [record["id"] for record in records] == list(range(100, 1000))
    assert {record["large"] for record in records} == {"x" * LARGE}


def test_unchanged_large_value_of_a_dropped_column_is_null(votes: Source) -> None:
    votes.sql("UPDATE votes SET name = 'new' WHERE id = 3", "ALTER TABLE votes DROP large")
    votes.run()
    rows = {row["id"]: row for row in votes.warehouse.rows("votes")}
    assert rows[3]["name"] == "new"


def test_large_key_survives_an_update(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (k text PRIMARY KEY, other text, n int)",
        "ALTER TABLE t ALTER k SET STORAGE EXTERNAL, ALTER other SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (repeat('k', 2100), repeat('o', 3000), 1)",
    )
    source.publish()
    source.run()
    source.sql("UPDATE t SET n = 2")
    (record,) = source.run().records("t")
    assert record["k"] == "k" * 2100
    assert record["other"] == "o" * 3000


def test_composite_and_text_keys_are_found_again(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (a numeric, b text, d date, large text, n int, PRIMARY KEY (b, a, d))",
        "ALTER TABLE t ALTER large SET STORAGE EXTERNAL",
        r"INSERT INTO t VALUES (1.50, E'it''s \\ ü', '2020-01-01', repeat('x', 4000), 1)",
    )
    source.publish()
    run = source.run()
    assert run.of("SCHEMA")[0]["key_properties"] == ["b", "a", "d"]
    source.sql("UPDATE t SET n = 2")
    (record,) = source.run().records("t")
    assert record["large"] == "x" * 4000


def test_keys_of_extension_types_are_found_again_by_their_index(
    servers: Any, source_on: Any
) -> None:
    source = source_on(servers["15"])
    source.sql(
        "CREATE SCHEMA ext",
        "CREATE EXTENSION citext SCHEMA ext",
        "CREATE EXTENSION ltree SCHEMA ext",
        "CREATE TABLE t (c ext.citext, p ext.ltree, large text, n int, PRIMARY KEY (c, p))",
        "ALTER TABLE t ALTER large SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES ('Ab', 'Top.Sub', repeat('x', 4000), 1)",
    )
    source.publish()
    source.run()
    source.sql("UPDATE t SET n = 2")
    (record,) = source.run().records("t")
    assert (record["c"], record["p"], record["large"]) == ("Ab", "Top.Sub", "x" * 4000)


def test_truncate_starts_a_new_version(votes: Source) -> None:
    votes.sql("INSERT INTO votes VALUES (4, 'before')", "TRUNCATE votes")
    votes.sql("INSERT INTO votes VALUES (5, 'after')")
    run = votes.run()
    kinds = [message["type"] for message in run.messages if message["type"] != "STATE"]
    assert kinds == ["SCHEMA", "RECORD", "ACTIVATE_VERSION", "RECORD"]
    before, after = run.of("RECORD")
    assert before["version"] < after["version"] == run.of("ACTIVATE_VERSION")[0]["version"]
    assert [row["id"] for row in votes.warehouse.rows("votes")] == [5]
    votes.sql("INSERT INTO votes VALUES (6, 'next run')")
    assert votes.run().of("RECORD")[0]["version"] == after["version"]


def test_truncate_of_several_tables_reaches_each(source: Source) -> None:
    source.sql("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    source.publish()
    source.sql("INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)")
    source.run()
    source.sql("TRUNCATE a, b")
    run = source.run()
    assert {message["stream"] for message in run.of("ACTIVATE_VERSION")} == {"a", "b"}
    assert source.warehouse.rows("a") == source.warehouse.rows("b") == []


def test_new_column_is_announced_before_its_first_record(
    votes: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = capture.Capture._follow

    def alter_after_discovery(self: Any, a: Any, b: Any, _end: int) -> None:
        votes.sql(
            "INSERT INTO votes VALUES (4, 'before')",
            "ALTER TABLE votes ADD extra jsonb",
            """INSERT INTO votes (id, extra) VALUES (5, '{"a": 1}')""",
        )
        ((end,),) = votes.sql("SELECT pg_current_wal_flush_lsn()::text")
        original(self, a, b, parse_lsn(end))

    monkeypatch.setattr(capture.Capture, "_follow", alter_after_discovery)
    run = votes.run()
    kinds = [message["type"] for message in run.messages if message["type"] != "STATE"]
    assert kinds == ["SCHEMA", "RECORD", "SCHEMA", "RECORD"]
    first, second = run.of("SCHEMA")
    assert "extra" not in first["schema"]["properties"]
    assert "extra" in second["schema"]["properties"]
    assert "large" in second["schema"]["properties"]
    assert run.records("votes")[1]["extra"] == {"a": 1}


def test_dropped_and_renamed_columns_do_not_stop_the_stream(votes: Source) -> None:
    votes.sql(
        "UPDATE votes SET name = 'old' WHERE id = 1",
        "ALTER TABLE votes DROP amount",
        "UPDATE votes SET name = 'older' WHERE id = 1",
        "ALTER TABLE votes RENAME name TO title",
        "UPDATE votes SET title = 'newest' WHERE id = 2",
    )
    votes.run()
    rows = {row["id"]: row["title"] for row in votes.warehouse.rows("votes")}
    assert rows == {1: "older", 2: "newest", 3: "n3"}


def test_deselected_columns_are_dropped_while_decoding(votes: Source) -> None:
    catalog = votes.catalog()
    deselect(catalog, "votes", "large", "amount")
    votes.sql("UPDATE votes SET name = 'new' WHERE id = 1", "DELETE FROM votes WHERE id = 2")
    run = votes.run(catalog=catalog)
    assert "large" not in run.of("SCHEMA")[0]["schema"]["properties"]
    assert changes(run) == [(1, "new", False), (2, None, True)]
    assert "large" not in run.records("votes")[0]


def test_deselected_key_comes_anyway(votes: Source) -> None:
    catalog = votes.catalog()
    deselect(catalog, "votes", "id")
    votes.sql("INSERT INTO votes VALUES (9, 'nine')")
    assert changes(votes.run(catalog=catalog)) == [(9, "nine", False)]


def test_deselected_stream_is_not_read(votes: Source) -> None:
    votes.sql("CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    catalog = votes.catalog()
    deselect(catalog, "other")
    run = votes.run(catalog=catalog, state=None)
    assert {message["stream"] for message in run.of("SCHEMA")} == {"votes"}
    assert run.records("other") == []


def test_replica_identity_index_is_the_key(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, name text)",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
        "INSERT INTO t VALUES (1, 'a', 'one'), (2, 'b', 'two')",
    )
    source.publish()
    assert source.run().of("SCHEMA")[0]["key_properties"] == ["code"]
    source.sql("UPDATE t SET code = 'c' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    source.run()
    assert [row["code"] for row in source.warehouse.rows("t")] == ["c"]


def test_table_without_key_streams_inserts(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source.sql("CREATE TABLE logs (line text)", "INSERT INTO logs VALUES ('first')")
    source.publish()
    source.run()
    assert "Table public.logs has no usable key" in caplog.text
    source.sql("INSERT INTO logs VALUES ('second'), (NULL)")
    run = source.run()
    assert [record["line"] for record in run.records("logs")] == ["second", None]
    assert len(source.warehouse.rows("logs")) == 3


def test_table_without_key_but_full_identity_tells_of_deletes(source: Source) -> None:
    source.sql("CREATE TABLE logs (line text)", "ALTER TABLE logs REPLICA IDENTITY FULL")
    source.publish()
    source.sql("INSERT INTO logs VALUES ('a')")
    source.run()
    source.sql("UPDATE logs SET line = 'b'", "DELETE FROM logs")
    update, delete = source.run().records("logs")
    assert (update["line"], update["_ab_cdc_deleted_at"]) == ("b", None)
    assert delete["line"] == "b"
    assert delete["_ab_cdc_deleted_at"]


def test_row_filter_and_column_list_hold_for_snapshot_and_stream(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, name text, secret text)",
        "INSERT INTO t SELECT i, 'n' || i, 'secret' FROM generate_series(1, 20) i",
    )
    source.publish("FOR TABLE t (id, name) WHERE (id > 15)")
    run = source.run()
    assert [record["id"] for record in run.records("t")] == [16, 17, 18, 19, 20]
    assert "secret" not in run.of("SCHEMA")[0]["schema"]["properties"]
    source.sql("INSERT INTO t VALUES (5000, 'x'), (-1, 'x')", "UPDATE t SET id = 3000 WHERE id = 1")
    source.sql("UPDATE t SET id = -16 WHERE id = 16")
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [17, 18, 19, 20, 3000, 5000]
    assert "secret" not in b"".join(run.lines).decode()


def test_unpublished_operations_are_named(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.publish("FOR TABLE t WITH (publish = 'insert, update')")
    source.run()
    source.sql("DELETE FROM t", "INSERT INTO t VALUES (2)")
    assert [record["id"] for record in source.run().records("t")] == [2]
    assert "The publication leaves out DELETE, TRUNCATE" in caplog.text


def test_generated_columns_come_only_where_they_are_published(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED)",
        "INSERT INTO t VALUES (1)",
    )
    is_published = "pginstall18" in str(source.server.programs)
    source.publish("FOR TABLE t" + (" WITH (publish_generated_columns = stored)" * is_published))
    snapshot = source.run()
    source.sql("INSERT INTO t VALUES (2)")
    stream = source.run()
    assert [record.get("g") for record in snapshot.records("t")] == [2 if is_published else None]
    assert [record.get("g") for record in stream.records("t")] == [4 if is_published else None]
    assert ("g" in snapshot.of("SCHEMA")[0]["schema"]["properties"]) == bool(is_published)


def test_partitioned_table_is_one_stream_when_published_by_its_root(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, name text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t_2 (name text, junk int, id int NOT NULL)",
        "ALTER TABLE t_2 DROP junk",
        "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t VALUES (1, 'one'), (101, 'hundred one')",
    )
    source.publish("FOR TABLE t WITH (publish_via_partition_root = true)")
    run = source.run()
    assert {message["stream"] for message in run.of("SCHEMA")} == {"t"}
    source.sql("UPDATE t SET id = 151 WHERE id = 1", "INSERT INTO t VALUES (2, 'two')")
    source.run()
    rows = {row["id"]: row["name"] for row in source.warehouse.rows("t")}
    assert rows == {2: "two", 101: "hundred one", 151: "one"}


def test_partitions_are_streams_when_published_themselves(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t VALUES (1)",
    )
    source.publish("FOR TABLE t")
    assert {message["stream"] for message in source.run().of("SCHEMA")} == {"t_1"}
    source.sql("INSERT INTO t VALUES (2)")
    assert [record["id"] for record in source.run().records("t_1")] == [2]


def test_run_ends_where_the_log_ended_when_it_began(votes: Source) -> None:
    """Writers that never pause do not keep a run from ending."""
    stop = threading.Event()

    def write() -> None:
        with votes.connect() as connection:
            while not stop.is_set():
                connection.execute("INSERT INTO votes (id) SELECT max(id) + 1 FROM votes")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        time.sleep(0.3)
        started = time.monotonic()
        votes.run()
        votes.run()
        assert time.monotonic() - started < 10
    finally:
        stop.set()
        writer.join()
    votes.run()
    assert len(votes.warehouse.rows("votes")) == votes.sql("SELECT count(*) FROM votes")[0][0]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_switch_wal()",
        "CHECKPOINT",
        "SELECT pg_create_restore_point('a')",
        "SELECT pg_logical_emit_message(false, 'x', repeat('y', 9000))",
        "SELECT pg_logical_emit_message(true, 'x', '')",
    ],
)
def test_run_ends_whatever_is_last_in_the_log(votes: Source, statement: str) -> None:
    votes.sql(statement)
    started = time.monotonic()
    votes.run()
    assert time.monotonic() - started < 5


def test_run_ends_though_the_log_ends_in_the_middle_of_a_record(own_source: Any) -> None:
    """The rest of a record beyond its page is not on disk until somebody commits."""
    # It would be, in passing, after 20 seconds.
    source = own_source("18", settings={"bgwriter_delay": "10s"})
    source.sql("CREATE TABLE votes (id int PRIMARY KEY)")
    source.publish()
    source.run()
    with source.connect(autocommit=False) as connection:
        ((begin, end),) = connection.execute(
            "SELECT pg_current_wal_insert_lsn() + 8192,"
            " pg_logical_emit_message(false, 'x', repeat('y', 20000))"
        )
        # Another connection could write to the log, as it looks at the catalog.
        flushed = "SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn"
        while connection.execute(flushed, [begin]).fetchone() == (False,):
            time.sleep(0.05)
        assert connection.execute(flushed, [end]).fetchone() == (False,)
        started = time.monotonic()
        source.run()
        assert time.monotonic() - started < 5


def test_server_that_is_busy_is_asked_once(votes: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each packet would keep the server's TCP from trying again to send, see `wait`."""
    walsender = f"SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{votes.slot}'"
    follow, send_status = capture.Capture._follow, replication.send_status
    asked: list[tuple[float, bool]] = []

    def thaw(pid: int) -> None:
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        votes.sql("SELECT pg_logical_emit_message(true, 'x', repeat('y', 2000000))")

    def freeze_first(connection: Any, lsn: int, *, ask: bool = False) -> None:
        if not asked:
            ((pid,),) = votes.sql(walsender)
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(2, thaw, [pid]).start()
        asked.append((time.monotonic(), ask))
        send_status(connection, lsn, ask=ask)

    def follow_on(self: Any, a: Any, b: Any, end: int) -> None:
        follow(self, a, b, end + 1_000_000)

    monkeypatch.setattr(replication, "send_status", freeze_first)
    monkeypatch.setattr(capture.Capture, "_follow", follow_on)
    votes.run()
    thawed = asked[0][0] + 1.9
    assert [ask for at, ask in asked if at < thawed] == [False, True]
    assert len(asked) > 2


def test_transaction_open_while_the_run_ends_comes_with_the_next(votes: Source) -> None:
    with votes.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO votes VALUES (7, 'open')")
        assert changes(votes.run()) == []
        connection.commit()
    assert changes(votes.run()) == [(7, "open", False)]


def test_commit_that_cannot_be_seen_yet_is_waited_for(own_source: Any) -> None:
    """The row an update left to be read again seems gone while its commit is still delayed."""
    source = own_source("18", settings={"fsync": "on", "synchronous_standby_names": ""})
    source.sql(
        "CREATE TABLE votes (id int PRIMARY KEY, name text, large text)",
        "ALTER TABLE votes ALTER large SET STORAGE EXTERNAL",
        f"INSERT INTO votes VALUES (1, 'a', repeat('x', {LARGE}))",
    )
    source.publish()
    source.run()
    # No standby of that name exists: commits are in the log, but nobody sees them.
    source.server.configure(synchronous_standby_names="nobody")
    with source.connect() as hanging:
        writer = threading.Thread(
            target=lambda: hanging.execute("UPDATE votes SET id = 2, name = 'b' WHERE id = 1")
        )
        writer.start()
        time.sleep(0.3)
        release = threading.Timer(
            1.5, lambda: source.server.configure(synchronous_standby_names="")
        )
        release.start()
        run = source.run()
        writer.join()
        release.join()
    assert changes(run) == [(1, None, True), (2, "b", False)]
    assert run.records("votes")[1]["large"] == "x" * LARGE


def test_key_that_changes_during_a_run_lets_the_other_tables_go_on(
    votes: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes.sql("CREATE TABLE other (id int PRIMARY KEY)")
    votes.run()
    original = capture.Capture._follow

    def alter_after_discovery(self: Any, a: Any, b: Any, _end: int) -> None:
        votes.sql(
            "ALTER TABLE votes DROP CONSTRAINT votes_pkey, ADD PRIMARY KEY (name)",
            "INSERT INTO votes (id, name) VALUES (4, 'four')",
            "INSERT INTO other VALUES (1)",
        )
        ((end,),) = votes.sql("SELECT pg_current_wal_flush_lsn()::text")
        original(self, a, b, parse_lsn(end))

    with monkeypatch.context() as patch:
        patch.setattr(capture.Capture, "_follow", alter_after_discovery)
        run = votes.run()
    assert len(run.records("other")) == 1
    assert run.of("SCHEMA")[-1]["key_properties"] == ["name"]
    assert len(run.records("votes")) == 4


def test_state_of_a_stopped_run_is_not_ahead_of_its_records(votes: Source) -> None:
    votes.sql(*(f"INSERT INTO votes VALUES ({i}, 'x')" for i in range(100, 110)))
    original = Follower._reach
    reached = []

    def stop_at_the_fifth(self: Follower, lsn: int, changes: int) -> None:
        if changes:
            reached.append(lsn)
        if len(reached) == 5:
            self._stop.set()
        original(self, lsn, changes)

    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout):
        patch.setattr(Follower, "_reach", stop_at_the_fifth)
        tap = TapPostgresCDC(config=votes.config, state=votes.state)
        with pytest.raises(SystemExit):
            tap.sync_all()
    stdout.seek(0)
    messages = [json.loads(line) for line in stdout]
    assert sum(message["type"] == "RECORD" for message in messages) == 5
    votes.warehouse.apply(messages)
    votes.state = messages[-1]["value"]
    assert [record["id"] for record in votes.run().records("votes")] == list(range(105, 110))
    assert len(votes.warehouse.rows("votes")) == 13


def test_arrays_of_several_dimensions_are_announced_once(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY, m int[][])")
    source.publish()
    source.run()
    source.sql("INSERT INTO t VALUES (1, '{{1,2},{3,4}}')")
    run = source.run()
    assert len(run.of("SCHEMA")) == 1
    assert run.records("t")[0]["m"] == [[1, 2], [3, 4]]


def test_changes_of_a_dropped_table_do_not_stop_the_stream(votes: Source) -> None:
    votes.sql(
        "CREATE TABLE gone (id int PRIMARY KEY)", "INSERT INTO gone VALUES (1)", "DROP TABLE gone"
    )
    votes.sql("INSERT INTO votes VALUES (8, 'eight')")
    assert changes(votes.run()) == [(8, "eight", False)]


def test_connection_cut_in_the_stream_ends_the_run_in_one_line(votes: Source) -> None:
    original = capture.Capture._follow

    def cut(self: Any, a: Any, b: Any, _end: int) -> None:
        timer = threading.Timer(
            0.3,
            lambda: votes.sql(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
                f" WHERE slot_name = '{votes.slot}'"
            ),
        )
        timer.start()
        original(self, a, b, 1 << 62)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(capture.Capture, "_follow", cut)
        with pytest.raises(CaptureError, match=r"connection to 127\.0\.0\.1") as raised:
            votes.run()
    assert "\n" not in raised.value.message
    votes.sql("INSERT INTO votes VALUES (9, 'nine')")
    assert changes(votes.run()) == [(9, "nine", False)]


def deselect(catalog: dict[str, Any], stream: str, *columns: str) -> None:
    """Deselect columns of a stream in a catalog, or all of the stream."""
    breadcrumbs = [["properties", column] for column in columns] or [[]]
    for entry in catalog["streams"]:
        if entry["tap_stream_id"] == stream:
            for metadata in entry["metadata"]:
                if metadata["breadcrumb"] in breadcrumbs:
                    metadata["metadata"]["selected"] = False
