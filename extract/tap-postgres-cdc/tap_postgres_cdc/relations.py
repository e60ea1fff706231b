"""Relations of the stream: how the rows of each are decoded, or that they are not wanted."""

from collections.abc import Sequence
from typing import Final, cast

from tap_postgres_cdc.captured import Captured
from tap_postgres_cdc.pgoutput import Values
from tap_postgres_cdc.records import record_suffix
from tap_postgres_cdc.rows import Column, Losses, row_functions

Key = tuple[bytes | None, ...]


class RelationRows:
    """A relation whose rows are decoded.

    Attributes:
        key: Places of the key columns.
        wanted: Places of the selected columns.
        suffix: The end of its lines.
        row: Makes the line of an Insert or of an Update without old tuple.
        key_row: Makes the line of a Delete.
    """

    def __init__(self, captured: Captured, columns: Sequence[Column], losses: Losses) -> None:
        self.captured = captured
        self.columns = columns
        self.key = [i for i, column in enumerate(columns) if column.is_key]
        self.wanted = [i for i, column in enumerate(columns) if column.selected]
        self.functions = row_functions(captured.stream, columns, losses)
        self.row = self.functions.row
        # Without a key a delete is the whole old row, which FULL replica identity gives.
        self.key_row = self.functions.key if self.key else self.functions.row
        self.renew_suffix()

    def renew_suffix(self) -> None:
        """Take the current time and version into the lines to come."""
        self.suffix = record_suffix(self.captured.version)

    def key_of(self, values: Values) -> Key:
        """The key among the values of a row."""
        return tuple(cast("bytes | None", values[i]) for i in self.key)


class IgnoredRows:
    """A relation whose rows are not wanted: every line of it is empty."""

    suffix = b""

    @staticmethod
    def row(_data: bytes, _prefix: bytes, _number: int, _suffix: bytes) -> bytes:
        """Make no line."""
        return b""

    key_row = row


IGNORED: Final = IgnoredRows()
