"""The parts of a record that say when it changed, and the JSON Schema of records."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from tap_postgres_cdc.datatypes import Datatype, JsonSchema
from tap_postgres_cdc.rows import Column

SEQUENCE: Final = "_ab_cdc_sequence"
# As Airbyte's connector names them, so that queries in the warehouse work for both.
METADATA: Final[dict[str, JsonSchema]] = {
    "_ab_cdc_lsn": {"type": ["integer", "null"], "airbyte_type": "integer"},
    "_ab_cdc_updated_at": {
        "type": ["string", "null"],
        "format": "date-time",
        "airbyte_type": "timestamp_with_timezone",
    },
    "_ab_cdc_deleted_at": {
        "type": ["string", "null"],
        "format": "date-time",
        "airbyte_type": "timestamp_with_timezone",
    },
    SEQUENCE: {"type": ["string", "null"]},
}
# Sorts after every change of the transaction at the same LSN.
_LAST: Final = 0xFFFFFFFFFFFFFFFF


def change_prefix(commit_lsn: int, commit_time: datetime, *, is_delete: bool) -> bytes:
    """What comes between the columns of a changed row and its number in the transaction.

    The order of changes is the pair of commit LSN and number, which sorts as text.
    """
    time = commit_time.isoformat()
    deleted = f'"{time}"' if is_delete else "null"
    return (
        f'"_ab_cdc_lsn":{commit_lsn},"_ab_cdc_updated_at":"{time}",'
        f'"_ab_cdc_deleted_at":{deleted},"_ab_cdc_sequence":"{commit_lsn:016X}/'
    ).encode()


def record_suffix(version: int) -> bytes:
    """What comes after the number of a change, until the end of the line."""
    extracted = datetime.now(UTC).isoformat()
    return f'"}},"version":{version},"time_extracted":"{extracted}"}}\n'.encode()


def snapshot_suffix(lsn: int, time: datetime, version: int) -> bytes:
    """What comes after the columns of a row of a snapshot, until the end of the line.

    Args:
        lsn: End of the log when the run began: changes that earlier runs wrote are before it, and
            those that the snapshot does not see are after it.
        time: When the snapshot was taken.
        version: Of the table.
    """
    prefix = change_prefix(lsn, time, is_delete=False)
    return b"%b%016X%b" % (prefix, _LAST, record_suffix(version))


def property_schema(datatype: Datatype, *, is_key: bool) -> JsonSchema:
    """JSON Schema of a column: only those of the key are never null, as a delete has just them."""
    return datatype.schema if is_key else datatype.nullable


def record_schema(columns: Iterable[Column]) -> JsonSchema:
    """JSON Schema of a stream's records."""
    columns = list(columns)
    properties = {
        column.name: property_schema(column.datatype, is_key=column.is_key) for column in columns
    }
    schema: JsonSchema = {"type": "object", "properties": {**properties, **METADATA}}
    if key := [column.name for column in columns if column.is_key]:
        schema["required"] = key
    return schema
