"""Comparing the tables of a publication with those of a dataset, a range of keys at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import psycopg
from google.cloud import bigquery

from sandbox.diff import source, warehouse
from sandbox.diff.source import Row, SourceTable
from sandbox.diff.values import Convert, source_value, warehouse_value
from sandbox.diff.warehouse import UNORDERED, Position, WarehouseTable, standard_type

RANGE_ROWS: Final = 20_000
RANGE_CHARACTERS: Final = 32 << 20
_FETCH_ROWS: Final = 1_000
_MOST_NAMED: Final = 100


class Difference(NamedTuple):
    """A row that is not the same on both sides.

    Attributes:
        kind: missing: only the source has it; extra: only the warehouse has it; changed: columns
            differ; twice: several rows of the warehouse have its key, deleted ones counted.
        key: Values of the key's columns.
        columns: Of a changed row: values in the source and in the warehouse, by column.
    """

    kind: Literal["missing", "extra", "changed", "twice"]
    key: dict[str, Any]
    columns: dict[str, tuple[Any, Any]]


@dataclass
class TableReport:
    """What was found of a table.

    Attributes:
        table: Schema and name in the source.
        source_rows: How many rows the source has.
        warehouse_rows: How many the warehouse has that are not marked as deleted.
        problem: What else is wrong, such as a table or column that the warehouse lacks.
        note: What was not compared.
        different: How many rows differ.
        rows: The first hundred of them.
    """

    table: str
    source_rows: int = 0
    warehouse_rows: int = 0
    problem: str = ""
    note: str = ""
    different: int = 0
    rows: list[Difference] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the warehouse holds what the source holds."""
        return not (self.different or self.problem)

    def add(self, *found: Difference) -> None:
        """Count differences, and keep the first of them."""
        self.different += len(found)
        self.rows += found[: _MOST_NAMED - len(self.rows)]


class _Column(NamedTuple):
    """A column that both sides have, and what makes its values comparable."""

    name: str
    field: bigquery.SchemaField
    is_key: bool
    from_source: Convert
    from_warehouse: Convert | None


# Table, rows compared so far, rows in all as far as the server knows.
Progress = Callable[[str, int, float], None]


def differences(
    connection: psycopg.Connection,
    client: bigquery.Client,
    dataset: str,
    tables: Sequence[str] = (),
    *,
    publication: str = "oso_publication",
    on_progress: Progress = lambda *_: None,
) -> Iterator[TableReport]:
    """Compare the tables of a publication with a dataset, one after another.

    The source is read in one transaction, so it is seen as of one moment. Rows that the warehouse
    marks as deleted don't count, nor do columns that the source has no more.

    Args:
        connection: To the source, in autocommit mode.
        client: Its project is the one of the dataset.
        dataset: Name of the dataset.
        tables: Names in the source, with or without schema; all published ones if there is none.
        publication: What is published decides which tables, columns and rows are compared.
        on_progress: Is told after each range how far a table is.

    Raises:
        ValueError: The publication holds no such table.
        google.api_core.exceptions.GoogleAPIError: BigQuery refused, or has no such dataset.
        psycopg.Error: PostgreSQL refused.
    """
    client.get_dataset(f"{client.project}.{dataset}")
    with source.snapshot(connection):
        published = source.published_tables(connection, publication)
        named = {name for table in published for name in (table.name, _full_name(table))}
        if unknown := set(tables) - named:
            raise ValueError(f'publication "{publication}" does not hold {min(unknown)}')
        if not published:
            raise ValueError(f'publication "{publication}" does not exist or holds no table')
        for table in published:
            if not tables or {table.name, _full_name(table)} & set(tables):
                streams = (table.name, f"{table.schema}-{table.name}")
                stored = warehouse.find_table(client, dataset, streams)
                yield _compare(connection, client, table, stored, on_progress)


def _full_name(table: SourceTable) -> str:
    return f"{table.schema}.{table.name}"


