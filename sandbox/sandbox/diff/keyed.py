"""Comparing two tables that have a key: by checksums, and by value where those differ.

The source's rows are cut into ranges by their key. The warehouse is asked for the checksums of many
ranges at once; if they differ, of either half, and so on. The rows of a range that is left are read
from both sides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import sub
from typing import Final, NamedTuple

import psycopg
from google.cloud import bigquery

from sandbox.diff import source, warehouse
from sandbox.diff.columns import (
    Columns,
    from_source,
    from_warehouse,
    hashed_groups,
    shared_columns,
    source_hash,
    warehouse_hash,
)
from sandbox.diff.report import TableReport, compare_values
from sandbox.diff.source import Cursor, Row, SourceTable
from sandbox.diff.warehouse import KeyRange, Position, WarehouseTable

# How many rows a range has, and how many ranges the warehouse is asked for at once.
RANGE_ROWS: Final = 20_000
RANGES_AT_ONCE: Final = 50
# How much of a range is held in memory, however large a row is.
_CHARACTERS: Final = 32 << 20
_FETCH_ROWS: Final = 1_000


class _Range(NamedTuple):
    """Rows of the source that follow each other.

    Attributes:
        start: How many rows are before it.
        rows: How many it has.
        after: The last key before it; None if there is none.
        up_to: Its last key; None for the last range, which has no end.
        sums: Of the hashes of each group.
    """

    start: int
    rows: int
    after: Position | None
    up_to: Position | None
    sums: tuple[int, ...]


@dataclass
class KeyedComparison:
    """Two tables with the same key, and what is known of them so far.

    Attributes:
        connection: To the source, in a transaction.
        client: Its project is the one of the dataset.
        table: The one of the source.
        stored: The one of the warehouse.
        rows: How many the source has.
        report: Is told what is found.
    """

    connection: psycopg.Connection
    client: bigquery.Client
    table: SourceTable
    stored: WarehouseTable
    rows: int
    report: TableReport
    _columns: Columns = field(init=False)
    _keys: Columns = field(init=False)
    _groups: list[Columns] = field(init=False)
    # Numbers of the groups that are compared by checksums; the columns of the others are read.
    _trusted: list[int] = field(init=False)
    _cursors: dict[Columns, Cursor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._columns = shared_columns(self.table, self.stored)
        self._keys = tuple(column for column in self._columns if column.is_key)
        self._groups = hashed_groups(self._columns)
        self._trusted = [*range(len(self._groups))]

    def run(self, on_progress: Callable[[int], None]) -> None:
        """Compare them; `on_progress` is told how many rows of the source are done."""
        ranges = self._ranges()
        while some := list(islice(ranges, RANGES_AT_ONCE)):
            for range_, suspects in self._suspects(some, self._trusted):
                self._settle(range_, suspects)
                on_progress(self.report.source_rows)
        for cursor in self._cursors.values():
            cursor.close()

    def _ranges(self) -> Iterator[_Range]:
        """Cut the source's rows into ranges; the last one takes what the warehouse has beyond."""
        hashes = [source_hash((*self._keys, *group)) for group in self._groups]
        if not self.rows:
            yield _Range(0, 0, None, None, (0,) * len(hashes))
            return
        cursor = source.checksums(self.connection, self.table, self._text_keys, hashes)
        convert = from_source(self._keys)
        after: Position | None = None
        before = [0] * len(hashes)
        for start in range(0, self.rows, RANGE_ROWS):
            end = min(start + RANGE_ROWS, self.rows)
            cursor.skip_to(end - 1)
            [row] = cursor.fetch(1)
            up_to = convert(row[: len(self._keys)]) if end < self.rows else None
            running = [int(text or 0) for text in row[len(self._keys) :]]
            yield _Range(start, end - start, after, up_to, tuple(map(sub, running, before)))
            after, before = up_to, running
        cursor.close()

    def _suspects(
        self, ranges: Sequence[_Range], groups: Sequence[int]
    ) -> Iterator[tuple[_Range, list[int]]]:
        """Give each range with the groups whose checksums differ in it."""
        differing = self._differing(ranges, [group for group in groups if group in self._trusted])
        if not differing or len(ranges) == 1:
            yield from ((range_, differing) for range_ in ranges)
            return
        half = len(ranges) // 2
        yield from self._suspects(ranges[:half], differing)
        yield from self._suspects(ranges[half:], differing)

    def _differing(self, ranges: Sequence[_Range], groups: list[int]) -> list[int]:
        if not groups:
            return []
        rows, *sums = warehouse.checksums(
            self.client,
            self.stored,
            [warehouse_hash((*self._keys, *self._groups[group])) for group in groups],
            self._within(ranges[0].after, ranges[-1].up_to),
        )
        if rows != sum(range_.rows for range_ in ranges):
            return groups
        return [
            group
            for group, stored in zip(groups, sums, strict=True)
            if stored != sum(range_.sums[group] for range_ in ranges)
        ]

    def _settle(self, range_: _Range, suspects: Sequence[int]) -> None:
        """Compare by value what the checksums have not shown to be equal."""
        hashed = {column for group in self._trusted for column in self._groups[group]}
        columns = self._columns
        if self._trusted and not suspects:
            columns = tuple(column for column in columns if column not in hashed)
            if columns == self._keys:
                self.report.source_rows += range_.rows
                self.report.warehouse_rows += range_.rows
                return
        found = self.report.different + self.report.kept
        self._compare_range(range_, columns)
        if self.report.different + self.report.kept == found:
            # Equal values, but not equal texts: to look at them is all that is left from now on.
            self._trusted = [group for group in self._trusted if group not in suspects]

    def _compare_range(self, range_: _Range, columns: Columns) -> None:
        names = [column.name for column in columns]
        if columns not in self._cursors:
            self._cursors[columns] = source.rows(
                self.connection, self.table, names, self._text_keys
            )
        cursor = self._cursors[columns]
        cursor.skip_to(range_.start)
        convert = from_source(columns)
        after, end = range_.after, range_.start + range_.rows
        for rows in _held(cursor, end):
            expected = {row[: len(self._keys)]: row for row in map(convert, rows)}
            up_to = range_.up_to if cursor.position == end else next(reversed(expected))
            compare_values(self.report, columns, expected, self._stored(columns, after, up_to))
            after = up_to

    def _stored(
        self, columns: Columns, after: Position | None, up_to: Position | None
    ) -> Iterator[Position]:
        fields = [column.field for column in columns]
        rows = warehouse.rows(self.client, self.stored, fields, self._within(after, up_to))
        return map(from_warehouse(columns), rows)

    def _within(self, after: Position | None, up_to: Position | None) -> KeyRange:
        return KeyRange([column.field for column in self._keys], after, up_to)

    @property
    def _text_keys(self) -> list[str]:
        return [column.name for column in self._keys if column.field.field_type == "STRING"]


def _held(cursor: Cursor, end: int) -> Iterator[list[Row]]:
    """Give the rows up to a position in lists that memory can hold, at least an empty one."""
    found: list[Row] = []
    characters = 0
    while cursor.position < end:
        rows = cursor.fetch(min(_FETCH_ROWS, end - cursor.position))
        found += rows
        characters += sum(len(value) for row in rows for value in row if value)
        if characters >= _CHARACTERS and cursor.position < end:
            yield found
            found, characters = [], 0
    yield found
