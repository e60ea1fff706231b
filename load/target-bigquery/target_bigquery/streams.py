"""What the loader keeps of a stream: its table, its decoder, and the records that wait."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from target_bigquery.batch import Batch
from target_bigquery.bounds import Bounds, bounded_keys
from target_bigquery.column_types import DATE
from target_bigquery.decoding import Column, RecordDecoder, record_of
from target_bigquery.errors import TargetError
from target_bigquery.layout import Columns, clustering_of, partitioning_of
from target_bigquery.marks import mark_of, with_columns
from target_bigquery.messages import UNDECODABLE, SchemaMessage
from target_bigquery.partitions import Partitions, Touched
from target_bigquery.rewriting import convert_columns
from target_bigquery.settings import Partitioning, Settings
from target_bigquery.spool import Spool
from target_bigquery.sql import SEQUENCE, Load, TargetColumn
from target_bigquery.tables import (
    DELETE_COLUMNS,
    METADATA,
    TABLE_VERSION,
    StoredTable,
    TablePlan,
    metadata_columns,
    plan,
    table_candidates,
)
from target_bigquery.warehouse import Warehouse

logger = logging.getLogger(__name__)

UNORDERED = {"BOOL", "BYTES", "JSON", "TIME"}
SORTED_TEXTS = {"_ab_cdc_sequence"}  # properties whose text sorts as what it stands for
DECODED_SIZE = 4  # a decoded record takes several times the memory of its line


@dataclass(eq=False)
class Stream:
    """A stream under its latest SCHEMA."""

    name: str
    table: str
    message: SchemaMessage
    decoder: RecordDecoder
    upsert: bool
    rekeyed: bool  # the table's rows have another key: no row of the new one is there yet
    load: Load  # for `dataclasses.replace`: the staging table changes from batch to batch
    new_batch: Callable[[datetime, Spool], Batch]
    text_marks: frozenset[str] = frozenset()  # STRING columns that mark a delete, not the stream's
    messages: list[Any] = field(default_factory=list)  # decoded, not yet in a batch
    positions: list[int] = field(default_factory=list)  # of `messages` among all that wait
    size: int = 0  # bytes of input that `messages` were
    batch: Batch | None = None
    loaded: int = 0
    checked: bool = False

    def __post_init__(self) -> None:
        self.decode = self.decoder.decode

    def forget_messages(self, position: int) -> None:
        """Forget the decoded records that came behind a position."""
        kept = bisect_right(self.positions, position)
        del self.messages[kept:], self.positions[kept:]

    def is_text(self, column: str) -> bool:
        """Tell if a column is a STRING."""
        return column in self.text_marks or any(
            c.name == column and c.type.name == "STRING" for c in self.load.columns
        )

    def warn_of_unknown(self, line: bytes) -> None:
        """Say once which properties of a record the schema does not have: they are not loaded."""
        if self.checked:
            return
        self.checked = True
        known = self.message.schema.get("properties", {})
        try:
            unknown = [name for name in record_of(line) if name not in known]
        except UNDECODABLE:
            return  # the decoder says what is wrong
        if unknown:
            logger.warning(
                "stream %r: not loaded, as the schema does not have them: %s",
                self.name,
                ", ".join(unknown),
            )

    def held_bytes(self) -> int:
        """Return how much of the stream is in memory."""
        return self.size * DECODED_SIZE + (self.batch.waiting if self.batch else 0)


@dataclass
class OpenedStream:
    """A stream, and what its table needs before the first record goes in."""

    stream: Stream
    stored: StoredTable | None
    plan: TablePlan
    clustering: tuple[str, ...]
    partitioning: Partitioning | None

    def apply(self, warehouse: Warehouse) -> None:
        """Make or change the table."""
        table, needed = self.stream.table, self.plan
        mark = mark_of(self.stream.name, self.stream.load.keys)
        if self.stored is None:
            warehouse.create_table(
                table,
                needed.add,
                mark=mark,
                renamed=needed.renamed,
                clustering=self.clustering,
                partitioning=self.partitioning,
            )
            return
        if needed.doubts:
            logger.warning(needed.doubts)
        if needed.convert:
            claimed = {c.name for c in needed.columns} | {c.name for c in needed.add}
            convert_columns(warehouse, table, needed.convert, claimed)
        if needed.add:
            names = ", ".join(column.name for column in needed.add)
            logger.info("table %s: adding columns %s, NULL in the rows so far", table, names)
        if needed.add or needed.widen:
            warehouse.change_table(table, needed)
        stored = self.stored
        if stored.mark is None or stored.mark.key is None:
            warehouse.mark_table(table, mark, needed.renamed)
        elif with_columns(stored.description, needed.renamed) != stored.description:
            warehouse.mark_table(table, stored.mark, needed.renamed)


def open_stream(
    message: SchemaMessage,
    settings: Settings,
    warehouse: Warehouse,
    table_names: Sequence[str],
    taken: Iterable[str],
) -> OpenedStream:
    """Return a stream and the changes its table needs; nothing is changed yet.

    Args:
        message: the SCHEMA.
        settings: the checked settings.
        warehouse: to read the table.
        table_names: tables of the dataset.
        taken: lower-case names of tables of other streams of this run.

    Raises:
        TargetError: the stream does not fit its table, its keys or the settings.
    """
    name = message.stream
    metadata = settings.add_record_metadata
    table, stored = _find_table(name, warehouse, table_names, set(taken))
    needed = plan(
        name,
        message.schema,
        stored,
        snake=settings.column_names == "snake_case",
        metadata=metadata,
        convert=settings.on_type_change == "convert",
    )
    columns = needed.columns
    if not columns and not metadata:
        raise TargetError(f"stream {name!r} has no properties, there is nothing to load")
    by_property = Columns(columns)
    key_columns = list(
        dict.fromkeys(_key(name, by_property, key) for key in message.key_properties or ())
    )
    keys = tuple(column.name for column in key_columns)
    upsert = bool(keys) and settings.write_mode.of(name) == "upsert"
    order = _order(message, by_property, settings)
    deletes = tuple(column.name for column in columns if column.source.lower() in DELETE_COLUMNS)
    fail = settings.on_bad_value == "fail"
    decoder = RecordDecoder(
        name,
        columns,
        [column.source for column in key_columns],
        partial=upsert and settings.missing_properties.of(name) == "keep",
        # Without its key a row would be another, without its mark a deleted one alive.
        fixed=[c.source for c in columns if c.name in keys or fail],
        marks=[c.source for c in columns if c.name in deletes],
    )
    names = [column.name for column in columns]
    targets = tuple(_target_columns(columns, metadata=metadata))
    types = {column.name: column.type.name for column in targets}
    if stored:
        clustering, partitions = stored.clustering, stored.partitions
    else:
        clustering = clustering_of(name, settings, by_property, types, keys)
        partitions = None
    partitioning = (
        partitioning_of(name, settings, by_property, needed.add) if stored is None else None
    )
    if partitioning:
        partitions = Partitions(
            partitioning.column, types[partitioning.column], partitioning.granularity
        )
    staged = {column.name for column in targets if not column.source}
    counted = partitions if partitions and partitions.column in staged else None
    leading = {*clustering[:1], partitions.column if partitions else ""}
    bounded = bounded_keys(types, keys, stored, collated=warehouse.collated) if upsert else ()

    def new_batch(now: datetime, spool: Spool) -> Batch:
        return Batch(
            decoder,
            metadata=metadata,
            order=names.index(order) if order else None,
            deletes=[names.index(column) for column in deletes],
            batched_at=now,
            bounds={key: Bounds(types[key], split=key in leading) for key in bounded},
            touched=Touched(counted) if counted else None,
            spool=spool,
        )

    merged = keys if upsert else ()  # rows that are appended differ by nothing
    mark, new_mark = stored.mark if stored else None, mark_of(name, merged)
    stream = Stream(
        name,
        table,
        message,
        decoder,
        upsert,
        bool(mark and mark.key and mark.key != new_mark.key),
        Load(
            table=warehouse.path(table),
            staging="",
            columns=targets,
            keys=merged,
            order=order,
            version=TABLE_VERSION if metadata else None,
            deletes=deletes,
            floor=mark.floor if mark else None,
            metadata=metadata_columns([*names, *(METADATA if metadata else ())]),
            revived=needed.revived,
            partitions=partitions,
            hard=settings.delete_mode == "hard",
        ),
        new_batch,
        frozenset(
            name
            for name in needed.revived
            if stored and (found := stored.column(name)) and found.type.name == "STRING"
        ),
    )
    return OpenedStream(stream, stored, needed, clustering, partitioning)


def _find_table(
    stream: str, warehouse: Warehouse, table_names: Sequence[str], taken: set[str]
) -> tuple[str, StoredTable | None]:
    """Return the stream's table: of its own name, or with a digest if that is another's."""
    first, second = table_candidates(stream)
    present = {warehouse.table_key(other): other for other in table_names}
    first, second = (present.get(warehouse.table_key(name), name) for name in (first, second))
    if second in table_names and second.lower() not in taken:
        return second, warehouse.table(second)
    if first.lower() in taken:
        return second, None
    stored = warehouse.table(first) if first in table_names else None
    if stored and stored.mark and stored.mark.stream != mark_of(stream, ()).stream:
        return second, None
    return first, stored


def _key(stream: str, columns: Columns, name: str) -> Column:
    column = columns.get(name)
    if column is None:
        raise TargetError(
            f"stream {stream!r}: key_properties has {name!r}, which is not among the schema's "
            "properties"
        )
    return column


def _order(message: SchemaMessage, columns: Columns, settings: Settings) -> str | None:
    """Return the column that says which of two records of a key is newer, None for arrival.

    An order that is not time's would keep an old row for good: text puts "9" above "10" and noon
    in Tokyo above the same day's noon in London, NaN is below and above nothing.
    """
    found = [column for name in message.bookmark_properties or () if (column := columns.get(name))]
    if not found:
        return None
    column = found[0]  # those behind it order within its value
    match column.type.name:
        case "STRING":
            sorts = column.source in SORTED_TEXTS or column.declared.type == DATE
            sorts = sorts or settings.order_by_string.of(message.stream)
        case "FLOAT64":
            sorts = not column.decimal
        case name:
            sorts = name not in UNORDERED
    return column.name if sorts else None


def _target_columns(columns: Iterable[Column], *, metadata: bool) -> list[TargetColumn]:
    targets = [
        TargetColumn(column.name, column.cast_type, position=index)
        for index, column in enumerate(columns)
    ]
    if metadata:
        targets += [
            TargetColumn(name, kind, source=SEQUENCE if name == "_sdc_sequence" else "")
            for name, kind in METADATA.items()
        ]
    return targets
