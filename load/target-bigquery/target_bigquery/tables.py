"""From a stream's SCHEMA and the table that BigQuery has to a plan of changes.

Names of columns are the same in any case; `names` tells which property fills which column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from target_bigquery.column_types import INT64, TIMESTAMP, BigQueryType, property_type
from target_bigquery.conversion import Conversion
from target_bigquery.decoding import Column
from target_bigquery.errors import TargetError
from target_bigquery.marks import Mark, described_columns, trusted_columns
from target_bigquery.names import LONGEST_TABLE, column_names, valid_name, with_digest
from target_bigquery.partitions import Partitions
from target_bigquery.type_changes import TypeChanges, Widening

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


@dataclass(frozen=True)
class StoredColumn:
    """A column that the table has."""

    name: str
    type: BigQueryType
    repeated: bool = False
    collated: bool = False  # what is equal or less is not told by the characters alone
    required: bool = False  # and without a default


@dataclass(frozen=True)
class StoredTable:
    """A table that the dataset has."""

    name: str
    path: str  # with project and dataset
    columns: tuple[StoredColumn, ...]
    mark: Mark | None = None
    description: str | None = None
    described: bool = False  # it had renamed properties when the loader wrote it
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
class TablePlan:
    """What a stream needs of its table, and what has to change for it."""

    columns: tuple[Column, ...]
    add: tuple[NewColumn, ...] = ()
    widen: tuple[Widening, ...] = ()
    convert: tuple[Conversion, ...] = ()
    revived: tuple[str, ...] = field(default=())
    renamed: Mapping[str, str] = field(default_factory=dict)  # by property: its column
    doubts: str | None = None


def table_candidates(stream: str) -> tuple[str, str]:
    """Return the table's name for a stream, and the one to use if another stream has that."""
    name = valid_name(stream, LONGEST_TABLE)
    return name, with_digest(name, stream, LONGEST_TABLE)


def plan(
    stream: str,
    schema: Mapping[str, Any],
    stored: StoredTable | None,
    *,
    snake: bool,
    metadata: bool,
    convert: bool,
) -> TablePlan:
    """Return the columns that the stream fills and the changes that the table needs first.

    Args:
        stream: its name.
        schema: the JSON Schema of its records.
        stored: its table, if there is one.
        snake: columns are named in snake_case.
        metadata: the loader adds columns of its own.
        convert: a column gets another type if its own can't be widened.

    Raises:
        TargetError: a column's type can't become what the stream now sends, or the table wants
            values that the stream does not have.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        raise TargetError(f"stream {stream!r}: the SCHEMA message has no object of properties")
    names = [name for name in properties if not (metadata and name.lower() in METADATA)]
    table = stored or StoredTable("", "", ())
    existing = [column.name for column in table.columns]
    described = described_columns(table.description)
    known, wrong = trusted_columns(described, existing)
    columns = column_names(
        names,
        snake=snake,
        existing=existing,
        known=known,
        reserved=METADATA if metadata else (),
    )
    plan_columns: list[Column] = []
    add: list[NewColumn] = []
    changes = TypeChanges(stream, table, convert=convert, marks=DELETE_COLUMNS)
    present = {column.name.lower(): column for column in table.columns}
    for name in names:
        declared = property_type(properties[name])
        column = present.get(columns[name].lower())
        if column is None:
            add.append(NewColumn(columns[name], declared.type))
            plan_columns.append(Column(name, columns[name], declared.type, declared))
        else:
            after = changes.fit(column, declared.type)
            plan_columns.append(Column(name, column.name, after, declared))
    for name, column_type in METADATA.items() if metadata else ():
        column = present.get(name)
        if column is None:
            add.append(NewColumn(name, column_type))
        else:
            changes.fit(column, column_type)
    filled = {column.name for column in plan_columns}
    _refuse_required(stream, table, {*filled, *(METADATA if metadata else ())})
    revived = [name for name in existing if name.lower() in DELETE_COLUMNS and name not in filled]
    renamed = {c.source: c.name for c in plan_columns if c.name.lower() != c.source.lower()}
    return TablePlan(
        tuple(plan_columns),
        tuple(add),
        tuple(changes.widen),
        tuple(changes.convert),
        tuple(revived),
        known | renamed,
        _doubts(table, described, wrong, {p: renamed[p] for p in renamed if p not in known}),
    )


def _doubts(
    table: StoredTable, text: str | None, wrong: Sequence[str], guessed: Mapping[str, str]
) -> str | None:
    """Return what to warn of where names decide although the table's description should.

    Args:
        table: the stream's.
        text: what its description says of renamed properties.
        wrong: what of that does not hold.
        guessed: renamed properties it does not have, and the columns that they fill.
    """
    if not wrong and not (table.described and text is None):
        return None
    why = f"does not hold ({'; '.join(wrong)})" if wrong else "is gone"
    found = ", ".join(f"{name!r} fills {column!r}" for name, column in sorted(guessed.items()))
    return (
        f"table {table.name!r}: what its description said of renamed properties {why}, so that "
        f"their names decide{f': {found}' if found else ''}"
    )


def _refuse_required(stream: str, table: StoredTable, filled: set[str]) -> None:
    names = {name.lower() for name in filled}
    required = [column.name for column in table.columns if column.required]
    missing = next((name for name in required if name.lower() not in names), None)
    if missing is not None:
        raise TargetError(
            f"stream {stream!r}: column {missing!r} of table {table.name!r} is REQUIRED, and the "
            f"stream does not fill it: ALTER TABLE `{table.path}` ALTER COLUMN `{missing}` "
            "DROP NOT NULL, or SET DEFAULT"
        )


def metadata_columns(names: Sequence[str]) -> frozenset[str]:
    """Return the columns that say something of the record, not of the row: a delete sets them."""
    return frozenset(name for name in names if name.lower().startswith(METADATA_PREFIXES))


def new_delete_column() -> NewColumn:
    """Return the column to mark rows of older versions with, where the stream has none."""
    return NewColumn(DELETED_AT, TIMESTAMP)
