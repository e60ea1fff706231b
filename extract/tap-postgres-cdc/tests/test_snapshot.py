"""The first copy of tables, its hand-off to the stream, and copying again."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from sandbox.postgres import debian_programs
from tap_postgres_cdc import capture, progress, snapshot
from tap_postgres_cdc.errors import CaptureError

if TYPE_CHECKING:
    from conftest import NewSource, Source

BIG = (
    "CREATE TABLE big (id int PRIMARY KEY, filler text)",
    "INSERT INTO big SELECT i, repeat('x', 200) FROM generate_series(1, 20000) i",
)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few blocks, a state after each, and several workers also for small tables."""
    monkeypatch.setattr(snapshot, "FIRST_RANGE_BLOCKS", 16)
    monkeypatch.setattr(snapshot, "_MOST_BLOCKS", 32)
    monkeypatch.setattr(snapshot, "_FEW_BLOCKS", 8)
    monkeypatch.setattr(capture, "STATE_SECONDS", 0.0)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 3])
def test_every_row_is_copied_once(source: Source, workers: int) -> None:
    source.sql(*BIG)
    source.publish()
    source.options["snapshot_workers"] = workers
    run = source.run()
    assert sorted(record["id"] for record in run.records("big")) == list(range(1, 20001))
    assert len(run.of("STATE")) > 5


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_copy_goes_on_at_the_next_range(source: Source, workers: int) -> None:
    source.sql(*BIG)
    source.publish()
    source.options["snapshot_workers"] = workers
    first = source.run()
    states = first.of("STATE")
    source.state = states[len(states) // 2]["value"]
    assert source.state
    assert ":" in source.state["bookmarks"]["big"]["copied"]
    done = {
        record["record"]["id"]
        for record in first.messages[: first.messages.index(states[len(states) // 2])]
        if record["type"] == "RECORD"
    }
    source.sql("DELETE FROM big WHERE id % 10 = 0", "UPDATE big SET filler = 'new' WHERE id < 50")
    second = source.run()
    copied = {r["id"] for r in second.records("big") if r["_ab_cdc_sequence"].endswith("F" * 16)}
    assert copied
    if workers == 1:
        # With more, ranges after a gap are copied again.
        assert len(copied & done) < len(done) / 2
    # A loader that saw only what came before the state it kept.
    assert done | copied >= {i for i in range(50, 20001) if i % 10}
    rows = {row["id"]: row["filler"] for row in source.warehouse.rows("big")}
    assert set(rows) == {i for i in range(1, 20001) if i % 10}
    assert rows[49] == "new"


def test_changes_seen_by_the_snapshot_are_not_streamed_again(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int)")
    source.publish()
    source.sql("INSERT INTO t VALUES (1, 1)", "UPDATE t SET n = 2", "INSERT INTO t VALUES (2, 2)")
    source.sql("DELETE FROM t WHERE id = 2")
    run = source.run()
    assert [(record["id"], record["n"]) for record in run.records("t")] == [(1, 2)]


def test_commit_after_the_snapshot_is_streamed(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    source.publish()
    original = snapshot.SnapshotCopy.run

    def change_then_copy(self: Any, *arguments: Any) -> None:
        source.sql("UPDATE t SET n = 2", "INSERT INTO t VALUES (2, 2)")
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(snapshot.SnapshotCopy, "run", change_then_copy)
        assert [record["n"] for record in source.run().records("t")] == [1]
    assert [record["n"] for record in source.run().records("t")] == [2, 2]
    assert source.state
    assert source.state["bookmarks"]["t"]["copied"] is True
    assert source.state["bookmarks"]["t"]["handoff"] is None


def test_snapshot_waits_for_commits_that_are_in_the_log_but_not_visible(
    own_source: NewSource,
) -> None:
    """The log was read past such a commit before the table was captured: nothing else has it."""
    source = own_source("15", settings={"fsync": "on"})
    source.sql("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    only_a = source.catalog()
    for entry in only_a["streams"]:
        for metadata in entry["metadata"]:
            if entry["stream"] == "t" and not metadata["breadcrumb"]:
                metadata["metadata"]["selected"] = False
    source.run(catalog=only_a)
    # No standby of that name exists: commits are in the log, but nobody sees them.
    source.server.configure(synchronous_standby_names="nobody")
    with source.connect() as hanging:
        writer = threading.Thread(target=lambda: hanging.execute("INSERT INTO t VALUES (1)"))
        writer.start()
        time.sleep(0.3)
        source.run(catalog=only_a)
        release = threading.Timer(
            1.0, lambda: source.server.configure(synchronous_standby_names="")
        )
        release.start()
        assert [record["id"] for record in source.run().records("t")] == [1]
        writer.join()
        release.join()


def test_new_table_is_copied_then_streamed(source: Source) -> None:
    source.sql("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    source.publish()
    source.run()
    source.sql("CREATE TABLE b (id int PRIMARY KEY)", "INSERT INTO b VALUES (1), (2)")
    run = source.run()
    assert [record["id"] for record in run.records("b")] == [1, 2]
    assert run.records("a") == []
    source.sql("INSERT INTO b VALUES (3)", "DELETE FROM b WHERE id = 1")
    source.run()
    assert [row["id"] for row in source.warehouse.rows("b")] == [2, 3]


def test_dropped_table_keeps_its_bookmark(source: Source, caplog: pytest.LogCaptureFixture) -> None:
    source.sql("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    source.publish()
    source.run()
    source.sql("DROP TABLE b")
    source.run()
    assert "Stream b is not in the publication" in caplog.text
    assert source.state
    assert source.state["bookmarks"]["b"]["copied"] is False


CHANGES = {
    "default": ("ALTER TABLE t ADD extra int DEFAULT 5",),
    "volatile default": ("ALTER TABLE t ADD extra text DEFAULT md5(random()::text)",),
    "another type": ("ALTER TABLE t ALTER n TYPE text",),
    "renamed column": ("ALTER TABLE t RENAME n TO m",),
    "replaced column": ("ALTER TABLE t DROP n, ADD n int",),
    "another key": ("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n)",),
    "made anew": (
        "DROP TABLE t",
        "CREATE TABLE t (id int PRIMARY KEY, n int)",
        "ALTER PUBLICATION oso_publication ADD TABLE t",
        "INSERT INTO t VALUES (7, 7)",
    ),
    "out and in again": (
        "ALTER PUBLICATION oso_publication DROP TABLE t",
        "INSERT INTO t VALUES (8, 8)",
        "ALTER PUBLICATION oso_publication ADD TABLE t",
    ),
    "publication made anew": (
        "DROP PUBLICATION oso_publication",
        "DELETE FROM t WHERE id = 1",
        "CREATE PUBLICATION oso_publication FOR TABLE t",
    ),
    "another column list": (
        "ALTER PUBLICATION oso_publication SET TABLE t (id)",
        "INSERT INTO t VALUES (9, 9)",
    ),
    "another row filter": ("ALTER PUBLICATION oso_publication SET TABLE t WHERE (id > 1)",),
}


@pytest.mark.parametrize("change", CHANGES)
def test_table_is_copied_again_when_rows_changed_without_a_trace(
    source: Source, change: str
) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    source.publish("FOR TABLE t")
    source.run()
    for statement in CHANGES[change]:
        source.sql(statement)
    if change == "publication made anew" and source.server.programs == debian_programs():
        with pytest.raises(CaptureError, match=r"did not exist when .* --full-refresh"):
            source.run()
        return
    run = source.run()
    copied = [r for r in run.records("t") if r["_ab_cdc_sequence"].endswith("F" * 16)]
    assert copied
    assert run.of("ACTIVATE_VERSION")
    with source.connect() as connection:
        where = "WHERE id > 1" if change == "another row filter" else ""
        columns = "id" if change == "another column list" else "*"
        cursor = connection.execute(f"SELECT {columns} FROM t {where}")
        names = [column.name for column in cursor.description or ()]
        expected = [dict(zip(names, row, strict=True)) for row in cursor]
    rows = [{name: row[name] for name in names} for row in source.warehouse.rows("t")]
    assert sorted(rows, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ADD extra int",
        "ALTER TABLE t DROP n",
        "ALTER TABLE t ALTER name TYPE text",
        "VACUUM FULL t",
        "TRUNCATE t",
        "ALTER PUBLICATION oso_publication ADD TABLE other",
    ],
)
def test_table_is_not_copied_again_without_need(source: Source, change: str) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, n int, name varchar(10))",
        "CREATE TABLE other (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 1), (2, 2)",
    )
    source.publish("FOR TABLE t")
    source.run()
    source.sql(change)
    run = source.run()
    assert run.records("t") == []
    assert bool(run.of("ACTIVATE_VERSION")) == (change.startswith(("TRUNCATE", "ALTER PUB")))


def test_rows_that_an_unfinished_copy_left_behind_are_gone_in_the_end(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first run that was killed before any state, then a delete that the next snapshot saw."""
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    source.publish()
    source.run()
    source.state = None
    time.sleep(0.01)
    source.sql("DELETE FROM t WHERE id = 1")
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [2]


def test_copy_after_lost_state_wins_over_what_was_streamed_before(source: Source) -> None:
    """The loader has changes with later positions than the slot; the copy has to be later still."""
    source.sql("CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE t (id int PRIMARY KEY, n int)")
    source.publish()
    source.run()
    kept = copy.deepcopy(source.state)
    source.sql("INSERT INTO t VALUES (1, 1)")
    source.run()
    assert kept
    source.state = kept
    source.state["bookmarks"].pop("t")
    source.sql("UPDATE t SET n = 2")
    source.run()
    assert [row["n"] for row in source.warehouse.rows("t")] == [2]


def test_full_table_stream_is_copied_each_run(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE logged (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1), (2)",
    )
    source.publish()
    catalog = source.catalog()
    for entry in catalog["streams"]:
        assert entry["replication_method"] == "LOG_BASED"
        if entry["tap_stream_id"] == "t":
            for metadata in entry["metadata"]:
                if not metadata["breadcrumb"]:
                    metadata["metadata"]["replication-method"] = "FULL_TABLE"
    first = source.run(catalog=catalog)
    source.sql("DELETE FROM t WHERE id = 1", "INSERT INTO t VALUES (3)")
    second = source.run(catalog=catalog)
    assert [record["id"] for record in second.records("t")] == [2, 3]
    (version,) = {message["version"] for message in second.of("RECORD")}
    assert version > first.of("RECORD")[0]["version"]
    assert {"type": "ACTIVATE_VERSION", "stream": "t", "version": version} in second.messages
    assert [row["id"] for row in source.warehouse.rows("t")] == [2, 3]
    assert source.state
    assert "t" not in source.state["bookmarks"]
    third = source.run()
    assert [record["id"] for record in third.records("t")] == [2, 3]
    assert source.run().records("t") == []


def test_other_replication_methods_are_refused(embedded: Source) -> None:
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY)")
    embedded.publish()
    catalog = embedded.catalog()
    catalog["streams"][0]["metadata"][-1]["metadata"]["replication-method"] = "INCREMENTAL"
    for metadata in catalog["streams"][0]["metadata"]:
        if not metadata["breadcrumb"]:
            metadata["metadata"]["replication-method"] = "INCREMENTAL"
    with pytest.raises(CaptureError, match="stream t: replication-method INCREMENTAL"):
        embedded.run(catalog=catalog)


def test_column_that_is_selected_later_is_copied(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1)")
    source.publish()
    catalog = source.catalog()
    for metadata in catalog["streams"][0]["metadata"]:
        if metadata["breadcrumb"] == ["properties", "n"]:
            metadata["metadata"]["selected"] = False
    assert "n" not in source.run(catalog=catalog).records("t")[0]
    assert source.run().records("t")[0]["n"] == 1


def test_deselected_columns_never_leave_the_database(source: Source) -> None:
    """The role need not even be allowed to read them."""
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY, secret text)",
        "INSERT INTO t VALUES (1, 'x')",
        f"CREATE ROLE {source.name} LOGIN REPLICATION PASSWORD 'p'",
        f"GRANT SELECT (id) ON t TO {source.name}",
    )
    source.publish()
    source.block |= {"username": source.name, "password": "p"}
    catalog = source.catalog()
    for metadata in catalog["streams"][0]["metadata"]:
        if metadata["breadcrumb"] == ["properties", "secret"]:
            metadata["metadata"]["selected"] = False
    assert [record["id"] for record in source.run(catalog=catalog).records("t")] == [1]
    source.sql(f"DROP OWNED BY {source.name}", f"DROP ROLE {source.name}")


def test_new_partition_with_rows_is_copied(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t VALUES (1)",
    )
    source.publish("FOR TABLE t WITH (publish_via_partition_root = true)")
    source.run()
    source.sql(
        "CREATE TABLE t_2 (id int PRIMARY KEY)",
        "INSERT INTO t_2 VALUES (101), (102)",
        "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (100) TO (200)",
        "DELETE FROM t WHERE id = 102",
    )
    run = source.run()
    assert 1 not in [record["id"] for record in run.records("t")]
    assert [row["id"] for row in source.warehouse.rows("t")] == [1, 101]


def test_truncated_partition_copies_its_table_again(source: Source) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t VALUES (1), (101)",
    )
    source.publish("FOR TABLE t WITH (publish_via_partition_root = true)")
    source.run()
    source.sql("TRUNCATE t_2")
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [1]


@pytest.mark.usefixtures("small_ranges")
def test_table_truncated_while_being_copied_starts_over(source: Source) -> None:
    source.sql(*BIG)
    source.publish()
    source.options["snapshot_workers"] = 1
    states = source.run().of("STATE")
    source.state = states[3]["value"]
    source.sql("TRUNCATE big", "INSERT INTO big VALUES (1, 'new')")
    run = source.run()
    assert [record["id"] for record in run.records("big")] == [1]
    assert [row["filler"] for row in source.warehouse.rows("big")] == ["new"]


MOMENTS = {
    "before its tables are read": (snapshot.TakenSnapshot, "take"),
    "before its rows are read": (snapshot.SnapshotCopy, "run"),
}
REWRITES = {
    "volatile default": "ALTER TABLE t ADD extra text DEFAULT md5(random()::text)",
    "another type": "ALTER TABLE t ALTER n TYPE bigint",
    "same columns": "ALTER TABLE t ALTER n TYPE int USING n + 1",
    "truncated": "TRUNCATE t",
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("rewrite", REWRITES)
def test_table_rewritten_after_the_snapshot_is_copied_again_in_the_same_run(
    source: Source,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    rewrite: str,
    moment: str,
) -> None:
    """Its rows are then invisible to the snapshot, though they were there when it was taken."""
    source.sql("CREATE TABLE t (id int PRIMARY KEY, n int)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    source.publish("FOR TABLE t")
    owner, name = MOMENTS[moment]
    original = getattr(owner, name)
    statements = [REWRITES[rewrite], "INSERT INTO t VALUES (3, 3)"]

    def rewrite_once() -> None:
        if statements:
            source.sql(*statements)
            statements.clear()

    def rewriting(*arguments: Any) -> Any:
        if moment == "before its rows are read":
            rewrite_once()
            return original(*arguments)
        result = original(*arguments)
        rewrite_once()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, rewriting)
        source.run()
    assert "Table public.t was truncated, altered or renamed" in caplog.text
    with source.connect() as connection:
        cursor = connection.execute("SELECT * FROM t ORDER BY id")
        names = [column.name for column in cursor.description or ()]
        expected = [dict(zip(names, row, strict=True)) for row in cursor]
    rows = [{name: row[name] for name in names} for row in source.warehouse.rows("t")]
    assert rows == expected


def test_partition_attached_after_the_snapshot_is_copied_by_the_next_run(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t_2 (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t_2 VALUES (101)",
    )
    source.publish("FOR TABLE t WITH (publish_via_partition_root = true)")
    original = snapshot.TakenSnapshot.take

    def take_then_attach(*arguments: Any) -> Any:
        taken = original(*arguments)
        source.sql(
            "INSERT INTO t_2 VALUES (102)",
            "ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (100) TO (200)",
        )
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(snapshot.TakenSnapshot, "take", take_then_attach)
        source.run()
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [1, 101, 102]


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_copied_of_a_table_that_took_the_name_of_another(
    embedded: Source, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its values would be of other types, and so no JSON; both are right after the same run."""
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, filler text)",
        "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 3000) i",
        "CREATE TABLE u (id text PRIMARY KEY, filler text)",
        "INSERT INTO u SELECT 'u' || i, repeat('u', 200) FROM generate_series(1, 3000) i",
    )
    embedded.publish()
    embedded.options["snapshot_workers"] = workers
    swap = [f"ALTER TABLE {a} RENAME TO {b}" for a, b in (("t", "x"), ("u", "t"), ("x", "u"))]
    original = snapshot.SnapshotCopy._finish

    def swap_then_finish(*arguments: Any) -> None:
        if swap:
            embedded.sql(*swap)
            swap.clear()
        original(*arguments)

    monkeypatch.setattr(snapshot.SnapshotCopy, "_finish", swap_then_finish)
    run = embedded.run()
    versions = sorted({message["version"] for message in run.of("RECORD")})
    first = [m["record"] for m in run.of("RECORD") if m["version"] == versions[0]]
    assert {type(record["id"]) for record in first} == {int}
    for stream in ("t", "u"):
        expected = embedded.sql(f"SELECT to_jsonb({stream}) FROM {stream}")
        rows = {str(row["id"]): row for row in embedded.warehouse.rows(stream)}
        assert rows == {str(row["id"]): row for (row,) in expected}


def test_empty_table_is_announced_and_done(source: Source) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    run = source.run()
    assert run.of("SCHEMA")[0]["stream"] == "t"
    assert source.state
    assert source.state["bookmarks"]["t"]["copied"] is True


def test_progress_tells_rows_percent_rate_and_time_left(
    embedded: Source, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.sql(*BIG, "ANALYZE big")
    embedded.publish()
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        embedded.run()
    line = next(line for line in caplog.messages if "rows/s, " in line)
    assert line.startswith("Copying public.big: ")
    assert "% of about 20,000, " in line
    assert line.endswith(" left")
    assert "Copied public.big: 20,000 rows" in caplog.text
    embedded.sql("UPDATE big SET filler = 'y'")
    with caplog.at_level(logging.INFO):
        embedded.run()
    assert any("changes/s" in line and "of WAL behind" in line for line in caplog.messages), (
        caplog.text
    )


def test_two_tables_of_one_name_need_the_schema_in_the_stream_s(source: Source) -> None:
    source.sql(
        "CREATE SCHEMA second",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "CREATE TABLE second.t (id int PRIMARY KEY)",
        "INSERT INTO second.t VALUES (2)",
    )
    source.publish()
    source.block["schemas"] = ["public", "second"]
    with pytest.raises(CaptureError, match=r"public\.t and second\.t .* schema-table"):
        source.run()
    source.options["stream_name"] = "schema-table"
    run = source.run()
    assert {message["stream"] for message in run.of("SCHEMA")} == {"public-t", "second-t"}
    assert [record["id"] for record in run.records("second-t")] == [2]


def test_only_tables_of_the_given_schemas_are_captured(source: Source) -> None:
    source.sql("CREATE SCHEMA second", "CREATE TABLE second.t (id int PRIMARY KEY)")
    source.sql("CREATE TABLE mine (id int PRIMARY KEY)")
    source.publish()
    assert [entry["stream"] for entry in source.catalog()["streams"]] == ["mine"]


def test_table_without_columns_does_not_stop_the_others(source: Source) -> None:
    source.sql("CREATE TABLE nothing ()", "INSERT INTO nothing DEFAULT VALUES")
    source.publish()
    assert len(source.run().records("nothing")) == 1
    source.sql("INSERT INTO nothing DEFAULT VALUES")
    assert len(source.run().records("nothing")) == 1


def test_column_that_records_need_for_themselves_is_refused(embedded: Source) -> None:
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY, _ab_cdc_lsn int)")
    embedded.publish()
    with pytest.raises(CaptureError, match=r"public\.t has a column _ab_cdc_lsn"):
        embedded.run()


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("workers", [1, 2])
def test_key_that_json_can_not_hold_lets_its_table_wait(embedded: Source, workers: int) -> None:
    """Until somebody changes it: found in the first copy, at each further run, in the stream."""
    embedded.sql(
        "CREATE TABLE bad (day date, id int, filler text, PRIMARY KEY (day, id))",
        "INSERT INTO bad SELECT 'today', i, repeat('x', 200) FROM generate_series(1, 3000) i",
        "UPDATE bad SET day = 'infinity' WHERE id IN (10, 2000)",
        "CREATE TABLE good (id int PRIMARY KEY, filler text)",
        "INSERT INTO good SELECT i, repeat('x', 200) FROM generate_series(1, 3000) i",
    )
    embedded.publish()
    embedded.options["snapshot_workers"] = workers
    refused = (
        "^stream bad: key column day holds values that can't be written, as JSON has no form .*: "
        "change them, or deselect the table; everything else is loaded"
    )
    assert len(embedded.run_to_failure(refused).records("good")) == 3000
    assert embedded.state
    assert embedded.state["bookmarks"]["good"]["copied"] is True
    assert embedded.state["bookmarks"]["bad"]["copied"] is False
    embedded.sql("INSERT INTO good VALUES (0, 'streamed')", "INSERT INTO bad VALUES ('today', 0)")
    assert [row["id"] for row in embedded.run_to_failure(refused).records("good")] == [0]
    embedded.sql("UPDATE bad SET day = 'tomorrow' WHERE day = 'infinity'")
    run = embedded.run()
    assert run.records("good") == []
    assert len(embedded.warehouse.rows("bad")) == 3001
    embedded.sql(
        "INSERT INTO bad VALUES ('infinity', 1)",
        "INSERT INTO good VALUES (-1, 'streamed')",
        "DELETE FROM bad WHERE id = 1",
    )
    assert [row["id"] for row in embedded.run_to_failure(refused).records("good")] == [-1]
    embedded.run()
    for stream in ("bad", "good"):
        expected = embedded.sql(f"SELECT to_jsonb(t) FROM {stream} t ORDER BY 1")
        rows = sorted(embedded.warehouse.rows(stream), key=lambda row: row["id"])
        assert rows == sorted((row for (row,) in expected), key=lambda row: row["id"])


def test_odd_names_are_quoted(source: Source) -> None:
    table = '"Odd % ""name"""'
    source.sql(
        f"""CREATE TABLE {table} ("Key %s" int PRIMARY KEY, "a ""b\\ ü" text)""",
        f"INSERT INTO {table} VALUES (1, '%s')",
    )
    source.publish()
    first = source.run()
    name = 'Odd % "name"'
    source.sql(f"INSERT INTO {table} VALUES (2, '%b')")
    second = source.run()
    assert [list(run.records(name)[0].values())[:2] for run in (first, second)] == [
        [1, "%s"],
        [2, "%b"],
    ]


def test_row_deleted_after_a_copy_that_finished_no_range_is_gone(source: Source) -> None:
    """It is loaded, and the snapshot that the copy goes on in does not see it any more."""
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    source.publish()
    begun, *_ = source.run().of("STATE")
    source.state = begun["value"]
    assert source.state["bookmarks"]["t"]["copied"] == ""
    source.sql("DELETE FROM t WHERE id = 1")
    source.run()
    assert [row["id"] for row in source.warehouse.rows("t")] == [2]


def test_processes_that_copy_start_without_the_sdk() -> None:
    """It takes most of a second to import."""
    heavy = "[name for name in ('singer_sdk', 'numpy', 'asyncssh') if name in sys.modules]"
    code = f"import sys, tap_postgres_cdc.copy_worker; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
