"""What the emulator proves least, first of all that `make test-bigquery` tries on the real service.

What can be asked of the emulator at all runs there too.
"""

import io
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sandbox.singer import INTEGER, TEXT, record, schema, state
from target_bigquery.column_types import INT64
from target_bigquery.emulator import open_warehouse
from target_bigquery.settings import settings
from target_bigquery.tables import NewColumn

TIME = {"type": ["null", "string"], "format": "time", "airbyte_type": "time_without_timezone"}
DATETIME = {
    "type": ["null", "string"],
    "format": "date-time",
    "airbyte_type": "timestamp_without_timezone",
}
LARGE = 20_000_000  # rows: some GB, so that the least charge of 10 MB is far below


def test_times_of_day_and_datetimes_are_read_from_parquet_to_the_microsecond(dataset: Any) -> None:
    times = ["00:00:00", "00:00:00.000001", "12:34:56.789012", "23:59:59.999999"]
    moments = ["0001-01-01T00:00:00", "1969-12-31T23:59:59.999999", "2024-02-29T12:34:56.789012",
               "9999-12-31T23:59:59.999999"]  # fmt: skip
    rows = [{"id": n, "t": t, "d": d} for n, (t, d) in enumerate(zip(times, moments, strict=True))]
    declared = {"id": INTEGER, "t": TIME, "d": DATETIME}
    dataset.load([schema("s", declared), *(record("s", row) for row in rows), state(1)])
    expected = [
        (n, time.fromisoformat(t), datetime.fromisoformat(d))
        for n, (t, d) in enumerate(zip(times, moments, strict=True))
    ]
    assert dataset.rows("s", "id, t, d") == expected
    assert dataset.types("s")["t"] == "TIME"
    assert dataset.types("s")["d"] == "DATETIME"


def test_a_clustered_integer_key_is_widened_to_numeric(dataset: Any) -> None:
    decimal = {"type": "string", "format": "singer.decimal", "precision": 29, "scale": 0}
    before = [schema("s", {"id": INTEGER, "a": TEXT})]
    before += [record("s", {"id": n, "a": "1"}) for n in (1, 2, 2**63 - 1)]
    dataset.load([*before, state(1)])
    after = [schema("s", {"id": decimal, "a": TEXT})]
    after += [record("s", {"id": str(n), "a": "2"}) for n in (2, 2**63 - 1, 10**20)]
    assert dataset.load([*after, state(2)]) == [2]
    assert dataset.types("s")["id"] == "NUMERIC"
    assert dataset.rows("s", "id, a") == [
        (Decimal(1), "1"), (Decimal(2), "2"), (Decimal(2**63 - 1), "2"), (Decimal(10**20), "2"),
    ]  # fmt: skip


def test_two_runs_at_once_end_well_and_double_nothing(dataset: Any) -> None:
    """Two MERGEs on one table: BigQuery refuses one of them for a while, and it is sent again."""
    declared = schema("s", {"id": INTEGER, "a": TEXT})
    dataset.load([declared, record("s", {"id": 0, "a": "0"}), state(1)])

    def run(first: int) -> int:
        rows = [record("s", {"id": n, "a": str(first)}) for n in range(first, first + 60)]
        result = dataset.run([declared, *rows, state(first)], flush_rows=20, timeout=900)
        return int(result.returncode)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(run, (1, 31))) == [0, 0]
    assert [row[0] for row in dataset.rows("s", "id")] == list(range(91))
    dataset.assert_unique("s", "id")


def test_a_staging_table_expires_by_itself(dataset: Any, real_bigquery: None) -> None:
    """The emulator ignores the expiry: there it is only seen in the request (test_failures)."""
    warehouse = open_warehouse(settings(dataset.config()), run=uuid.uuid4().hex[:12])
    warehouse.open()
    name = warehouse.staging_name("s", 1)
    parquet = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), parquet)
    warehouse.load(name, [NewColumn("id", INT64)], parquet)
    warehouse.close()
    expires = dataset.client.get_table(f"{dataset.project}.{dataset.name}.{name}").expires
    assert timedelta(hours=23) < expires - datetime.now(UTC) <= timedelta(days=1)


def test_bounds_make_the_merge_of_a_few_rows_cheap(dataset: Any, real_bigquery: None) -> None:
    """Twenty rows at the end of a clustered table bill a small part of what they would without."""
    declared = schema("s", {"id": INTEGER, "a": TEXT})
    dataset.load([declared, record("s", {"id": 0, "a": "0"}), state(1)])
    dataset.query(
        "INSERT INTO `{d}.s` (id, a) SELECT id, TO_HEX(SHA512(CAST(id AS STRING))) "
        f"FROM UNNEST(GENERATE_ARRAY(1, {LARGE})) id"
    )
    table = dataset.client.get_table(f"{dataset.project}.{dataset.name}.s")
    rows = [record("s", {"id": LARGE - n, "a": "new"}) for n in range(20)]
    began = datetime.now(UTC)
    dataset.load([declared, *rows, state(2)])
    billed = [
        job.total_bytes_billed
        for job in dataset.client.list_jobs(min_creation_time=began)
        if job.job_type == "query"
        and job.statement_type == "MERGE"
        and job.destination == table.reference
    ]
    print(f"the table has {table.num_bytes:,} bytes, the MERGE billed {billed}")
    assert len(billed) == 1
    assert billed[0] < table.num_bytes / 5
