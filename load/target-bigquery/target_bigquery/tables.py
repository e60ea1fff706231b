"""From a stream's SCHEMA and the table that BigQuery has to a plan of changes.

Which property fills which column is remembered in the table itself: a column whose name is not the
property's has the property in its description, and the table's has the stream, and the key of the
rows.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from target_bigquery.column_types import (
    INT64,
    TIMESTAMP,
    BigQueryType,
    combined,
    property_type,
)
from target_bigquery.decoding import Column
from target_bigquery.errors import TargetError
from target_bigquery.names import LONGEST_TABLE, column_names, valid_name, with_digest
from target_bigquery.partitions import Partitions

DELETED_AT = "_sdc_deleted_at"
DELETE_COLUMNS = (DELETED_AT, "_ab_cdc_deleted_at")
METADATA_PREFIXES = ("_sdc_", "_ab_", "_airbyte_")
TABLE_VERSION = "_sdc_table_version"
METADATA: dict[str, BigQueryType] = {
    "_sdc_extracted_at": TIMESTAMP,
    "_sdc_received_at": TIMESTAMP,
    "_sdc_batched_at": TIMESTAMP,
    "_sdc_sequence": INT64,
    TABLE_VERSION: INT64,
}
_PROPERTY = "Singer property "
_STREAM = "Singer stream "
_KEY = re.compile(r", key (?P<key>\[.*\])(?: from version (?P<floor>\d+))?")


@dataclass(frozen=True)
class StoredColumn:
    """A column that the table has."""

    name: str
    type: BigQueryType
    source: str  # the property that fills it
    repeated: bool = False
    collated: bool = False  # what is equal or less is not told by the characters alone


@dataclass(frozen=True)
class Mark:
    """What the description of a table says: whose rows these are, and by which columns they differ.

    Args:
        stream: fills the table.
        key: columns; None in tables that were made before it was kept.
        floor: the key was another below this version of the stream, until one is activated.
    """

    stream: str
    key: tuple[str, ...] | None = None
    floor: int | None = None


@dataclass(frozen=True)
class StoredTable:
    """A table that the dataset has."""

    name: str
    columns: tuple[StoredColumn, ...]
    mark: "Mark | None" = None
    partitions: Partitions | None = None
    clustering: tuple[str, ...] = ()

    def column(self, name: str) -> StoredColumn | None:
        """Return the column of that name, in whatever case."""
        return next((c for c in self.columns if c.name.lower() == name.lower()), None)


@dataclass(frozen=True)
class NewColumn:
    """A column to add."""

    name: str
    type: BigQueryType
    description: str | None = None


@dataclass(frozen=True)
class Widening:
    """A column whose type has to change in place."""

    name: str
    before: BigQueryType
    after: BigQueryType


@dataclass(frozen=True)
class TablePlan:
    """What a stream needs of its table, and what has to change for it."""

    columns: tuple[Column, ...]
    add: tuple[NewColumn, ...] = ()
    widen: tuple[Widening, ...] = ()
    revived: tuple[str, ...] = field(default=())


def table_candidates(stream: str) -> tuple[str, str]:
    """Return the table's name for a stream, and the one to use if another stream has that."""
    name = valid_name(stream, LONGEST_TABLE)
    return name, with_digest(name, stream, LONGEST_TABLE)


def with_mark(description: str | None, mark: Mark) -> str:
    """Return a table's description with the mark as its last line; what others wrote stays."""
    text = _STREAM + json.dumps(mark.stream)
    if mark.key is not None:
        text += f", key {json.dumps(mark.key)}"
    if mark.floor is not None:
        text += f" from version {mark.floor}"
    others = [line for line in (description or "").splitlines() if not line.startswith(_STREAM)]
    return "\n".join([*others, text])


