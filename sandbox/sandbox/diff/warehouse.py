"""Reading the warehouse: the table that has a source's rows, and ranges of them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from google.api_core.exceptions import NotFound
from google.cloud import bigquery

DELETED: Final = ("_ab_cdc_deleted_at", "_sdc_deleted_at")
# A name that BigQuery does not take is changed by the loader, which tells here what it stands for.
_STREAM: Final = "singer_stream"  # a label: the digest of the stream's name
_PROPERTIES: Final = "Columns of Singer properties: "  # a line of the description
_MOST_NAMED = 100
# BigQuery can't order these.
UNORDERED: Final = frozenset({"JSON", "GEOGRAPHY", "RECORD", "STRUCT"})

_STANDARD: Final = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}

Position = tuple[Any, ...]


def standard_type(field: bigquery.SchemaField) -> str:
    """Return the SQL name of a field's type, which the API may spell the old way (`INTEGER`)."""
    return _STANDARD.get(field.field_type, str(field.field_type))


class WarehouseTable(NamedTuple):
    """A table of the warehouse.

    Attributes:
        path: Project, dataset and name.
        columns: Fields by the name of the source's column.
        deleted: Those of its columns that mark deleted rows.
    """

    path: str
    columns: dict[str, bigquery.SchemaField]
    deleted: tuple[str, ...]


class KeyRange(NamedTuple):
    """Which rows of a table.

    Attributes:
        keys: The columns of the key.
        after: The key that ends the range before; None to begin with the first.
        up_to: The last key of the range; None to end with the last.
    """

    keys: Sequence[bigquery.SchemaField]
    after: Position | None
    up_to: Position | None


def find_table(
    client: bigquery.Client, dataset: str, streams: Sequence[str]
) -> WarehouseTable | None:
    """Return the table of the first stream that has one."""
    for stream in streams:
        try:
            found = client.get_table(f"{client.project}.{dataset}.{stream}")
        except (NotFound, ValueError):
            continue
        return _table(found)
    digests = {hashlib.sha256(stream.encode()).hexdigest()[:16] for stream in streams}
    for item in client.list_tables(f"{client.project}.{dataset}"):
        found = client.get_table(item)
        if found.labels.get(_STREAM) in digests:
            return _table(found)
    return None


def _table(found: bigquery.Table) -> WarehouseTable:
    properties: dict[str, str] = {}
    for line in (found.description or "").split("\n"):
        if line.startswith(_PROPERTIES):
            columns = json.loads(line.removeprefix(_PROPERTIES))
            properties = {column.lower(): name for name, column in columns.items()}
    fields = {properties.get(field.name.lower(), field.name): field for field in found.schema}
    names = {field.name for field in found.schema}
    path = f"{found.project}.{found.dataset_id}.{found.table_id}"
    return WarehouseTable(path, fields, tuple(name for name in DELETED if name in names))


def count(client: bigquery.Client, table: WarehouseTable) -> int:
    """Count the rows that are not marked as deleted."""
    query = f"SELECT COUNT(*) FROM `{table.path}` WHERE {_alive(table)}"
    return int(next(iter(client.query(query).result()))[0])


def twice(
    client: bigquery.Client, table: WarehouseTable, keys: Sequence[bigquery.SchemaField]
) -> list[Position]:
    """Return keys that more than one row has, deleted or not; a hundred of them at most."""
    names = ", ".join(_comparable(field) for field in keys)
    query = (
        f"SELECT {names} FROM `{table.path}` GROUP BY {names} HAVING COUNT(*) > 1"
        f" LIMIT {_MOST_NAMED}"
    )
    return [tuple(row.values()) for row in client.query(query).result()]


def checksums(
    client: bigquery.Client,
    table: WarehouseTable,
    hashes: Sequence[str],
    within: KeyRange,
) -> list[int]:
    """Return how many rows of a range are not deleted, and their sum of each hash, which is SQL."""
    columns = ["COUNT(*)", *(f"SUM({sql})" for sql in hashes)]
    [row] = _select(client, table, columns, within)
    return [int(value or 0) for value in row]


def rows(
    client: bigquery.Client,
    table: WarehouseTable,
    fields: Sequence[bigquery.SchemaField],
    within: KeyRange,
) -> Iterator[Position]:
    """Give the rows of a range that are not deleted, in no order; JSON as its text."""
    return _select(client, table, [_readable(field) for field in fields], within)


def quoted(field: bigquery.SchemaField) -> str:
    """Return a column's name as SQL."""
    return f"`{field.name}`"


def _select(
    client: bigquery.Client,
    table: WarehouseTable,
    columns: Sequence[str],
    within: KeyRange,
) -> Iterator[Position]:
    conditions, parameters = [_alive(table)], []
    for position, operator, prefix in ((within.after, ">", "after"), (within.up_to, "<=", "up_to")):
        if position is None:
            continue
        names = [f"{prefix}_{i}" for i in range(len(within.keys))]
        conditions.append(_beyond(within.keys, operator, names))
        parameters += [
            _parameter(name, field, value)
            for name, field, value in zip(names, within.keys, position, strict=True)
        ]
    job = client.query(
        f"SELECT {', '.join(columns)} FROM `{table.path}` WHERE {' AND '.join(conditions)}",
        job_config=bigquery.QueryJobConfig(query_parameters=parameters),
    )
    # Row.values() would copy each value deeply.
    return (tuple(row) for row in job.result())


def _alive(table: WarehouseTable) -> str:
    return " AND ".join(f"`{name}` IS NULL" for name in table.deleted) or "TRUE"


def _beyond(keys: Sequence[bigquery.SchemaField], operator: str, names: Sequence[str]) -> str:
    """Compare a key of several columns, which SQL's tuples can't do in BigQuery."""
    key, name = _ordered(keys[0]), names[0]
    if len(keys) == 1:
        return f"{key} {operator} @{name}"
    rest = _beyond(keys[1:], operator, names[1:])
    return f"({key} {operator[0]} @{name} OR ({key} = @{name} AND {rest}))"


def _ordered(field: bigquery.SchemaField) -> str:
    # Hexadecimal digits are in the order of the bytes; the emulator can't compare with bytes.
    return f"TO_HEX({quoted(field)})" if field.field_type == "BYTES" else quoted(field)


def _parameter(name: str, field: bigquery.SchemaField, value: Any) -> bigquery.ScalarQueryParameter:
    if isinstance(value, bytes):
        return bigquery.ScalarQueryParameter(name, "STRING", value.hex())
    return bigquery.ScalarQueryParameter(name, standard_type(field), value)


def _comparable(field: bigquery.SchemaField) -> str:
    """A key in a form that rows can be grouped by."""
    unordered = standard_type(field) in {"FLOAT64", *UNORDERED}
    return f"TO_JSON_STRING({quoted(field)})" if unordered else quoted(field)


def _readable(field: bigquery.SchemaField) -> str:
    return f"TO_JSON_STRING({quoted(field)})" if field.field_type == "JSON" else quoted(field)
