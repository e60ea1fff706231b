"""A table that is being captured: what it is, which columns go out, and where it is."""

from dataclasses import dataclass, field
from typing import Protocol

from tap_postgres_cdc.datatypes import Datatype, JsonSchema
from tap_postgres_cdc.discovery import Table, TableColumn
from tap_postgres_cdc.rows import Column
from tap_postgres_cdc.state import Bookmark


class Selection(Protocol):
    """What the catalog says of a stream."""

    def is_column_selected(self, name: str) -> bool:
        """Whether records hold the column."""


@dataclass
class Captured:
    """A selected table.

    Attributes:
        bookmark: Its place in the state; a FULL_TABLE stream has one that is not kept.
        is_logged: Whether its changes are streamed: LOG_BASED, not FULL_TABLE.
        schema: JSON Schema of its records as last written, empty before the first SCHEMA.
        version: Of its records; the bookmark has that of the last whole transaction.
    """

    table: Table
    selection: Selection
    bookmark: Bookmark
    is_logged: bool = True
    schema: JsonSchema = field(default_factory=dict)
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.bookmark.version

    @property
    def stream(self) -> str:
        """Name of its stream."""
        return self.table.stream

    @property
    def columns(self) -> tuple[Column, ...]:
        """The selected columns."""
        return selected_columns(self.table, self.selection)

    def column(self, name: str, datatype: Datatype) -> Column:
        """A column of the table, known to discovery or not."""
        is_key = name in self.table.key
        return Column(name, datatype, is_key or self.selection.is_column_selected(name), is_key)


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
