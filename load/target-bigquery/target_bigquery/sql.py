"""The statements that the loader sends, and their words: pure text, no connection.

Sequence is the order of arrival; order is the value of the stream's bookmark column. A record
changes a row only if its order is at or above the row's, so what comes late or twice changes
nothing; a greater version of the stream counts whatever its order, as the source may be another
server. All statements can be run again. `merging` has the longest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from target_bigquery.bounds import Ranges
from target_bigquery.column_types import BigQueryType
from target_bigquery.partitions import Partitions

SEQUENCE = "_sdc_staged_sequence"  # of every staging table: INT64, order of arrival
PRESENT = (
    "_sdc_staged_present"  # of partial records: STRING, a 0 or 1 for each of the stream's columns
)


@dataclass(frozen=True)
class TargetColumn:
    """A column of the table, and the staged column that fills it: by default that of its name."""

    name: str
    type: BigQueryType
    source: str = ""
    position: int | None = None  # among the flags of PRESENT; None: always present

    @property
    def staged(self) -> str:
        """The staged value in the column's own type: JSON and BIGNUMERIC are staged as text."""
        staged = quoted(self.source or self.name)
        match self.type.name:
            case "JSON":
                return f"PARSE_JSON({staged}, wide_number_mode=>'round')"
            case "BIGNUMERIC":
                return f"CAST({staged} AS {self.type})"
        return staged

    def comparable(self, value: str = "") -> str:
        """Return a value, by default the staged one, in a form that is equal if the key is.

        Nothing can be partitioned by FLOAT64 or JSON, and 0 is -0, and no NaN equal to itself.
        """
        value = value or self.staged
        match self.type.name:
            case "JSON":
                return f"TO_JSON_STRING({value})"
            case "FLOAT64":
                return f"TO_JSON_STRING(IF({value} = 0, 0, {value}))"
        return value


@dataclass(frozen=True)
class Load:
    """One staging table on its way into its table."""

    table: str
    staging: str  # the table, or a query for the rows in parentheses
    columns: tuple[TargetColumn, ...]
    keys: tuple[str, ...] = ()
    order: str | None = None
    version: str | None = None  # column of the version of the stream that a row is of
    deletes: tuple[str, ...] = ()  # columns of the stream that mark a delete
    metadata: frozenset[str] = frozenset()  # columns that a delete sets, beside order and deletes
    floor: int | None = None  # rows below this version have another key
    revived: tuple[str, ...] = ()  # columns of the table, not of the stream, that mark a delete
    partitions: Partitions | None = None  # of the table
    bounds: Mapping[str, Ranges] = field(default_factory=dict)  # of the staged keys, by column
    part: str | None = None  # condition of the rows to load: not all of a batch at once
    hard: bool = False
    has_deletes: bool = False
    has_partial: bool = False
    has_null_order: bool = False

    def column(self, name: str) -> TargetColumn:
        """Return the column of that name."""
        return next(column for column in self.columns if column.name == name)

    @property
    def filtered(self) -> str | None:
        """The column by which the table wants each statement to filter."""
        return self.partitions.column if self.partitions and self.partitions.filtered else None

    @cached_property
    def own(self) -> str:
        """What names of the statement's own begin with, and no column does.

        An alias `T` would hide a column `t`, and a property may be named `__deleted`.
        """
        own = "__"
        while any(column.name.startswith(own) for column in self.columns):
            own += "_"
        return own

    @property
    def key_columns(self) -> list[TargetColumn]:
        """The columns by which rows differ."""
        return [self.column(name) for name in self.keys]


def quoted(*parts: str) -> str:
    """Return a path such as `project.dataset.table` as one quoted identifier."""
    return f"`{'.'.join(parts)}`"


def listed(parts: Iterable[str]) -> str:
    """Return parts of a statement with commas between them."""
    return ", ".join(parts)


def lines(parts: Iterable[str], indent: int) -> str:
    """Return parts of a statement, each on a line, with commas between them."""
    return ",".join(f"\n{' ' * indent}{part}" for part in parts)


def any_partition(column: str) -> str:
    """Return a condition that is always true, for a table that wants to be filtered by a column.

    https://cloud.google.com/bigquery/docs/querying-partitioned-tables
    """
    return f"({column} IS NULL OR {column} IS NOT NULL)"


def append(load: Load) -> str:
    """Return the statement that adds every staged record as a row."""
    names = listed(quoted(column.name) for column in load.columns)
    values = lines((column.staged for column in load.columns), 2)
    part = f"\nWHERE {load.part}" if load.part else ""
    return f"INSERT INTO {load.table} ({names})\nSELECT{values}\nFROM {load.staging}{part}"


def remove_older_versions(
    load: Load,
    version: int,
    *,
    deleted: str | None,
    text: bool = False,
    part: str | None = None,
) -> str:
    """Return the statement that deletes the rows of older versions.

    Args:
        load: into the table.
        version: the one that stays.
        deleted: the column that marks deleted rows; None removes them.
        text: the marking column is a STRING.
        part: condition of the rows to delete, if it is not all at once.
    """
    where = _older(load, version)
    if deleted is not None:
        where += f" AND {quoted(deleted)} IS NULL"
    if part:
        where += f" AND {part}"
    if deleted is None:
        return f"DELETE FROM {load.table} WHERE {where}"
    now = "CAST(CURRENT_TIMESTAMP() AS STRING)" if text else "CURRENT_TIMESTAMP()"
    return f"UPDATE {load.table} SET {quoted(deleted)} = {now} WHERE {where}"


def partitions_of_older_versions(load: Load, by: Partitions, version: int) -> str:
    """Return the query for values of the partitions that have rows of older versions."""
    column = quoted(by.column)
    where = f"{_older(load, version)} AND {column} IS NOT NULL"
    if by.unit:
        value = f"{by.kind}_TRUNC({column}, {by.unit.upper()})"
    else:
        value = f"DIV({column} - {by.start}, {by.width}) * {by.width} + {by.start}"
        where += f" AND {column} >= {by.start} AND {column} < {by.end}"
    return f"SELECT DISTINCT {value} AS begin FROM {load.table} WHERE {where}"


def _older(load: Load, version: int) -> str:
    older = f"({load.version} IS NULL OR {load.version} < {version})"
    return f"{older} AND {any_partition(quoted(load.filtered))}" if load.filtered else older


def least_version(table: str, version_column: str) -> str:
    """Return the query for the least version of a table's rows: none counts as -1."""
    return f"SELECT MIN(IFNULL({version_column}, -1)) AS version FROM {table}"


def next_version(load: Load) -> str:
    """Return the query for the version above those of a table's rows, NULL without rows."""
    where = f" WHERE {any_partition(quoted(load.filtered))}" if load.filtered else ""
    return f"SELECT MAX(IFNULL({load.version}, -1)) + 1 AS version FROM {load.table}{where}"
