"""The rows of older versions of a stream, which ACTIVATE_VERSION deletes."""

import pyarrow as pa

from target_bigquery import sql
from target_bigquery.errors import TargetError
from target_bigquery.partitions import TOO_MANY, Touched
from target_bigquery.sql import Load
from target_bigquery.values import ARROW_TYPES
from target_bigquery.warehouse import Warehouse


def remove_older_versions(
    load: Load, warehouse: Warehouse, version: int, *, deleted: str | None, text: bool = False
) -> None:
    """Delete the rows of older versions, in parts if they are in too many partitions for a job.

    Args:
        load: into the table.
        warehouse: has it.
        version: the one that stays.
        deleted: the column that marks deleted rows; None removes them.
        text: the marking column is a STRING.
    """
    try:
        warehouse.run(sql.remove_older_versions(load, version, deleted=deleted, text=text))
    except TargetError as error:
        if load.partitions is None or TOO_MANY not in str(error):
            raise
        query = sql.partitions_of_older_versions(load, load.partitions, version)
        begins = [row[0] for row in warehouse.query(query)]
        touched = Touched(load.partitions)
        touched.add(pa.array(begins, ARROW_TYPES[load.partitions.kind]))
        for part in touched.parts():
            warehouse.run(
                sql.remove_older_versions(load, version, deleted=deleted, text=text, part=part)
            )
