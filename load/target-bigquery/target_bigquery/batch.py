"""The records of a stream on their way to a staging table: a Parquet file, written as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from target_bigquery.bounds import Bounds
from target_bigquery.column_types import INT64, STRING, BigQueryType
from target_bigquery.decoding import RecordDecoder
from target_bigquery.errors import TargetError
from target_bigquery.partitions import Touched
from target_bigquery.spool import Spool, SpooledFile
from target_bigquery.sql import PRESENT, SEQUENCE, Load
from target_bigquery.tables import METADATA, NewColumn
from target_bigquery.values import ARROW_TYPES

ROW_GROUP_BYTES = 16 << 20  # what BigQuery recommends for Parquet

_MOMENT = pa.timestamp("us", "UTC")


class Batch:
    """Collects records, and what the SQL has to know of them.

    Args:
        decoder: of the records' stream.
        metadata: add the `_sdc_` columns.
        order: index of the column that orders the records, None if they come in order.
        deletes: indexes of the columns that mark a delete.
        batched_at: when the batch was begun.
        bounds: of the key columns, to be found.
        touched: the partitions of its rows, to be found; None if the table has none.
        spool: what the file is written to.
    """

    def __init__(
        self,
        decoder: RecordDecoder,
        *,
        metadata: bool,
        order: int | None,
        deletes: Sequence[int],
        batched_at: datetime,
        bounds: Mapping[str, Bounds],
        touched: Touched | None,
        spool: Spool,
    ) -> None:
        self._bounds = bounds
        self._touched = touched
        self.rows = 0
        self.waiting = 0  # bytes of Arrow columns that are not in the file yet
        self._last = 0  # sequence
        self.has_deletes = False
        self.has_partial = False
        self.has_null_order = False
        self._decoder = decoder
        self._metadata = metadata
        self._order = order
        self._deletes = deletes
        self._batched_at = batched_at
        self._spool = spool
        fields = decoder.staged_fields()
        if metadata:
            fields += [
                pa.field(name, ARROW_TYPES[kind.name]) for name, kind in _STAGED_METADATA.items()
            ]
        fields.append(pa.field(SEQUENCE, pa.int64()))
        if decoder.partial:
            fields.append(pa.field(PRESENT, pa.string()))
        self._schema = pa.schema(fields)
        self._chunks: list[pa.RecordBatch] = []
        self._file = SpooledFile(spool)
        self._writer: Any = None  # it takes memory: only when there is something to write

    def add(self, messages: Sequence[Any], sequences: pa.Array, received_at: datetime) -> None:
        """Write decoded records, and where each is in the order of arrival.

        Raises:
            RecordError: a value does not fit its column.
        """
        count = len(messages)
        arrays, present = self._decoder.arrays(messages)
        self.has_deletes |= any(arrays[index].null_count < count for index in self._deletes)
        if self._order is not None:
            self.has_null_order |= arrays[self._order].null_count > 0
        versions = [message.version for message in messages]
        if self._metadata:
            arrays += [
                self._extracted([message.time_extracted for message in messages]),
                _constant(received_at, count),
                _constant(self._batched_at, count),
                pa.array(versions, pa.int64()),
            ]
        elif any(version is not None for version in versions):
            raise TargetError(
                f"stream {self._decoder.stream!r}: the tap sends full copies with versions, which "
                "need the column _sdc_table_version; set add_record_metadata: true"
            )
        arrays.append(sequences)
        self._last = sequences[-1].as_py()
        if present is not None:
            self.has_partial |= any("0" in flags for flags in present.to_pylist())
            arrays.append(present)
        chunk = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        for name, bounds in self._bounds.items():
            bounds.add(chunk.column(name))
        if self._touched:
            self._touched.add(chunk.column(self._touched.column))
        self._collect(chunk)

    def _collect(self, chunk: pa.RecordBatch) -> None:
        self._chunks.append(chunk)
        self.waiting += chunk.nbytes
        self.rows += chunk.num_rows
        if self.waiting >= ROW_GROUP_BYTES:
            self.write()

    def write(self) -> None:
        """Write what waits as one row group."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="zstd",
                use_dictionary=False,
                write_statistics=False,
            )
        if self._chunks:
            self._writer.write_table(pa.Table.from_batches(self._chunks, self._schema), self.rows)
        self._chunks.clear()
        self.waiting = 0

    def cut(self, last: int) -> None:
        """Keep the records up to a sequence. The file is written anew, a row group at a time."""
        if self._last <= last:
            return
        written = pq.ParquetFile(self.finish())
        self._file, self._writer, self.rows = SpooledFile(self._spool), None, 0
        for chunk in written.iter_batches():
            kept = chunk.filter(pc.less_equal(chunk.column(SEQUENCE), last))
            self._collect(kept)
            if kept.num_rows < chunk.num_rows:
                return

    def _extracted(self, texts: list[str | None]) -> pa.Array:
        if len(set(texts)) == 1:  # most taps stamp a page of records at once, or none
            return pa.repeat(self._decoder.moments(texts[:1])[0], len(texts))
        return self._decoder.moments(texts)

    def finish(self) -> IO[bytes]:
        """End the file and return it."""
        self.write()
        self._writer.close()
        self._file.seek(0)
        return cast("IO[bytes]", self._file)

    def parts(self) -> list[str | None]:
        """Return the conditions of the parts to load one by one; one None if that is not needed.

        Raises:
            TargetError: they can't be loaded into one table.
        """
        return self._touched.parts() if self._touched else [None]

    def described(self, load: Load) -> Load:
        """Return a load with what its statement has to know of the records."""
        return replace(
            load,
            has_deletes=self.has_deletes,
            has_partial=self.has_partial,
            has_null_order=self.has_null_order,
            bounds={name: bounds.ranges() for name, bounds in self._bounds.items()},
        )

    def close(self) -> None:
        """Let go of the file, finished or not."""
        if self._writer is not None:
            self._writer.close()

    def staged_columns(self) -> list[NewColumn]:
        """Return the columns of the staging table; BIGNUMERIC and JSON are text there."""
        columns = [
            NewColumn(column.name, staged_type(column.type)) for column in self._decoder.columns
        ]
        if self._metadata:
            columns += [NewColumn(name, kind) for name, kind in _STAGED_METADATA.items()]
        columns.append(NewColumn(SEQUENCE, INT64))
        if self._decoder.partial:
            columns.append(NewColumn(PRESENT, STRING))
        return columns


_STAGED_METADATA = {name: kind for name, kind in METADATA.items() if name != "_sdc_sequence"}


def staged_type(kind: BigQueryType) -> BigQueryType:
    """Return the type that a column has in the staging table."""
    return STRING if kind.name in {"BIGNUMERIC", "JSON"} else kind


def _constant(moment: datetime, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(moment, _MOMENT), count)
