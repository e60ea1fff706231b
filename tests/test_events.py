"""What the owner of a database does, through Meltano into BigQuery: one event of each kind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.diff import differences
from sandbox.events import EVENTS, When, page
from sandbox.events.stage import Stage
from sandbox.meltano import Meltano
from sandbox.postgres import PASSWORD, Postgres, embedded_programs, running
from sandbox.services import tap_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PIPELINE = ("run", "tap-my-postgres-datasource", "target-bigquery")
DATASET = "events"
SETTINGS = "TAP_MY_POSTGRES_DATASOURCE_"


# Of each kind the one that asks most of the loader; they can share a publication.
NAMES = (
    "ADD COLUMN with a constant default",
    "DROP COLUMN, ADD COLUMN of the same name",
    "RENAME COLUMN away and back",
    "DROP TABLE",
    "TRUNCATE, then VACUUM FULL",
    "int to int USING a * 100",
    "int to text",
    "RENAME VALUE of an enum in an array",
    "ADD ATTRIBUTE to a composite",
    "Key dropped, rows loaded, the same key made",
    "Key moved to another column",
    "Key moved to a column with the same values in other rows",
    "Composite key made coarser",
    "Key given to a table without",
    "Key dropped, with REPLICA IDENTITY FULL",
    "CREATE TABLE … PARTITION OF, and rows",
    "ATTACH PARTITION with rows to a table without key",
    "DETACH PARTITION, changes, and ATTACH PARTITION",
    "Two partitions swapped",
    "A row filter set and removed, with changes in between",
)
SOME = [event for event in EVENTS if event.name in NAMES and event.when is When.BETWEEN]


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running(embedded_programs()) as server:
        yield server


def test_warehouse_is_equal_after_an_event_of_each_kind(server: Postgres, tmp_path: Path) -> None:
    assert len(SOME) == len(NAMES)
    stage = Stage(server.connect, SOME)
    stage.make()
    with BigQueryEmulator() as emulator, contextlib.closing(emulator.client()) as client:
        settings = {
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": DATASET,
            f"{SETTINGS}STREAM_NAME": "schema-table",
            f"{SETTINGS}AIRBYTE_CONFIG_SCHEMAS": json.dumps(stage.schemas),
        }
        environ = tap_environ(server, "postgres", PASSWORD)
        meltano = Meltano(ROOT, tmp_path, {**emulator.environ, **environ, **settings})

        def different() -> dict[str, object]:
            names = {home: event.name for event, home in stage.homes.items()}
            with server.connect() as source:
                return {
                    f"{names.get(report.table.split('.')[0])}: {report.table}": report
                    for report in differences(source, client, DATASET)
                    if not report.is_equal
                }

        def run() -> str:
            done = meltano.run(*PIPELINE, check=False)
            errors = [line for line in done.stderr.splitlines() if "[error" in line]
            assert done.returncode == 0, "\n".join(errors)
            return done.stderr

        run()
        assert different() == {}
        stage.change("before")
        for event in stage.homes:
            stage.do(event, event.statements)
        stage.change("after")
        run()
        assert different() == {}
        stage.change("later")
        log = run()
        assert different() == {}
        assert "will be copied" not in log


def test_refresh_that_is_killed_while_it_copies_is_finished_by_the_next_run(
    server: Postgres, tmp_path: Path
) -> None:
    """Meltano merges its state into the one before, in which the tables were copied."""
    with server.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, a int, padding text)")
        rows = "SELECT i, i, repeat('x', 500) FROM generate_series(1, 10000) i"
        connection.execute(f"INSERT INTO t {rows}")
        connection.execute("CREATE PUBLICATION oso_publication FOR TABLE t")
        connection.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
    with BigQueryEmulator() as emulator, contextlib.closing(emulator.client()) as client:
        settings = {
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": DATASET,
            "MELTANO_CLI_LOG_LEVEL": "info",
        }
        environ = tap_environ(server, "postgres", PASSWORD)
        meltano = Meltano(ROOT, tmp_path, {**emulator.environ, **environ, **settings})
        meltano.run(*PIPELINE)
        with server.connect() as connection:
            connection.execute("ALTER TABLE t ALTER a TYPE int USING a * 100")
        meltano.env[f"{SETTINGS}MAX_ROWS_PER_SECOND"] = "500"
        with meltano.start(*PIPELINE, "--full-refresh") as process:
            assert process.stderr
            for line in process.stderr:
                if "Incremental state has been updated" in line:
                    break
            os.killpg(process.pid, signal.SIGKILL)
        del meltano.env[f"{SETTINGS}MAX_ROWS_PER_SECOND"]
        with contextlib.closing(sqlite3.connect(tmp_path / "meltano.db")) as database:
            ((saved,),) = database.execute("SELECT partial_state FROM state").fetchall()
        bookmark = json.loads(saved)["singer_state"]["bookmarks"]["t"]
        assert bookmark.get("copied") is not True, "it was not killed in time"
        meltano.run(*PIPELINE, "--force")
        with server.connect() as source:
            (report,) = differences(source, client, DATASET)
        assert report.is_equal, report


def test_page_holds_the_table_of_events() -> None:
    text = (ROOT / page.PAGE).read_text()
    assert text == page.filled(text), "run: .venv/bin/python -m sandbox.events"
