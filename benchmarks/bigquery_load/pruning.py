"""What a MERGE would read of a large table, with the loader's bounds and without them.

There is no BigQuery here, so blocks are counted: a table that is sorted by its key is cut into
blocks, and one is read if a literal range of the statement reaches into it.
https://cloud.google.com/bigquery/docs/clustered-tables#block-pruning
"""

from __future__ import annotations

import bisect
import random
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import pyarrow as pa

from benchmarks.report import table
from sandbox.bigquery import BigQueryEmulator
from target_bigquery.bounds import Bounds, Ranges
from target_bigquery.loader import Loader
from target_bigquery.settings import settings
from target_bigquery.values import ARROW_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS = 100_000_000
ROW_BYTES = 200
BLOCK_BYTES = 32 << 20
BLOCK_ROWS = BLOCK_BYTES // ROW_BYTES
DOLLARS_PER_TIB = 6.25
HEADER = ("batch", "ranges", "blocks read", "GB read", "share", "$ a MERGE")


class Workload(NamedTuple):
    """The keys of a batch."""

    name: str
    kind: str
    keys: Callable[[random.Random], Sequence[Any]]


def _recent(pick: random.Random) -> list[int]:
    """Return keys of rows that are changed the less the older they are."""
    return [max(0, ROWS - 1 - int(pick.expovariate(100 / ROWS))) for _ in range(10_000)]


def _new(_: random.Random) -> list[int]:
    return list(range(ROWS, ROWS + 10_000))


def _uuids(number: int) -> Callable[[random.Random], list[str]]:
    return lambda pick: [str(uuid.UUID(int=pick.getrandbits(128))) for _ in range(number)]


def _uniform(number: int) -> Callable[[random.Random], list[int]]:
    return lambda pick: pick.sample(range(ROWS), number)


WORKLOADS = (
    Workload("10,000 new rows", "INT64", _new),
    Workload(
        "10,000 new rows, 10 old ones", "INT64", lambda pick: [*_new(pick), *_uniform(10)(pick)]
    ),
    Workload("10,000 of the newest rows, fewer of older ones", "INT64", _recent),
    Workload("100 rows, from anywhere", "INT64", _uniform(100)),
    Workload("1,000 rows, from anywhere", "INT64", _uniform(1000)),
    Workload("10,000 rows, from anywhere", "INT64", _uniform(10_000)),
    Workload("1,000,000 rows, from anywhere", "INT64", _uniform(1_000_000)),
    Workload("1 row, random UUIDs as keys", "STRING", _uuids(1)),
    Workload("100 rows, random UUIDs as keys", "STRING", _uuids(100)),
    Workload("10,000 rows, random UUIDs as keys", "STRING", _uuids(10_000)),
)


