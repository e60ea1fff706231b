"""A stream whose key has changed: a full copy under a greater version replaces the table's rows.

Rows of the old key can't be told apart by the new one. So the first rows of the new key come with a
floor, a version above all that the table has, and no row below it is matched any more;
ACTIVATE_VERSION removes those rows for good, then the floor. Key and floor are kept in the table's
labels. Wherever a run is killed, the next one finds the floor and ends the same way.
"""

from collections.abc import Callable
from dataclasses import replace

from target_bigquery import sql
from target_bigquery.errors import TargetError
from target_bigquery.marks import Mark, mark_of
from target_bigquery.streams import Stream
from target_bigquery.tables import TABLE_VERSION
from target_bigquery.versions import remove_older_versions
from target_bigquery.warehouse import Warehouse


def keep_apart(stream: Stream, warehouse: Warehouse, staged: str) -> None:
    """Have no staged row matched with rows of another key: `staged` is a table or a query.

    Raises:
        TargetError: staged records are not of a version above those rows.
    """
    if stream.rekeyed or stream.load.floor is not None:
        query = sql.least_version(staged, TABLE_VERSION)
        _set_floor(stream, warehouse, lambda: warehouse.query(query)[0][0])


def remove_rows_of_the_old_key(stream: Stream, warehouse: Warehouse, version: int) -> None:
    """Remove the rows of another key, whatever the delete mode: `version` is complete.

    Raises:
        TargetError: the version is not above those rows.
    """
    if stream.rekeyed or stream.load.floor is not None:
        _set_floor(stream, warehouse, lambda: version)
    if stream.load.floor is not None:
        remove_older_versions(stream.load, warehouse, stream.load.floor, deleted=None)
        warehouse.mark_table(stream.table, mark_of(stream.name, stream.load.keys))
        stream.load = replace(stream.load, floor=None)


def _set_floor(stream: Stream, warehouse: Warehouse, least: Callable[[], int]) -> None:
    """Record the key and its floor, if rows of at least that version come; not before.

    Until then the key can be changed back at no cost.
    """
    if stream.load.keys and not stream.load.version:
        raise TargetError(
            f"its key is now {', '.join(stream.load.keys)}, and the table has rows of another key, "
            "which only versions can tell apart: set add_record_metadata: true"
        )
    mark = _next_mark(stream, warehouse) if stream.rekeyed else None
    floor = mark.floor if mark else stream.load.floor
    if floor is not None and (version := least()) < floor:
        carry = "no version" if version < 0 else f"version {version}, and {floor} is the least"
        raise TargetError(
            f"its key is now {', '.join(stream.load.keys)}, the table has rows of another key, and "
            f"the records that should replace them carry {carry}; drop the table, then run with a "
            "full refresh"
        )
    if mark:
        warehouse.mark_table(stream.table, mark)
        stream.load = replace(stream.load, floor=floor)
        stream.rekeyed = False


def _next_mark(stream: Stream, warehouse: Warehouse) -> Mark:
    stored, keys = warehouse.table(stream.table), stream.load.keys
    mark = stored.mark if stored else None
    new = mark_of(stream.name, keys)
    if mark and mark.key == new.key:
        return mark  # an earlier SCHEMA of this run has had it
    if not keys:
        return new  # nothing is matched
    return replace(new, floor=warehouse.query(sql.next_version(stream.load))[0][0])
