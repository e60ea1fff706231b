"""What happens to the type of a column that can't hold what its stream now sends."""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from target_bigquery.column_types import CLUSTERABLE, BigQueryType, combined
from target_bigquery.conversion import Conversion
from target_bigquery.errors import TargetError
from target_bigquery.partitions import can_partition

if TYPE_CHECKING:
    from target_bigquery.tables import StoredColumn, StoredTable

_OTHER_TABLE = (
    "let the table be made anew: ALTER TABLE `{name}` RENAME TO `{name}_old`, then run with a full "
    "refresh"
)


class Widening(NamedTuple):
    """A column whose type has to change in place."""

    name: str
    before: BigQueryType
    after: BigQueryType


class TypeChanges:
    """Changes of a table's columns, as `fit` finds them.

    Args:
        stream: its name, for errors.
        table: the one that it has.
        convert: a column gets another type if its own can't be widened.
        marks: names, in lower case, of columns that mark a delete.
    """

    def __init__(
        self,
        stream: str,
        table: "StoredTable | None",
        *,
        convert: bool,
        marks: Collection[str] = (),
    ) -> None:
        self.widen: list[Widening] = []
        self.convert: list[Conversion] = []
        self._stream = stream
        self._table = table
        self._convert = convert
        self._marks = marks

    def fit(self, column: "StoredColumn", wanted: BigQueryType) -> BigQueryType:
        """Return the type that a column gets to hold what the stream sends.

        Raises:
            TargetError: none that it can have does.
        """
        table = self._table
        assert table is not None  # noqa: S101  # it has the column
        after = None if column.repeated else combined(column.type, wanted)
        if after == column.type:
            return after
        clustered = column.name.lower() in {name.lower() for name in table.clustering}
        if after and not (clustered and after.name not in CLUSTERABLE):
            self._check_partitions(table, column, after)
            self.widen.append(Widening(column.name, column.type, after))
            return after
        after = after or wanted
        mark = column.name.lower() in self._marks
        conversion = Conversion(column.name, column.type, after, mark)
        if column.repeated or not conversion.possible:
            raise self._refusal(column, after, "which can't be converted", _OTHER_TABLE)
        if not self._convert:
            raise self._refusal(
                column,
                after,
                f"which {column.type} can't be widened to",
                f"set on_type_change: convert, or {_OTHER_TABLE}",
            )
        self._check_partitions(table, column, after)
        self.convert.append(conversion)
        return after

    def _check_partitions(
        self, table: "StoredTable", column: "StoredColumn", after: BigQueryType
    ) -> None:
        partitions = table.partitions
        if partitions is None or partitions.column.lower() != column.name.lower():
            return
        if not can_partition(after.name, partitions.unit):
            raise self._refusal(
                column, after, "by which the table can't be partitioned", _OTHER_TABLE
            )

    def _refusal(
        self, column: "StoredColumn", wanted: BigQueryType, why: str, advice: str
    ) -> TargetError:
        name = self._table.name if self._table else ""
        stored = f"REPEATED {column.type}" if column.repeated else str(column.type)
        return TargetError(
            f"stream {self._stream!r}: column {column.name!r} is {stored} in table {name!r}, and "
            f"the stream now sends {wanted}, {why}; nothing was written. Either keep the old type "
            "by setting the property's schema in the tap's configuration, or "
            + advice.format(name=name)
        )
