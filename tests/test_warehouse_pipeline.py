"""Both sources under Meltano, into the embedded BigQuery."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.meltano import Meltano
from sandbox.postgres import PASSWORD, embedded_programs, running
from sandbox.services import tap_environ

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TARGET = "target-bigquery"
DATASET = "pipeline"
PIPELINE = ("run", "tap-my-postgres-datasource", TARGET)
# The tap with small ranges and frequent states, so that a short run has many of them.
EAGER_TAP = f"""#!{sys.executable}
from tap_postgres_cdc import capture, snapshot, tap
capture.STATE_SECONDS = 0
snapshot.FIRST_RANGE_BLOCKS = snapshot._LEAST_BLOCKS = snapshot._MOST_BLOCKS = 8
tap.TapPostgresCDC.cli()
"""


@pytest.fixture
def warehouse() -> Iterator[BigQueryEmulator]:
    with BigQueryEmulator() as emulator:
        yield emulator


@pytest.fixture
def loading(warehouse: BigQueryEmulator) -> dict[str, str]:
    settings = {"TARGET_BIGQUERY_PROJECT": PROJECT, "TARGET_BIGQUERY_DATASET": DATASET}
    return {**warehouse.environ, **settings}


def rows(warehouse: BigQueryEmulator, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in warehouse.client().query_and_wait(query)]


def test_comics_arrive_with_their_types_and_once(
    tmp_path: Path,
    environment: dict[str, str],
    loading: dict[str, str],
    warehouse: BigQueryEmulator,
) -> None:
    meltano = Meltano(ROOT, tmp_path, {**environment, **loading})
    for _ in range(2):
        meltano.run("run", "tap-oso-example", TARGET)
    [counts] = rows(
        warehouse,
        f"SELECT COUNT(*) AS comics, COUNT(DISTINCT num) AS numbers, COUNTIF(is_good) AS good,"
        f" CAST(MAX(published_on) AS STRING) AS last FROM {DATASET}.xkcd_comics",
    )
    assert counts == {"comics": 40, "numbers": 40, "good": 4, "last": "2006-02-10"}
    [releases] = rows(
        warehouse, f"SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM {DATASET}.github_releases"
    )
    assert releases == {"n": 18, "ids": 18}


def test_warehouse_equals_the_source_after_each_run(
    tmp_path: Path, loading: dict[str, str], warehouse: BigQueryEmulator
) -> None:
    with running(embedded_programs()) as server, server.connect() as source:
        source.execute(
            "CREATE TABLE votes (id int PRIMARY KEY, name text, share numeric(10, 2), large text)"
        )
        source.execute("ALTER TABLE votes ALTER large SET STORAGE EXTERNAL")
        source.execute(
            "INSERT INTO votes SELECT i, 'n' || i, i / 100.0, repeat('x', 5000)"
            " FROM generate_series(1, 500) i"
        )
        source.execute("CREATE PUBLICATION oso_publication FOR TABLE votes")
        source.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        meltano = Meltano(ROOT, tmp_path, {**loading, **tap_environ(server, "postgres", PASSWORD)})
        pipeline = ("run", "tap-my-postgres-datasource", TARGET)

        meltano.run(*pipeline)
        assert _stored(warehouse) == _expected(source)

        source.execute("UPDATE votes SET name = 'new' WHERE id <= 10")
        source.execute("UPDATE votes SET id = 1000 WHERE id = 20")
        source.execute("DELETE FROM votes WHERE id > 490 AND id < 1000")
        source.execute("ALTER TABLE votes ADD COLUMN seen boolean")
        source.execute("INSERT INTO votes VALUES (2000, NULL, -0.01, '', true)")
        meltano.run(*pipeline)
        assert _stored(warehouse) == _expected(source)
        assert len(_stored(warehouse)) == 491

        source.execute("TRUNCATE votes")
        source.execute("INSERT INTO votes VALUES (1, 'again', 1, 'y', false)")
        meltano.run(*pipeline)
        assert _stored(warehouse) == _expected(source)
        [keys] = rows(
            warehouse, f"SELECT COUNT(*) = COUNT(DISTINCT id) AS once FROM {DATASET}.votes"
        )
        assert keys == {"once": True}


@pytest.mark.parametrize("whole_group", [True, False], ids=["Ctrl-C", "the tap alone"])
def test_a_stopped_first_copy_goes_on_where_its_saved_state_ends(
    tmp_path: Path, loading: dict[str, str], warehouse: BigQueryEmulator, *, whole_group: bool
) -> None:
    with running(embedded_programs()) as server, server.connect() as source:
        source.execute("CREATE TABLE votes (id int PRIMARY KEY, name text)")
        source.execute(
            "INSERT INTO votes SELECT i, repeat('n', 1000) FROM generate_series(1, 15000) i"
        )
        source.execute("CREATE PUBLICATION oso_publication FOR TABLE votes")
        source.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        settings = {**loading, **tap_environ(server, "postgres", PASSWORD)}
        meltano = _with_eager_tap(tmp_path, settings)
        meltano.env["TARGET_BIGQUERY_FLUSH_ROWS"] = "2000"
        meltano.env["MELTANO_ELT_BUFFER_SIZE"] = "100000"  # or it would hold all that the tap has

        log = _stopped_run(meltano, whole_group=whole_group)
        assert "Stopped as asked" in log
        assert "rows loaded into" in log.split("Stopped as asked")[1], "what was read was dropped"
        [loaded] = rows(warehouse, f"SELECT COUNT(*) AS n FROM {DATASET}.votes")
        assert loaded["n"] < 15000, "it was not stopped"
        assert f"({loaded['n']:,} in all)" in log, "the target did not load what it had read"
        bookmark = meltano.state(f"dev:{PIPELINE[1]}-to-{TARGET}")["bookmarks"]["votes"]
        _, end = bookmark["copied"].split(":")
        [(copied,)] = source.execute(
            f"SELECT count(*) FROM votes WHERE ctid < '({int(end)},0)'"
        ).fetchall()
        assert 0 < copied <= loaded["n"]

        stopped = datetime.now(UTC)
        meltano.env["TARGET_BIGQUERY_FLUSH_ROWS"] = "1000000"
        meltano.run(*PIPELINE)
        assert _stored(warehouse) == _expected(source)
        [again] = rows(
            warehouse,
            f"SELECT COUNTIF(_sdc_received_at > '{stopped.isoformat()}') AS n FROM {DATASET}.votes",
        )
        assert again["n"] == 15000 - copied


def _with_eager_tap(folder: Path, settings: dict[str, str]) -> Meltano:
    meltano = Meltano.in_copy(ROOT, folder, settings)
    tap = folder / "eager-tap"
    tap.write_text(EAGER_TAP)
    tap.chmod(0o755)
    definition = meltano.root / "extract" / "postgres.meltano.yml"
    text = definition.read_text().replace("    config:", f"    executable: {tap}\n    config:", 1)
    definition.write_text(text)
    return meltano


def _stopped_run(meltano: Meltano, *, whole_group: bool) -> str:
    """Run until the state of the first rows is saved, then stop; gives the log."""
    log: list[str] = []
    with meltano.start(*PIPELINE) as process:
        assert process.stderr
        for line in process.stderr:
            log.append(line)
            if sum("Incremental state has been updated" in line for line in log) == 2:
                break
        if whole_group:
            os.killpg(process.pid, signal.SIGINT)
        else:
            [tap] = [
                child
                for child in psutil.Process(process.pid).children()
                if any(part.endswith("eager-tap") for part in child.cmdline())
            ]
            tap.terminate()
        log += process.stderr
    assert process.returncode == 1, "".join(log)
    return "".join(log)


def _expected(source: Any) -> list[dict[str, Any]]:
    cursor = source.execute("SELECT * FROM votes ORDER BY id")
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def _stored(warehouse: BigQueryEmulator) -> list[dict[str, Any]]:
    """Rows that are alive, without the columns of change data capture and of the loader."""
    alive = f"SELECT * FROM {DATASET}.votes WHERE _ab_cdc_deleted_at IS NULL ORDER BY id"
    return [
        {name: value for name, value in row.items() if not name.startswith(("_ab_", "_sdc_"))}
        for row in rows(warehouse, alive)
    ]
