"""What happens to the type of a column that can't hold what its stream now sends."""

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from target_bigquery.column_types import CLUSTERABLE, BigQueryType, combined
from target_bigquery.conversion import Conversion
from target_bigquery.errors import TargetError
from target_bigquery.partitions import can_partition

if TYPE_CHECKING:
    from target_bigquery.tables import StoredColumn, StoredTable


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
        self, stream: str, table: "StoredTable", *, convert: bool, marks: Collection[str]
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
        wider = None if column.repeated else combined(column.type, wanted)
        if wider == column.type:
            return wider
        after = wider or BigQueryType(wanted.name)  # old values can have more digits
        clustered = column.name.lower() in {name.lower() for name in self._table.clustering}
        stays = not clustered or after.name in CLUSTERABLE
        mark = column.name.lower() in self._marks
        conversion = Conversion(column.name, column.type, after, mark)
        if wider is None and (column.repeated or not conversion.possible):
            raise self._refusal(column, after, "which it can't be converted to")
        if not self._partitions(column, after):
            raise self._refusal(column, after, "by which the table can't be partitioned")
        if wider and stays:
            self.widen.append(Widening(column.name, column.type, after))
        elif self._convert:
            self.convert.append(conversion)
        else:
            why = "by which the table can't be clustered" if wider else "which is no wider type"
            raise self._refusal(column, after, why, "set on_type_change: convert, or ")
        return after

    def _partitions(self, column: "StoredColumn", after: BigQueryType) -> bool:
        partitions = self._table.partitions
        if partitions is None or partitions.column.lower() != column.name.lower():
            return True
        return can_partition(after.name, partitions.unit)

    def _refusal(
        self, column: "StoredColumn", wanted: BigQueryType, why: str, advice: str = ""
    ) -> TargetError:
        table = self._table
        stored = f"REPEATED {column.type}" if column.repeated else str(column.type)
        return TargetError(
            f"stream {self._stream!r}: column {column.name!r} is {stored} in table "
            f"{table.name!r}, and the stream now sends {wanted}, {why}; nothing was written. "
            "Either keep the old type by setting the property's schema in the tap's configuration, "
            f"or {advice}let the table be made anew: ALTER TABLE `{table.path}` RENAME TO "
            f"`{table.name}_old`, then run with a full refresh"
        )
