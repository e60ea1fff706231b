"""Both sources under Meltano, into the embedded BigQuery."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