def _compare(
    connection: psycopg.Connection,
    client: bigquery.Client,
    table: SourceTable,
    stored: WarehouseTable | None,
    on_progress: Progress,
) -> TableReport:
    report = TableReport(_full_name(table))
    if stored is None:
        report.source_rows = source.count(connection, table)
        report.problem = "the warehouse has no such table"
        return report
    if missing := [name for name in table.columns if name not in stored.columns]:
        report.problem = f"the warehouse has no column {', '.join(missing)}"
    keys = [stored.columns[name] for name in table.key if name in stored.columns]
    if not keys or len(keys) < len(table.key) or UNORDERED & {*map(standard_type, keys)}:
        report.note = "only counted: it has no key that BigQuery can order"
        report.source_rows = source.count(connection, table)
        report.warehouse_rows = warehouse.count(client, stored)
        report.different = abs(report.source_rows - report.warehouse_rows)
        return report
    for key in warehouse.twice(client, stored, keys):
        report.add(Difference("twice", dict(zip(table.key, key, strict=True)), {}))
    columns = _columns(table, stored)
    after: Position | None = None
    for rows in _ranges(connection, table, columns):
        expected = {row[: len(keys)]: row for row in map(_converter(columns), rows)}
        up_to = next(reversed(expected))
        _compare_range(report, columns, expected, _stored(client, stored, columns, after, up_to))
        on_progress(report.table, report.source_rows, table.estimate)
        after = up_to
    _compare_range(report, columns, {}, _stored(client, stored, columns, after, None))
    return report


def _columns(table: SourceTable, stored: WarehouseTable) -> list[_Column]:
    """The columns to compare; those of the key come first, in its order."""
    names = [*table.key, *(name for name in table.columns if name not in table.key)]
    return [
        _Column(
            name,
            field := stored.columns[name],
            name in table.key,
            source_value(table.columns[name], standard_type(field)),
            warehouse_value(table.columns[name], standard_type(field)),
        )
        for name in names
        if name in stored.columns
    ]


def _ranges(
    connection: psycopg.Connection, table: SourceTable, columns: Sequence[_Column]
) -> Iterator[list[Row]]:
    """Give the source's rows in lists that memory can hold, however large a row is."""
    names = [column.name for column in columns]
    texts = [c.name for c in columns if c.is_key and c.field.field_type == "STRING"]
    found: list[Row] = []
    characters = 0
    for rows in source.rows(connection, table, names, texts, _FETCH_ROWS):
        found += rows
        characters += sum(len(value) for row in rows for value in row if value)
        if len(found) >= RANGE_ROWS or characters >= RANGE_CHARACTERS:
            yield found
            found, characters = [], 0
    if found:
        yield found


def _converter(columns: Sequence[_Column]) -> Callable[[Row], Position]:
    converters = [column.from_source for column in columns]

    def convert(row: Row) -> Position:
        return tuple(
            None if text is None else convert(text)
            for convert, text in zip(converters, row, strict=True)
        )

    return convert


def _stored(
    client: bigquery.Client,
    stored: WarehouseTable,
    columns: Sequence[_Column],
    after: Position | None,
    up_to: Position | None,
) -> Iterator[Position]:
    """Give the warehouse's rows of a range of keys."""
    converters = [column.from_warehouse for column in columns]
    fields = [column.field for column in columns]
    keys = [column.field for column in columns if column.is_key]
    for row in warehouse.rows(client, stored, fields, keys, after, up_to):
        yield tuple(
            value if convert is None or value is None else convert(value)
            for convert, value in zip(converters, row, strict=True)
        )


def _compare_range(
    report: TableReport,
    columns: Sequence[_Column],
    expected: dict[Position, Position],
    stored: Iterator[Position],
) -> None:
    keys = [column.name for column in columns if column.is_key]
    report.source_rows += len(expected)
    seen: set[Position] = set()
    for row in stored:
        report.warehouse_rows += 1
        key = row[: len(keys)]
        wanted = expected.get(key)
        if wanted is None:
            report.add(Difference("extra", dict(zip(keys, key, strict=True)), {}))
            continue
        seen.add(key)
        if wanted != row:
            pairs = zip(columns, wanted, row, strict=True)
            changed = {
                column.name: (ours, theirs) for column, ours, theirs in pairs if ours != theirs
            }
            report.add(Difference("changed", dict(zip(keys, key, strict=True)), changed))
    for key in expected:
        if key not in seen:
            report.add(Difference("missing", dict(zip(keys, key, strict=True)), {}))
