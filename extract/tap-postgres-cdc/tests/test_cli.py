"""The command: what it says of itself, how it ends, and what a run leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tap_postgres_cdc import capture, sessions
from tap_postgres_cdc.output import DirectOutput

if TYPE_CHECKING:
    from conftest import Run, Source

COMMAND = Path(sys.executable).with_name("tap-postgres-cdc")


def finish(process: subprocess.Popen[bytes]) -> tuple[list[bytes], str]:
    """The lines that are left, and the log; `communicate` would not know what was read before."""
    with process:
        assert process.stdout
        assert process.stderr
        return process.stdout.readlines(), process.stderr.read().decode()


@pytest.fixture
def table(embedded: Source) -> Source:
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, name text)",
        "INSERT INTO t SELECT i, 'n' || i FROM generate_series(1, 100) i",
    )
    embedded.publish()
    return embedded


def test_about_describes_every_setting() -> None:
    run = subprocess.run([COMMAND, "--about", "--format=json"], capture_output=True, check=True)
    about = json.loads(run.stdout)
    settings = about["settings"]["properties"]
    assert set(settings) >= {"airbyte_config", "stream_name", "snapshot_workers", "stream_maps"}
    assert all(value.get("description") for value in settings.values())
    block = settings["airbyte_config"]["properties"]
    assert all(value.get("description") for value in block.values())
    assert block["password"]["writeOnly"] is True


def test_discover_writes_a_catalog(table: Source) -> None:
    process = table.start("--discover")
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    (stream,) = json.loads(stdout)["streams"]
    assert stream["tap_stream_id"] == "t"
    assert stream["replication_method"] == "LOG_BASED"
    assert stream["key_properties"] == ["id"]
    metadata = {tuple(entry["breadcrumb"]): entry["metadata"] for entry in stream["metadata"]}
    assert metadata[()]["schema-name"] == "public"
    assert metadata[()]["table-key-properties"] == ["id"]
    assert metadata["properties", "id"]["inclusion"] == "automatic"
    assert metadata["properties", "name"]["inclusion"] == "available"
    assert metadata["properties", "_ab_cdc_deleted_at"]["inclusion"] == "automatic"


def test_catalog_and_state_files_are_taken(table: Source) -> None:
    catalog = table.folder / "catalog.json"
    catalog.write_text(json.dumps(table.catalog()))
    first = table.execute("--catalog", str(catalog))
    assert (first.code, len(first.records("t"))) == (0, 100)
    table.state = first.state
    second = table.execute("--catalog", str(catalog))
    assert (second.code, len(second.records("t"))) == (0, 0)


def test_test_reads_a_row_of_each_table(table: Source) -> None:
    run = table.execute("--test")
    assert run.code == 0
    assert len(run.records("t")) == 1


def test_test_fails_without_the_slot(table: Source) -> None:
    table.slot = "nothing"
    run = table.execute("--test")
    assert run.code == 1
    assert 'replication slot "nothing" does not exist' in run.last_line


def test_error_is_the_last_line_without_traceback(table: Source) -> None:
    table.block["password"] = "wrong"
    run = table.execute()
    assert run.code == 1
    assert run.lines == []
    assert 'the server refused user "postgres"' in run.last_line
    assert "Traceback" not in run.log
    assert "wrong" not in run.log


def test_traceback_comes_with_debug_logging(table: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAP_POSTGRES_CDC_LOGLEVEL", "DEBUG")
    table.block["password"] = "wrong"
    assert "Traceback" in table.execute().log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_run_with_the_last_state(table: Source, number: signal.Signals) -> None:
    """In the middle of a copy of a table that is large enough to be caught at it."""
    table.sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(101, 100000) i")
    process = table.start()
    assert process.stdout
    head = [process.stdout.readline() for _ in range(1000)]
    process.send_signal(number)
    rest, log = finish(process)
    assert process.returncode == 128 + number
    assert "Stopped as asked" in log
    lines = [*head, *rest]
    assert len(lines) < 100_000
    assert all(line.endswith(b"\n") for line in lines)
    state = json.loads(lines[-1])
    assert state["type"] == "STATE"
    table.warehouse.apply(map(json.loads, lines))
    table.state = state["value"]
    assert isinstance(state["value"]["bookmarks"]["t"]["copied"], str)
    table.run()
    assert len(table.warehouse.rows("t")) == 100_000


def test_signal_in_the_stream_ends_at_the_last_whole_transaction(table: Source) -> None:
    """Python cuts a write short that a signal interrupts: no line may lack its end."""
    table.run()
    for start in range(1000, 5000, 1000):
        table.sql(f"INSERT INTO t SELECT i, 'x' FROM generate_series({start}, {start + 999}) i")
    table.sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(10000, 100000) i")
    process = table.start()
    assert process.stdout
    head = [process.stdout.readline() for _ in range(5000)]
    process.terminate()
    rest, _ = finish(process)
    assert process.returncode == 143
    messages = [json.loads(line) for line in [*head, *rest]]
    assert messages[-1]["type"] == "STATE"
    table.warehouse.apply(messages)
    table.state = messages[-1]["value"]
    table.run()
    ((count,),) = table.sql("SELECT count(*) FROM t")
    assert len(table.warehouse.rows("t")) == count


def test_loader_that_is_gone_is_told_in_one_line(table: Source) -> None:
    table.sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(101, 100000) i")
    process = table.start()
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    log = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(30) == 1
    assert "the loader has gone" in log.strip().splitlines()[-1]
    assert "Traceback" not in log


def test_loader_that_pauses_does_not_lose_the_connection(
    table: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walsender gives up on a client that says nothing, also when the loader keeps it waiting."""
    monkeypatch.setitem(sessions._SETTINGS, "wal_sender_timeout", "2s")
    monkeypatch.setattr("tap_postgres_cdc.replication._STATUS_SECONDS", 0.5)
    table.run()
    table.sql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(101, 50000) i")
    write = DirectOutput.records
    pauses = [5.0]

    def slow(self: DirectOutput, lines: bytes) -> None:
        write(self, lines)
        time.sleep(pauses.pop() if pauses else 0)

    monkeypatch.setattr(DirectOutput, "records", slow)
    assert len(table.run().records("t")) == 49_900
    assert not pauses


