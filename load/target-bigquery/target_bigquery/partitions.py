"""How a table is partitioned, and which of its partitions a batch touches.

A job may change 4,000 partitions, so a batch of more goes in by parts; a table may have 10,000.
https://cloud.google.com/bigquery/quotas#partitioned_tables
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from target_bigquery.column_types import standard_name
from target_bigquery.errors import TargetError
from target_bigquery.literals import literal

MOST_OF_A_PART = 2000  # of a job's 4,000: an update changes the partition that a row leaves too
MOST_OF_A_TABLE = 10_000
TOO_MANY = "oo many partitions"  # in what BigQuery says of a job that would change too many
ADVICE = (
    "; its rows leave many partitions: set flush_rows to 2000 for this run, or make the table anew "
    "with longer partitions"
)
ARRIVAL = "_PARTITIONTIME"  # the column by which a table is partitioned that names none


@dataclass(frozen=True)
class Partitions:
    """By which column a table is partitioned.

    Args:
        column: one of the table's, or `ARRIVAL`.
        kind: its type.
        unit: hour, day, month or year; or None: by ranges of integers.
        start: of the first of these ranges.
        end: of the last; what is outside of them is in one partition.
        width: of each of them.
        filtered: each statement has to filter by the column (`require_partition_filter`).
    """

    column: str
    kind: str
    unit: str | None = "day"
    start: int = 0
    end: int = 0
    width: int = 1
    filtered: bool = False


def stored_partitions(table: Mapping[str, Any]) -> Partitions | None:
    """Return how a table is partitioned, None if it is not.

    Args:
        table: https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table
    """
    by_time, by_range = table.get("timePartitioning"), table.get("rangePartitioning")
    filtered = bool(table.get("requirePartitionFilter"))
    fields = table.get("schema", {}).get("fields", ())
    kinds = {field["name"]: standard_name(field["type"]) for field in fields}
    if by_time:
        filtered |= bool(by_time.get("requirePartitionFilter"))  # as it was once written
        unit = by_time.get("type", "DAY").lower()
        column = by_time.get("field") or ARRIVAL
        return Partitions(column, kinds.get(column, "TIMESTAMP"), unit, filtered=filtered)
    if by_range:
        ends = {name: int(by_range["range"][name]) for name in ("start", "end", "interval")}
        start, end, width = ends.values()
        return Partitions(by_range["field"], "INT64", None, start, end, width, filtered)
    return None


def can_partition(kind: str, unit: str | None) -> bool:
    """Tell if a column of a type can partition a table, by a unit as in `Partitions`.

    https://cloud.google.com/bigquery/docs/partitioned-tables
    """
    if unit is None:
        return kind == "INT64"
    if unit == "hour":
        return kind in {"DATETIME", "TIMESTAMP"}
    return kind in {"DATE", "DATETIME", "TIMESTAMP"}


class Touched:
    """The partitions that rows belong to."""

    def __init__(self, partitions: Partitions) -> None:
        self.column = partitions.column
        self._partitions = partitions
        self._begins: set[Any] = set()  # of the partitions

    def add(self, values: pa.Array) -> None:
        """Take some of the column, as it is staged."""
        found = pc.unique(values).drop_null()
        if self._partitions.unit:
            found = pc.floor_temporal(found, unit=self._partitions.unit)
        self._begins.update(map(self._begin, found.to_pylist()))

    def _begin(self, value: Any) -> Any:
        by = self._partitions
        if by.unit:
            return value
        if not by.start <= value < by.end:
            return by.end
        return value - (value - by.start) % by.width

    def parts(self) -> list[str | None]:
        """Return conditions that part the rows; one None if it is not too much for a job.

        Rows without a value are in the first part.

        Raises:
            TargetError: no table can have so many partitions.
        """
        if len(self._begins) > MOST_OF_A_TABLE:
            raise TargetError(
                f"{len(self._begins):,} partitions by {self._partitions.unit or 'range'} of column "
                f"{self.column!r} would be loaded at once, and BigQuery allows a table "
                f"{MOST_OF_A_TABLE:,}; make the table anew with longer partitions, or with none: "
                "setting 'partitioning'"
            )
        begins = sorted(self._begins)
        cuts = [
            literal(self._partitions.kind, begin)
            for begin in begins[MOST_OF_A_PART::MOST_OF_A_PART]
        ]
        if not cuts:
            return [None]
        name = f"`{self.column}`"
        between = [f"{name} >= {low} AND {name} < {high}" for low, high in pairwise(cuts)]
        return [f"({name} < {cuts[0]} OR {name} IS NULL)", *between, f"{name} >= {cuts[-1]}"]
