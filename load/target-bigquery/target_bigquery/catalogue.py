"""A table of the API's as the loader sees it."""

import logging

from google.cloud import bigquery

from target_bigquery.column_types import BigQueryType, standard_name
from target_bigquery.errors import TargetError
from target_bigquery.marks import COLUMNS_LABEL, DESCRIBED, labelled_mark
from target_bigquery.partitions import stored_partitions
from target_bigquery.tables import StoredColumn, StoredTable

logger = logging.getLogger(__name__)


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
    if table.expires:
        logger.warning(
            "table %s expires at %s and then is gone, with all rows; ALTER TABLE `%s` SET OPTIONS "
            "(expiration_timestamp = NULL) ends that",
            table.table_id,
            f"{table.expires:%Y-%m-%d %H:%M} UTC",
            table,
        )
    columns = tuple(
        StoredColumn(
            field.name,
            BigQueryType(standard_name(field.field_type), field.precision, field.scale),
            field.mode == "REPEATED",
            bool(field.to_api_repr().get("collation")),
            field.mode == "REQUIRED" and field.default_value_expression is None,
        )
        for field in table.schema
    )
    return StoredTable(
        table.table_id,
        f"{table.project}.{table.dataset_id}.{table.table_id}",
        columns,
        labelled_mark(table.labels),
        table.description,
        table.labels.get(COLUMNS_LABEL) == DESCRIBED,
        stored_partitions(table.to_api_repr()),
        tuple(table.clustering_fields or ()),
    )
