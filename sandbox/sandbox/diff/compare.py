"""Comparing the tables of a publication with those of a dataset, a range of keys at a time."""

from collections.abc import Callable, Iterator, Sequence

import psycopg
from google.cloud import bigquery

from sandbox.diff import source, warehouse
from sandbox.diff.keyed import KeyedComparison
from sandbox.diff.report import Difference, TableReport
from sandbox.diff.source import SourceTable
from sandbox.diff.warehouse import UNORDERED, WarehouseTable, standard_type

# Table, rows compared so far, rows in all.
Progress = Callable[[str, int, int], None]


def differences(
    connection: psycopg.Connection,
    client: bigquery.Client,
    dataset: str,
    tables: Sequence[str] = (),
    *,
    publication: str = "oso_publication",
    keeps_dropped_partitions: bool = False,
    on_progress: Progress = lambda *_: None,
) -> Iterator[TableReport]:
    """Compare the tables of a publication with a dataset, one after another.

    The source is read in one transaction, so it is seen as of one moment. Rows that the warehouse
    marks as deleted don't count, nor do columns that the source has no more.

    Args:
        connection: To the source, in autocommit mode.
        client: Its project is the one of the dataset.
        dataset: Name of the dataset.
        tables: Names in the source, with or without schema; all published ones if there is none.
        publication: What is published decides which tables, columns and rows are compared.
        keeps_dropped_partitions: Rows of a partitioned table that only the warehouse has are of
            dropped partitions, and no difference.
        on_progress: Is told after each range how far a table is.

    Raises:
        ValueError: The publication holds no such table.
        google.api_core.exceptions.GoogleAPIError: BigQuery refused, or has no such dataset.
        psycopg.Error: PostgreSQL refused.
    """
    client.get_dataset(f"{client.project}.{dataset}")
    with source.snapshot(connection):
        published = source.published_tables(connection, publication)
        named = {name for table in published for name in (table.name, _full_name(table))}
        if unknown := set(tables) - named:
            raise ValueError(f'publication "{publication}" does not hold {min(unknown)}')
        if not published:
            raise ValueError(f'publication "{publication}" does not exist or holds no table')
        for table in published:
            if not tables or {table.name, _full_name(table)} & set(tables):
                streams = (table.name, f"{table.schema}-{table.name}")
                stored = warehouse.find_table(client, dataset, streams)
                report = TableReport(_full_name(table))
                report.keeps_dropped = keeps_dropped_partitions and table.is_partitioned
                _compare(connection, client, table, stored, report, on_progress)
                if report.kept:
                    kept = f"{report.kept:,} rows of dropped partitions are kept"
                    report.note = "; ".join(filter(None, (report.note, kept)))
                yield report


def _full_name(table: SourceTable) -> str:
    return f"{table.schema}.{table.name}"


def _compare(
    connection: psycopg.Connection,
    client: bigquery.Client,
    table: SourceTable,
    stored: WarehouseTable | None,
    report: TableReport,
    on_progress: Progress,
) -> None:
    total = source.count(connection, table)
    on_progress(report.table, 0, total)
    if stored is None:
        report.source_rows = total
        report.problem = "the warehouse has no such table"
        return
    if missing := [name for name in table.columns if name not in stored.columns]:
        report.problem = f"the warehouse has no column {', '.join(missing)}"
    keys = [stored.columns[name] for name in table.key if name in stored.columns]
    if not keys or len(keys) < len(table.key) or UNORDERED & {*map(standard_type, keys)}:
        report.note = "only counted: it has no key that BigQuery can order"
        report.source_rows = total
        report.warehouse_rows = warehouse.count(client, stored)
        report.different = abs(report.source_rows - report.warehouse_rows)
        if report.keeps_dropped and report.warehouse_rows > report.source_rows:
            report.kept, report.different = report.different, 0
        return
    for key in warehouse.twice(client, stored, keys):
        report.add(Difference("twice", dict(zip(table.key, key, strict=True)), {}))
    comparison = KeyedComparison(connection, client, table, stored, total, report)
    comparison.run(lambda done: on_progress(report.table, done, total))
