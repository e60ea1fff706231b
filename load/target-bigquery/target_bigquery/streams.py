"""What the loader keeps of a stream: its table, its decoder, and the records that wait."""

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from target_bigquery.batch import Batch
from target_bigquery.column_types import DATE
from target_bigquery.decoding import Column, RecordDecoder, record_of
from target_bigquery.errors import TargetError
from target_bigquery.messages import UNDECODABLE, SchemaMessage
from target_bigquery.settings import LONGEST_CLUSTERING, Partitioning, Settings
from target_bigquery.spool import Spool
from target_bigquery.sql import SEQUENCE, Load, TargetColumn
from target_bigquery.tables import (
    DELETE_COLUMNS,
    METADATA,
    TABLE_VERSION,
    Mark,
    NewColumn,
    StoredTable,
    TablePlan,
    metadata_columns,
    plan,
    table_candidates,
)
from target_bigquery.warehouse import Warehouse

logger = logging.getLogger(__name__)

CLUSTERABLE = {"BOOL", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP"}
PARTITIONABLE = {"DATE", "DATETIME", "TIMESTAMP"}
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
        return any(c.name == column and c.type.name == "STRING" for c in self.load.columns)

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
        table = self.stream.table
        if self.stored is None:
            # The emulator can't make a table with a BIGNUMERIC, but it can add one.
            later = tuple(column for column in self.plan.add if column.type.name == "BIGNUMERIC")
            warehouse.create_table(
                table,
                [column for column in self.plan.add if column not in later],
                mark=Mark(self.stream.name, self.stream.load.keys),
                clustering=self.clustering,
                partitioning=self.partitioning,
            )
            if later:
                warehouse.change_table(table, TablePlan((), later))
            return
        if self.plan.add or self.plan.widen:
            warehouse.change_table(table, self.plan)
        if self.stored.mark is None or self.stored.mark.key is None:
            warehouse.mark_table(table, Mark(self.stream.name, self.stream.load.keys))


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
        name, message.schema, stored, snake=settings.column_names == "snake_case", metadata=metadata
    )
    columns = needed.columns
    if not columns and not metadata:
        raise TargetError(f"stream {name!r} has no properties, there is nothing to load")
    by_property = {column.source: column for column in columns}
    keys = tuple(
        _column(name, by_property, key, "key_properties").name
        for key in message.key_properties or ()
    )
    upsert = bool(keys) and settings.write_mode.of(name) == "upsert"
    order = _order(message, by_property, settings)
    deletes = tuple(column.name for column in columns if column.source in DELETE_COLUMNS)
    fail = settings.on_bad_value == "fail"
    decoder = RecordDecoder(
        name,
        columns,
        message.key_properties or (),
        partial=upsert and settings.missing_properties.of(name) == "keep",
        # Without its key a row would be another, without its mark a deleted one alive.
        fixed=[c.source for c in columns if c.name in keys or fail],
        marks=[c.source for c in columns if c.name in deletes],
    )
    names = [column.name for column in columns]

    def new_batch(now: datetime, spool: Spool) -> Batch:
        return Batch(
            decoder,
            metadata=metadata,
            order=names.index(order) if order else None,
            deletes=[names.index(column) for column in deletes],
            batched_at=now,
            spool=spool,
        )

    append = settings.write_mode.of(name) == "append"
    mark = stored.mark if stored and stored.mark else Mark(name)
    stream = Stream(
        name,
        table,
        message,
        decoder,
        upsert,
        not append and mark.key is not None and set(mark.key) != set(keys),
        Load(
            table=warehouse.path(table),
            staging="",
            columns=tuple(_target_columns(columns, metadata=metadata)),
            keys=keys,
            order=order,
            version=TABLE_VERSION if metadata else None,
            deletes=deletes,
            floor=mark.floor,
            metadata=metadata_columns([*names, *(METADATA if metadata else ())]),
            revived=needed.revived,
            hard=settings.delete_mode == "hard",
        ),
        new_batch,
    )
    clustering = _clustering(name, settings, by_property, keys) if stored is None else ()
    partitioning = _partitioning(name, settings, needed.add) if stored is None else None
    return OpenedStream(stream, stored, needed, clustering, partitioning)


def _find_table(
    stream: str, warehouse: Warehouse, table_names: Sequence[str], taken: set[str]
) -> tuple[str, StoredTable | None]:
    """Return the stream's table: of its own name, or with a digest if that is another's."""
    first, second = table_candidates(stream)
    if second in table_names and second.lower() not in taken:
        return second, warehouse.table(second)
    if first.lower() in taken:
        return second, None
    stored = warehouse.table(first) if first in table_names else None
    if stored is not None and stored.mark is not None and stored.mark.stream != stream:
        return second, None
    return first, stored


def _column(stream: str, columns: dict[str, Column], name: str, where: str) -> Column:
    column = columns.get(name)
    if column is None:
        raise TargetError(
            f"stream {stream!r}: {where} has {name!r}, which is not among the schema's properties"
        )
    return column


def _order(message: SchemaMessage, columns: dict[str, Column], settings: Settings) -> str | None:
    """Return the column that says which of two records of a key is newer, None for arrival.

    An order that is not time's would keep an old row for good: text puts "9" above "10" and noon
    in Tokyo above the same day's noon in London, NaN is below and above nothing.
    """
    names = [name for name in message.bookmark_properties or () if name in columns]
    if not names:
        return None
    column = columns[names[0]]  # those behind it order within its value
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


def _clustering(
    stream: str, settings: Settings, columns: dict[str, Column], keys: tuple[str, ...]
) -> tuple[str, ...]:
    chosen = settings.clustering.of(stream)
    if chosen is None:
        types = {column.name: column.type.name for column in columns.values()}
        return tuple(key for key in keys if types[key] in CLUSTERABLE)[:LONGEST_CLUSTERING]
    names = {column.name for column in columns.values()} | set(METADATA)
    found = [columns[name].name if name in columns else name for name in chosen]
    for name in found:
        if name not in names:
            raise TargetError(
                f"stream {stream!r}: setting 'clustering' has column {name!r}, which is not there"
            )
    return tuple(found)


def _partitioning(
    stream: str, settings: Settings, columns: Sequence[NewColumn]
) -> Partitioning | None:
    chosen = settings.partitioning.of(stream)
    if chosen is None:
        return None
    kind = next((column.type.name for column in columns if column.name == chosen.column), None)
    if kind not in PARTITIONABLE or (kind == "DATE" and chosen.granularity == "hour"):
        what = f"is {kind}" if kind else "does not exist"
        raise TargetError(
            f"stream {stream!r}: can't partition by {chosen.granularity} of column "
            f"{chosen.column!r}, which {what}"
        )
    return chosen
