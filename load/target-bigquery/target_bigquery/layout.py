"""Columns as settings and SCHEMA messages name them, and what new tables are laid out by."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from target_bigquery.column_types import CLUSTERABLE
from target_bigquery.decoding import Column
from target_bigquery.errors import TargetError
from target_bigquery.partitions import can_partition
from target_bigquery.settings import LONGEST_CLUSTERING, Partitioning, Settings
from target_bigquery.tables import NewColumn


class Columns:
    """A stream's columns by property: by the very name first, then by that of any case."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._exact = {column.source: column for column in columns}
        self._any = {
            name.lower(): column
            for column in reversed(columns)
            for name in (column.source, column.name)
        }

    def get(self, name: str) -> Column | None:
        """Return the column of a property, or the one of that name."""
        return self._exact.get(name) or self._any.get(name.lower())


def clustering_of(
    stream: str,
    settings: Settings,
    columns: Columns,
    types: Mapping[str, str],
    keys: Iterable[str],
) -> tuple[str, ...]:
    """Return what a new table is clustered by: what the settings say, or its keys.

    Args:
        stream: its name.
        settings: the checked settings.
        columns: of the stream.
        types: names of the types of all columns that the table has.
        keys: columns.

    Raises:
        TargetError: the settings name a column that can't cluster it.
    """
    chosen = settings.clustering.of(stream)
    if chosen is None:
        return tuple(key for key in keys if types[key] in CLUSTERABLE)[:LONGEST_CLUSTERING]
    found = []
    for name in chosen:
        column = columns.get(name)
        wanted = column.name if column else name.lower()
        if types.get(wanted) not in CLUSTERABLE:
            what = f"is {types[wanted]}" if wanted in types else "is not there"
            raise TargetError(
                f"stream {stream!r}: setting 'clustering' has column {name!r}, which {what}"
            )
        found.append(wanted)
    return tuple(found)


def partitioning_of(
    stream: str, settings: Settings, columns: Columns, added: Sequence[NewColumn]
) -> Partitioning | None:
    """Return what a new table is partitioned by.

    Raises:
        TargetError: the settings name a column that can't partition it.
    """
    chosen = settings.partitioning.of(stream)
    if chosen is None:
        return None
    column = columns.get(chosen.column)
    name = (column.name if column else chosen.column).lower()
    new = next((column for column in added if column.name.lower() == name), None)
    if new is None or not can_partition(new.type.name, chosen.granularity):
        what = f"is {new.type}" if new else "does not exist"
        raise TargetError(
            f"stream {stream!r}: can't partition by {chosen.granularity} of column "
            f"{chosen.column!r}, which {what}"
        )
    return replace(chosen, column=new.name)