def described_mark(description: str | None) -> Mark | None:
    """Return the mark in a table's description, None if it has none."""
    for line in (description or "").splitlines():
        if line.startswith(_STREAM):
            try:
                stream, end = json.JSONDecoder().raw_decode(line, len(_STREAM))
                rest = _KEY.fullmatch(line, end)
                if rest is None:
                    return Mark(str(stream))
                floor = int(rest["floor"]) if rest["floor"] else None
                return Mark(str(stream), tuple(json.loads(rest["key"])), floor)
            except ValueError:
                return None
    return None


def column_property(name: str, description: str | None) -> str:
    """Return the property that fills a column."""
    if description is None or not description.startswith(_PROPERTY):
        return name
    try:
        return str(json.loads(description.removeprefix(_PROPERTY)))
    except ValueError:
        return name


def plan(
    stream: str,
    schema: Mapping[str, Any],
    stored: StoredTable | None,
    *,
    snake: bool,
    metadata: bool,
) -> TablePlan:
    """Return the columns that the stream fills and the changes that the table needs first.

    Raises:
        TargetError: a column's type can't be widened to hold what the stream now sends.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        raise TargetError(f"stream {stream!r}: the SCHEMA message has no object of properties")
    names = [name for name in properties if not (metadata and name in METADATA)]
    taken = {column.source: column.name for column in stored.columns} if stored else {}
    if metadata:
        taken |= {name: name for name in METADATA}
    columns = column_names(names, snake=snake, known=taken)
    plan_columns: list[Column] = []
    add: list[NewColumn] = []
    widen: list[Widening] = []
    for name in names:
        declared = property_type(properties[name])
        column = columns[name]
        present = stored.column(column) if stored else None
        if present is None:
            description = None if column == name else _PROPERTY + json.dumps(name)
            add.append(NewColumn(column, declared.type, description))
            plan_columns.append(Column(name, column, declared.type, declared))
            continue
        after = _held(stream, stored, present, declared.type)
        if after != present.type:
            widen.append(Widening(present.name, present.type, after))
        plan_columns.append(Column(name, present.name, after, declared))
    if metadata:
        for name, column_type in METADATA.items():
            present = stored.column(name) if stored else None
            if present is None:
                add.append(NewColumn(name, column_type))
            elif _held(stream, stored, present, column_type) != present.type:
                raise _refusal(stream, stored, present, column_type)
    filled = {column.name for column in plan_columns}
    revived = [c.name for c in stored.columns if c.name in DELETE_COLUMNS] if stored else []
    return TablePlan(
        tuple(plan_columns),
        tuple(add),
        tuple(widen),
        tuple(name for name in revived if name not in filled),
    )


def _held(
    stream: str, table: StoredTable | None, column: StoredColumn, wanted: BigQueryType
) -> BigQueryType:
    after = None if column.repeated else combined(column.type, wanted)
    if after is None:
        raise _refusal(stream, table, column, wanted)
    return after


def _refusal(
    stream: str, table: StoredTable | None, column: StoredColumn, wanted: BigQueryType
) -> TargetError:
    name = table.name if table else stream
    stored = f"REPEATED {column.type}" if column.repeated else str(column.type)
    return TargetError(
        f"stream {stream!r}: column {column.name!r} is {stored} in table {name!r}, and the stream "
        f"now sends {wanted}, which {stored} can't be widened to; nothing was written. Either keep "
        "the old type by setting the property's schema in the tap's configuration, or let the "
        f"column be made anew: ALTER TABLE `{name}` RENAME COLUMN `{column.name}` TO "
        f"`{column.name}_old`, then run with a full refresh"
    )


def metadata_columns(names: Sequence[str]) -> frozenset[str]:
    """Return the columns that say something of the record, not of the row: a delete sets them."""
    return frozenset(name for name in names if name.startswith(METADATA_PREFIXES))


def new_delete_column() -> NewColumn:
    """Return the column to mark rows of older versions with, where the stream has none."""
    return NewColumn(DELETED_AT, TIMESTAMP)
