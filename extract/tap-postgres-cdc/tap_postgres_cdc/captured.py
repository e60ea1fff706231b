"""A table that is being captured: what it is, which columns go out, and where it is."""

from dataclasses import dataclass, field
from typing import Protocol

from tap_postgres_cdc.datatypes import JsonSchema
from tap_postgres_cdc.discovery import Table, TableColumn
from tap_postgres_cdc.facts import TableFacts
from tap_postgres_cdc.pgoutput import RelationColumn
from tap_postgres_cdc.rows import Column
from tap_postgres_cdc.state import Bookmark
from tap_postgres_cdc.typecatalog import TypeCatalog


class Selection(Protocol):
    """What the catalog says of a stream."""

    def is_column_selected(self, name: str) -> bool:
        """Whether records hold the column."""


@dataclass(eq=False)
class Captured:
    """A selected table.

    Attributes:
        bookmark: Its place in the state; a FULL_TABLE stream has one that is not kept.
        known: What the catalog said when the table was read last: in the last run, or in the
            snapshot.
        is_logged: Whether its changes are streamed: LOG_BASED, not FULL_TABLE.
        schema: JSON Schema of its records as last written, empty before the first SCHEMA.
        unexplained: Transactions that may have taken rows away without a trace in the log, unless
            the stream has a truncation in them.
        truncated_by: Transactions that truncated the table, 32-bit ids.
        is_left_out: Whether nothing more of it is read in this run.
        problem: Why the table can't be loaded, so that it waits until somebody mends it.
        version: Of its records; the bookmark has that of the last whole transaction.
    """

    table: Table
    selection: Selection
    bookmark: Bookmark
    known: TableFacts
    is_logged: bool = True
    schema: JsonSchema = field(default_factory=dict)
    unexplained: set[int] = field(default_factory=set)
    truncated_by: set[int] = field(default_factory=set)
    is_left_out: bool = False
    problem: str = ""
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.bookmark.version

    def leave_out(self, problem: str = "") -> None:
        """Read no more of the table in this run: it has to be copied anew.

        Args:
            problem: What somebody has to mend first, if anything.
        """
        self.is_left_out = self.bookmark.is_stale = True
        self.problem = self.problem or problem

    def settle(self) -> None:
        """At the end of the log: if it does not explain what it should, copy the table anew."""
        if self.unexplained and not self.is_left_out:
            if self.unexplained <= self.truncated_by:
                self.bookmark.is_stale = False
            else:
                self.leave_out()

    @property
    def has_to_be_copied_again(self) -> bool:
        """Whether that can be done now."""
        return self.is_left_out and not self.problem

    @property
    def known_columns(self) -> list[TableColumn]:
        """Those that the rows of the log should have."""
        return [one for one in self.table.columns if one.attnum in self.known.columns]

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return self.table.stream

    @property
    def columns(self) -> tuple[Column, ...]:
        """The selected columns."""
        return selected_columns(self.table, self.selection)

    def column(self, column: RelationColumn, types: TypeCatalog) -> Column:
        """A column of the stream; only discovery knows how many dimensions an array has."""
        is_key = column.name in self.table.key
        is_selected = is_key or self.selection.is_column_selected(column.name)
        known = {(one.name, one.type_oid): one.dimensions for one in self.table.columns}
        dimensions = known.get((column.name, column.type_oid), 0)
        datatype = types.datatype(column.type_oid, column.typmod, dimensions)
        return Column(column.name, datatype, is_selected, is_key)


def selected_table_columns(table: Table, selection: Selection) -> list[TableColumn]:
    """The columns that go out: the selected ones, and always the key."""
    return [
        column
        for column in table.columns
        if column.name in table.key or selection.is_column_selected(column.name)
    ]


def selected_columns(table: Table, selection: Selection) -> tuple[Column, ...]:
    """The same, as they are written."""
    return tuple(
        Column(column.name, column.datatype, selected=True, is_key=column.name in table.key)
        for column in selected_table_columns(table, selection)
    )
