"""A table whose columns get other types: a second one is filled with its rows and copied over it.

Only the copy changes the table, as a whole or not at all: wherever a run is killed, the next one
finds the old types, or the new. The second one is made of what the API says of the first, so it
has the same clustering, descriptions, policy tags, labels, expiration and key, and partitions by
ingestion time too. CREATE TABLE … AS SELECT can't write all of these.

https://cloud.google.com/bigquery/docs/managing-tables#copy-table
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from google.cloud import bigquery

from target_bigquery.column_types import CLUSTERABLE
from target_bigquery.conversion import (
    Conversion,
    Kept,
    column_sql,
    count,
    kept_column,
    schema,
    select,
)
from target_bigquery.errors import TargetError
from target_bigquery.partitions import ARRIVAL, stored_partitions
from target_bigquery.warehouse import Warehouse

# https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#Table, without what it only tells
_KEPT = (
    "clustering", "defaultCollation", "defaultRoundingMode", "description",
    "encryptionConfiguration", "expirationTime", "friendlyName", "labels", "maxStaleness",
    "rangePartitioning", "requirePartitionFilter", "resourceTags", "tableConstraints",
    "timePartitioning",
)  # fmt: skip

logger = logging.getLogger(__name__)


def convert_columns(
    warehouse: Warehouse, name: str, conversions: Sequence[Conversion], claimed: Iterable[str]
) -> None:
    """Rewrite a table so that columns have other types, and say what was done.

    Args:
        warehouse: has the table.
        name: of the table.
        conversions: the columns.
        claimed: names that the stream has for its columns.

    Raises:
        TargetError: the table can't be rewritten without loss.
    """
    table = warehouse.get_table(name)
    if table is None:
        raise TargetError(f"table {name!r} disappeared while it was being changed")
    condition = _condition(table)
    sql = count(warehouse.path(name), conversions, condition)
    job = warehouse.query_job(sql)
    counted = list(next(iter(job.result())).values())
    if warehouse.row_policies(name) or _sees_some_rows_only(job):
        changes = ", ".join(f"{c.name!r} from {c.before} to {c.after}" for c in conversions)
        raise TargetError(
            f"table {name!r} has row access policies, which it would lose if the type of column "
            f"{changes} was changed; nothing was written. Drop them, run again and make them anew, "
            "or keep the old type by setting the property's schema in the tap's configuration"
        )
    lost = {c.name: n for c, n in zip(conversions, counted[1:], strict=True) if n}
    columns = [field.name for field in table.schema]
    kept = {c.name: kept_column(c, columns, claimed) for c in conversions if c.name in lost}
    logger.info("table %s: rewriting %s rows for other types", name, f"{counted[0]:,}")
    other = _other(table, warehouse.reference(warehouse.staging_name(name, 0)), conversions, kept)
    try:
        _fill(warehouse, other, table, conversions, kept, condition)
        if other.clustering_fields != table.clustering_fields:
            _cluster(warehouse, name, other.clustering_fields)  # as what is copied over it
        warehouse.overwrite(name, other)
    finally:
        warehouse.drop(other.table_id)
    _warn(table, other, conversions, lost, kept)


def _other(
    table: bigquery.Table,
    reference: bigquery.TableReference,
    conversions: Sequence[Conversion],
    kept: dict[str, Kept],
) -> bigquery.Table:
    """Return the other table, as the API makes it."""
    resource = table.to_api_repr()
    made = {name: resource[name] for name in _KEPT if name in resource}
    fields = schema(resource["schema"]["fields"], conversions, kept)
    made |= {"schema": {"fields": fields}, "tableReference": reference.to_api_repr()}
    other = bigquery.Table.from_api_repr(made)
    after = {c.name.lower(): c.after.name for c in conversions}
    before = table.clustering_fields or []
    names = [name for name in before if after.get(name.lower(), "INT64") in CLUSTERABLE]
    other.clustering_fields = names or None
    return other


def _fill(
    warehouse: Warehouse,
    other: bigquery.Table,
    table: bigquery.Table,
    conversions: Sequence[Conversion],
    kept: dict[str, Kept],
    condition: str,
) -> None:
    columns = [field.name for field in table.schema]
    by_ingestion = table.time_partitioning and table.time_partitioning.field is None
    if by_ingestion and warehouse.writes_ingestion_time:
        columns.insert(0, ARRIVAL)
    rows = select(warehouse.path(table.table_id), columns, conversions, kept, condition)
    columns += [name for name, new in kept.values() if new]
    warehouse.fill(other, [column_sql(column) for column in columns], rows)
    made = warehouse.get_table(other.table_id)
    if made is None or made.expires == other.expires:
        return

    def keep(made: bigquery.Table) -> list[str]:  # the dataset has a default
        made.expires = other.expires
        return ["expires"]

    warehouse.update_table(other.table_id, keep)


def _cluster(warehouse: Warehouse, name: str, columns: list[str] | None) -> None:
    def change(table: bigquery.Table) -> list[str]:
        table.clustering_fields = columns
        return ["clustering_fields"]

    warehouse.update_table(name, change)


def _sees_some_rows_only(job: Any) -> bool:
    """Tell if policies hid rows from a query: every account is told, though few may list them.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/Job#RowLevelSecurityStatistics
    """
    statistics = job._properties.get("statistics", {})  # noqa: SLF001  # the client has no name
    security = statistics.get("rowLevelSecurityStatistics") or {}
    return bool(security.get("rowLevelSecurityApplied"))


def _condition(table: bigquery.Table) -> str:
    """Return what satisfies `require_partition_filter` and leaves no row out."""
    partitions = stored_partitions(table.to_api_repr())
    if partitions is None or not partitions.filtered:
        return ""
    column = column_sql(partitions.column)
    return f" WHERE {column} IS NOT NULL OR {column} IS NULL"


def _warn(
    table: bigquery.Table,
    other: bigquery.Table,
    conversions: Sequence[Conversion],
    lost: dict[str, int],
    kept: dict[str, Kept],
) -> None:
    changes = []
    for conversion in conversions:
        change = f"column {conversion.name!r} was {conversion.before} and is {conversion.after}"
        if conversion.name in kept:
            rows, column = lost[conversion.name], kept[conversion.name].name
            change += f" (rows that keep their old text in {column!r}: {rows:,})"
        changes.append(change)
    names = table.clustering_fields or []
    gone = [repr(name) for name in names if name not in (other.clustering_fields or [])]
    if gone:
        changes.append(f"it is no longer clustered by {', '.join(gone)}")
    logger.warning(
        "table %r was rewritten, as the stream now sends other types: %s",
        table.table_id,
        "; ".join(changes),
    )
