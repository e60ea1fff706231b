"""A table of the API's as the loader sees it."""

from google.cloud import bigquery

from target_bigquery.column_types import BigQueryType, standard_name
from target_bigquery.errors import TargetError
from target_bigquery.marks import COLUMNS_LABEL, DESCRIBED, labelled_mark
from target_bigquery.settings import Partitioning
from target_bigquery.tables import StoredColumn, StoredTable
from target_bigquery.type_changes import RANGE


def stored_table(table: bigquery.Table) -> StoredTable:
    """Return a table as the plan for it needs it.

    Raises:
        TargetError: it is a view, a snapshot, or something else that no rows go into.
    """
    if table.table_type not in {"TABLE", None}:
        kind = str(table.table_type).lower().replace("_", " ")
        raise TargetError(
            f"{table.dataset_id}.{table.table_id} is of type {kind}, and rows can be loaded into a "
            "table only: drop or rename it, or give the stream another name in the tap"
        )
    columns = tuple(
        StoredColumn(
            field.name,
            BigQueryType(standard_name(field.field_type), field.precision, field.scale),
            field.mode == "REPEATED",
            field.mode == "REQUIRED" and field.default_value_expression is None,
        )
        for field in table.schema
    )
    partitioning = None
    if table.time_partitioning and table.time_partitioning.field:
        granularity = str(table.time_partitioning.type_).lower()
        partitioning = Partitioning(table.time_partitioning.field, granularity)
    elif table.range_partitioning:
        partitioning = Partitioning(table.range_partitioning.field, RANGE)
    return StoredTable(
        table.table_id,
        f"{table.project}.{table.dataset_id}.{table.table_id}",
        columns,
        labelled_mark(table.labels),
        table.description,
        table.labels.get(COLUMNS_LABEL) == DESCRIBED,
        tuple(table.clustering_fields or ()),
        partitioning,
    )