def test_state_comes_often(table: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    table.run()
    monkeypatch.setattr(capture, "STATE_CHANGES", 100)
    for i in range(10):
        table.sql(f"INSERT INTO t SELECT {i} * 1000 + j, 'x' FROM generate_series(201, 260) j")
    states = table.run().of("STATE")
    # One at the end, and one after every second transaction.
    assert len(states) == 6


def test_secrets_are_in_no_argument_or_line(table: Source) -> None:
    """Also not in those of the processes that copy."""
    role = f"{table.name}_reader"
    table.sql(
        "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(101, 100000) i",
        f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 's3cret-w0rd'",
        f"GRANT SELECT ON t TO {role}",
    )
    table.block |= {"username": role, "password": "s3cret-w0rd"}
    process = table.start()
    assert process.stdout
    seen = [process.stdout.readline() for _ in range(2000)]
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    rest, log = finish(process)
    assert process.returncode == 0
    # Other tests on this machine may have some of their own.
    assert any(b"tap_postgres_cdc.copy_worker" in command for command in commands)
    for text in (*commands, *seen, *rest, log.encode()):
        assert b"s3cret-w0rd" not in text


def test_stream_maps_apply(table: Source) -> None:
    table.options["stream_maps"] = {
        "t": {"name": "name.upper()", "double": "id * 2", "__filter__": "id != 2"}
    }
    run = table.run()
    assert len(run.records("t")) == 99
    assert run.records("t")[0] | {"name": "N1", "double": 2} == run.records("t")[0]
    assert "double" in run.of("SCHEMA")[0]["schema"]["properties"]
    assert run.of("RECORD")[0]["version"] == run.of("ACTIVATE_VERSION")[0]["version"]
    table.sql(
        "UPDATE t SET name = 'new' WHERE id = 1", "TRUNCATE t", "INSERT INTO t VALUES (7, 'x')"
    )
    run = table.run()
    assert [record["name"] for record in run.records("t")] == ["NEW", "X"]
    assert len(run.of("ACTIVATE_VERSION")) == 1


def test_stream_maps_rename_streams_and_drop_columns(table: Source) -> None:
    table.options["stream_maps"] = {"t": {"__alias__": "people", "name": None}}
    run = table.run()
    assert run.records("t") == []
    assert len(run.records("people")) == 100
    assert "name" not in run.records("people")[0]


def test_flattening_applies(embedded: Source) -> None:
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, doc jsonb, n numeric(20, 10))",
        """INSERT INTO t VALUES (1, '{"a": {"b": 1.10}}', 1234567890.0123456789)""",
    )
    embedded.publish()
    embedded.options |= {"flattening_enabled": True, "flattening_max_depth": 2}
    (record,) = embedded.run().records("t")
    assert record["n"] == "1234567890.0123456789"
    assert record["id"] == 1
    assert any("1.1" in str(value) for name, value in record.items() if name.startswith("doc"))


def test_records_are_alike_on_both_paths(table: Source) -> None:
    table.sql("ALTER TABLE t ADD doc jsonb", """INSERT INTO t VALUES (0, 'ü', '{"a": [1.50]}')""")
    fast = table.run()
    table.state = None
    table.options["stream_maps"] = {"nothing*": {"x": "1"}}
    slow = table.run()

    def plain(run: Run) -> list[Any]:
        names = ("id", "name", "doc")
        return [[record[name] for name in names] for record in run.records("t")]

    assert plain(fast) == plain(slow)
    assert fast.of("SCHEMA") == slow.of("SCHEMA")


def test_a_secret_file_that_others_may_read_is_told_by_the_check(
    table: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.touch(mode=0o600)
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    assert b"secrets" not in table.start("check").communicate()[0]
    file.chmod(0o640)
    output = table.start("check").communicate()[0].decode()
    assert f"! other users of this machine may read {file}, which holds secrets" in output
    assert f"chmod 600 {file}" in output
