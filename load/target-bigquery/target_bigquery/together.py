"""Small batches of several streams in one staging table: one load job instead of many.

The table has as many columns of a type as the stream with the most of it, so that it stays narrow
whatever the streams are; each stream's statement reads its own rows under their own names.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_END
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from target_bigquery.batch import Batch
from target_bigquery.column_types import INT64
from target_bigquery.sql import quoted
from target_bigquery.tables import NewColumn

MOST_ROWS = 5_000  # of a batch that counts as small
MOST_BYTES = 1 << 20
GROUP_BYTES = 4 << 20  # of all of them together: what is sent in one call

_STREAM = "_sdc_staged_stream"  # INT64, the number of the batch


@dataclass(frozen=True)
class Together:
    """What to load, and how each batch is read again.

    Args:
        columns: of the staging table.
        parquet: its rows.
        selections: for each batch, the query for its rows; `{staging}` stands for the table.
    """

    columns: tuple[NewColumn, ...]
    parquet: IO[bytes]
    selections: tuple[str, ...]


def groups(batches: Iterable[Batch]) -> Iterator[list[int]]:
    """Yield the numbers of batches that go together; one alone is not worth it."""
    group: list[int] = []
    total = 0
    for number, batch in enumerate(batches):
        size = batch.finish().seek(0, SEEK_END) if batch.rows <= MOST_ROWS else MOST_BYTES + 1
        if size > MOST_BYTES:
            continue
        if total + size > GROUP_BYTES:
            if len(group) > 1:
                yield group
            group, total = [], 0
        group.append(number)
        total += size
    if len(group) > 1:
        yield group


def together(batches: Sequence[Batch]) -> Together:
    """Return the batches as one file."""
    columns: dict[tuple[str, int], NewColumn] = {}
    tables: list[pa.Table] = []
    selections: list[str] = []
    for number, batch in enumerate(batches):
        used: Counter[str] = Counter()
        names: list[str] = []
        selected: list[str] = []
        for column in batch.staged_columns():
            kind = str(column.type)
            slot = NewColumn(f"c{len(columns)}", column.type)
            slot = columns.setdefault((kind, used[kind]), slot)
            used[kind] += 1
            names.append(slot.name)
            selected.append(f"{slot.name} AS {quoted(column.name)}")
        table = pq.read_table(batch.finish()).rename_columns(names)
        numbers = pa.repeat(pa.scalar(number, pa.int64()), table.num_rows)
        tables.append(table.append_column(_STREAM, numbers))
        selections.append(
            f"(SELECT {', '.join(selected)} FROM {{staging}} WHERE {_STREAM} = {number})"  # noqa: S608  # names of columns
        )
    found = (*columns.values(), NewColumn(_STREAM, INT64))
    combined = pa.concat_tables(tables, promote_options="permissive")
    parquet = tempfile.TemporaryFile()  # noqa: SIM115  # closed by the caller
    pq.write_table(
        combined.select([column.name for column in found]),
        parquet,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    return Together(found, parquet, tuple(selections))