def section() -> str:
    """Return what RESULTS.md says of it."""
    blocks = -(-ROWS // BLOCK_ROWS)
    rows = [_row("any, without bounds", "", blocks, blocks)]
    for workload in WORKLOADS:
        found = _ranges(workload)
        rows.append(
            _row(workload.name, str(len(found)), _blocks_read(workload.kind, found), blocks)
        )
    compared = compare()
    return f"""## Bytes that a MERGE reads

Counted, not measured: a table of {ROWS:,} rows of {ROW_BYTES} bytes, clustered by its key, in
{blocks:,} blocks of {BLOCK_BYTES >> 20} MiB. BigQuery does not say how large blocks are, only that
their size adapts to the table's; PeerDB's MERGE with a range of 10,000 keys read
[37 MB of 10 GB](https://blog.peerdb.io/reducing-bigquery-costs-by-260x), source included. The
layout is the best there is: all rows are clustered, as they are when BigQuery has come round to it.
The ranges are those that the loader writes into ON for such a batch. The staging table comes on
top; {DOLLARS_PER_TIB} $ per TiB is the price on demand in the US.

{table(HEADER, rows)}

Keys that grow with time are what bounds are for. A few rows from anywhere are read a block each,
with UUIDs as keys too; many leave hardly a block out. There only a
partition by time that is part of the key helps, or fewer and larger flushes.

That bounds change no result is tested; here, {compared}.
"""


def _row(name: str, ranges: str, read: int, blocks: int) -> list[str]:
    read_bytes = read * BLOCK_BYTES
    price = max(read_bytes, 10 << 20) / (1 << 40) * DOLLARS_PER_TIB
    share = f"{read / blocks:.1%}"
    return [name, ranges, f"{read:,}", f"{read_bytes / 1e9:.2f}", share, f"{price:.4f}"]


def _ranges(workload: Workload) -> Ranges:
    bounds = Bounds(workload.kind, split=True)
    keys = workload.keys(random.Random(7))
    for start in range(0, len(keys), 512):
        bounds.add(pa.array(keys[start : start + 512], ARROW_TYPES[workload.kind]))
    return bounds.ranges()


def _blocks_read(kind: str, ranges: Ranges) -> int:
    """Return how many blocks some range reaches into; below the first key is none, as above."""
    begins: list[Any]
    ends: list[tuple[Any, Any]]
    if kind == "INT64":
        begins = list(range(0, ROWS, BLOCK_ROWS))
        ends = [(int(low), int(high or ROWS)) for low, high in ranges]
        last: Any = ROWS - 1
    else:  # random keys are spread evenly
        number = -(-ROWS // BLOCK_ROWS)
        begins = [str(uuid.UUID(int=(n << 128) // number)) for n in range(number)]
        ends = [(low.strip("'"), (high or "g").strip("'")) for low, high in ranges]
        last = "g"
    read: set[int] = set()
    for low, high in ends:
        if low <= last:
            first = max(0, bisect.bisect_right(begins, low) - 1)
            read.update(range(first, bisect.bisect_right(begins, high)))
    return len(read)


def compare() -> str:
    """Load the same random changes with bounds and without them, and compare the tables.

    Raises:
        RuntimeError: they differ.
    """
    pick = random.Random(11)
    batches = [_changes(pick, number) for number in range(5)]
    with BigQueryEmulator() as emulator, ExitStack() as stack:
        stack.enter_context(mock.patch.dict("os.environ", emulator.environ))
        client = emulator.client()
        for dataset in ("bounded", "unbounded"):
            if dataset == "unbounded":
                unbounded = mock.patch("target_bigquery.streams.bounded_keys", return_value=())
                stack.enter_context(unbounded)
            for lines in batches:
                config = {
                    "project": client.project,
                    "dataset": dataset,
                    "add_record_metadata": False,
                }
                loader = Loader(settings(config), lambda _: None)
                loader.read([lines])
                loader.close(complete=True)
        names = ("bounded", "unbounded")
        queries = [f"SELECT * FROM `{client.project}.{name}.s` ORDER BY k, id" for name in names]
        found = [[tuple(row.values()) for row in client.query(query).result()] for query in queries]
        client.close()  # type: ignore[no-untyped-call]
    if found[0] != found[1]:
        raise RuntimeError("a MERGE with bounds left another table than one without")
    changes = sum(len(lines) - 1 for lines in batches)
    return f"{changes:,} random changes with and without them left the same {len(found[0]):,} rows"


def _changes(pick: random.Random, number: int) -> list[bytes]:
    schema = (
        b'{"type":"SCHEMA","stream":"s","key_properties":["k","id"],"schema":{"properties":{'
        b'"id":{"type":"integer"},"k":{"type":"string"},"n":{"type":["integer","null"]},'
        b'"_sdc_deleted_at":{"type":["string","null"]}}}}'
    )
    low = pick.randrange(20_000)
    lines = []
    for n in range(2000):
        gone = '"now"' if n % 10 == 1 else "null"
        key = f'"id":{low + pick.randrange(5000)},"k":"{pick.choice("ab")}"'
        record = f'{{{key},"n":{number * 10_000 + n},"_sdc_deleted_at":{gone}}}'
        lines.append(f'{{"type":"RECORD","stream":"s","record":{record}}}'.encode())
    return [schema, *lines]
