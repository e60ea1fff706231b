"""The columns that both sides of a comparison have, and in which groups they are hashed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from google.cloud import bigquery
from psycopg import sql

from sandbox.diff import warehouse
from sandbox.diff.checksums import (
    CommonText,
    common_text,
    source_checksum,
    warehouse_checksum,
)
from sandbox.diff.source import Row, SourceTable
from sandbox.diff.values import Convert, source_value, warehouse_value
from sandbox.diff.warehouse import Position, WarehouseTable, standard_type


class Column(NamedTuple):
    """A column that both sides have, and what makes its values comparable."""

    name: str
    field: bigquery.SchemaField
    is_key: bool
    from_source: Convert
    from_warehouse: Convert | None
    text: CommonText | None


Columns = tuple[Column, ...]


def shared_columns(table: SourceTable, stored: WarehouseTable) -> Columns:
    """Return the columns to compare; those of the key come first, in its order."""
    names = [*table.key, *(name for name in table.columns if name not in table.key)]
    return tuple(
        _column(table, name, stored.columns[name]) for name in names if name in stored.columns
    )


def _column(table: SourceTable, name: str, field: bigquery.SchemaField) -> Column:
    kind, field_type = table.columns[name], standard_type(field)
    return Column(
        name,
        field,
        name in table.key,
        source_value(kind, field_type),
        warehouse_value(kind, field_type),
        common_text(kind, field_type),
    )


def hashed_groups(columns: Columns) -> list[Columns]:
    """Return what is hashed together, without the key, which is hashed with each group.

    The first group has the columns whose texts are exact. Each column whose text may differ though
    its values are equal is a group of its own, so that only it has to be looked at then.
    """
    if not all(column.text and column.text.is_exact for column in columns if column.is_key):
        return []
    exact = tuple(c for c in columns if c.text and c.text.is_exact and not c.is_key)
    return [exact, *((c,) for c in columns if c.text and not c.text.is_exact)]


def source_hash(columns: Columns) -> str:
    """Return SQL for the hash of what PostgreSQL has in columns that have a text."""
    return source_checksum(
        [
            column.text.source.format(sql.Identifier(column.name).as_string(None))
            for column in columns
            if column.text
        ]
    )


def warehouse_hash(columns: Columns) -> str:
    """Return SQL for the hash of what BigQuery has in columns that have a text."""
    return warehouse_checksum(
        [c.text.warehouse.format(warehouse.quoted(c.field)) for c in columns if c.text]
    )


def from_source(columns: Sequence[Column]) -> Callable[[Row], Position]:
    """Return what makes comparable values of the texts of a row."""
    converters = [column.from_source for column in columns]

    def convert(row: Row) -> Position:
        return tuple(
            None if text is None else convert(text)
            for convert, text in zip(converters, row, strict=True)
        )

    return convert


def from_warehouse(columns: Sequence[Column]) -> Callable[[Position], Position]:
    """Return what makes comparable values of those of a row of the warehouse."""
    converters = [column.from_warehouse for column in columns]

    def convert(row: Position) -> Position:
        return tuple(
            value if convert is None or value is None else convert(value)
            for convert, value in zip(converters, row, strict=True)
        )

    return convert
