"""One dataset of BigQuery: its tables, and the statements that run on them."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from io import SEEK_END
from typing import IO, Any

from google.api_core import exceptions
from google.cloud import bigquery

from target_bigquery.calls import CALL_TIMEOUT, JOB_TIMEOUT, ONCE, Calls
from target_bigquery.catalogue import stored_table
from target_bigquery.datasets import STAGING_LIFETIME, datasets, open_datasets
from target_bigquery.jobs import encryption, load_config, query_config
from target_bigquery.marks import Mark, with_columns, with_columns_label, with_mark
from target_bigquery.settings import Partitioning, Settings
from target_bigquery.tables import NewColumn, StoredTable, TablePlan

SMALL_FILE = 4 << 20  # bytes that go in one call; Google's library allows 5 MiB

logger = logging.getLogger(__name__)


class Warehouse:
    """One dataset of BigQuery; usable from several threads.

    Args:
        settings: project, datasets, location, and what jobs are given.
        client: where calls go.
        run: letters and digits that mark the staging tables and jobs of this run.
    """

    writes_ingestion_time = True  # rows can be put into partitions by ingestion time

    def __init__(self, settings: Settings, client: bigquery.Client, run: str) -> None:
        self.run_id = run
        self._settings = settings
        self._client = client
        self._calls = Calls(client, settings.location, run)
        self._datasets = datasets(settings)
        self._left_over: list[str] = []

    @property
    def collated(self) -> bool:
        """Whether new tables tell equal and less by more than the characters of a text."""
        return self._datasets.collated

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def path(self, table: str) -> str:
        """Return the table's full name as SQL writes it."""
        reference = self.reference(table)
        return f"`{reference.project}.{reference.dataset_id}.{reference.table_id}`"

    def reference(self, table: str) -> bigquery.TableReference:
        """Return the table's name as the API writes it."""
        return self._datasets.of(table).table(table)

    def table_key(self, name: str) -> str:
        """Return what two names have in common that mean one table: in some datasets, any case."""
        return name.lower() if self._datasets.any_case else name

    def open(self) -> None:
        """Make sure that the datasets are there.

        Raises:
            TargetError: BigQuery can't be reached or refuses.
        """
        self._datasets = open_datasets(self._client, self._calls, self._settings)

    def table(self, name: str) -> StoredTable | None:
        """Return a table as the catalogue has it, None if there is none.

        Raises:
            TargetError: what has the name is not a table.
        """
        found = self.get_table(name)
        return None if found is None else stored_table(found)

    def get_table(self, name: str) -> bigquery.Table | None:
        """Return a table of the API's, None if there is none."""

        def get() -> bigquery.Table | None:
            try:
                return self._client.get_table(
                    self.reference(name), timeout=CALL_TIMEOUT, retry=ONCE
                )
            except exceptions.NotFound:
                return None

        return self._calls.call(f"read table {name!r}", get)

    def create_table(
        self,
        name: str,
        columns: Iterable[NewColumn],
        *,
        mark: Mark | None = None,
        renamed: Mapping[str, str] | None = None,
        clustering: Iterable[str] = (),
        partitioning: Partitioning | None = None,
    ) -> None:
        """Make a table for a stream; one that exists already is left as it is."""
        table = self._new_table(name, columns)
        table.description = with_columns(None, renamed or {})
        table.labels = with_columns_label(with_mark({}, mark), renamed or {}) if mark else {}
        table.clustering_fields = list(clustering) or None
        if partitioning:
            table.time_partitioning = bigquery.TimePartitioning(
                partitioning.granularity.upper(), field=partitioning.column
            )
        self.make_table(table)

    def _new_table(self, name: str, columns: Iterable[NewColumn]) -> bigquery.Table:
        table = bigquery.Table(self.reference(name), [field(column) for column in columns])
        table.encryption_configuration = encryption(self._settings)
        return table

    def make_table(self, table: bigquery.Table) -> None:
        """Make a table of the API's; one that exists already is left as it is."""

        def create() -> None:
            with suppress(exceptions.Conflict):  # an earlier try came through
                self._client.create_table(table, timeout=CALL_TIMEOUT, retry=ONCE)

        self._calls.call(f"make table {table.table_id!r}", create)

    def change_table(self, name: str, plan: TablePlan) -> None:
        """Add and widen columns."""
        for change in plan.widen:
            self.run(
                f"ALTER TABLE {self.path(name)} "
                f"ALTER COLUMN `{change.name}` SET DATA TYPE {change.after}"
            )

        def add(table: bigquery.Table) -> list[str]:
            known = {column.name.lower() for column in table.schema}
            new = [field(column) for column in plan.add if column.name.lower() not in known]
            table.schema = [*table.schema, *new]
            return ["schema"] if new else []

        if plan.add:
            self.update_table(name, add)

    def mark_table(self, name: str, mark: Mark, renamed: Mapping[str, str] | None = None) -> None:
        """Write with the table what the loader keeps of it.

        Args:
            name: of the table.
            mark: for its labels.
            renamed: properties and their columns, for its description; None leaves that as it is.
        """

        def write(table: bigquery.Table) -> list[str]:
            table.labels = with_mark(table.labels, mark)
            if renamed is None:
                return ["labels"]
            table.labels = with_columns_label(table.labels, renamed)
            table.description = with_columns(table.description, renamed)
            return ["labels", "description"]

        self.update_table(name, write)

    def update_table(self, name: str, change: Callable[[bigquery.Table], list[str]]) -> None:
        """Read a table, change it and write it back: anew if somebody was in between (412).

        Args:
            name: of the table.
            change: changes it, and returns the names of the properties that it changed.
        """

        def update() -> None:
            table = self._client.get_table(self.reference(name), timeout=CALL_TIMEOUT, retry=ONCE)
            if changed := change(table):
                self._client.update_table(table, changed, timeout=CALL_TIMEOUT, retry=ONCE)

        self._calls.call(f"change table {name!r}", update)

    def row_policies(self, name: str) -> list[Any]:
        """Return the row access policies of a table, as far as the account may list them.

        https://cloud.google.com/bigquery/docs/reference/rest/v2/rowAccessPolicies/list
        """
        path = f"{self.reference(name).path}/rowAccessPolicies"

        def policies() -> list[Any]:
            try:
                connection: Any = self._client._connection  # noqa: SLF001  # it has no other way
                found = connection.api_request(method="GET", path=path, timeout=CALL_TIMEOUT)
            except (exceptions.Forbidden, exceptions.NotFound):
                return []
            return list(found.get("rowAccessPolicies", ()))

        return self._calls.call(f"read the row access policies of table {name!r}", policies)

    def fill(self, table: bigquery.Table, columns: Sequence[str], rows: str) -> None:
        """Make a table anew with the rows of a query.

        Args:
            table: as the API makes it.
            columns: that the query returns, as SQL writes them.
            rows: the query.
        """
        path = self.path(table.table_id)
        self.drop(table.table_id)
        self.make_table(table)
        self.run(f"INSERT INTO {path} ({', '.join(columns)})\n{rows}")

    def overwrite(self, name: str, source: bigquery.Table) -> None:
        """Make a table what another one is, as a whole or not at all."""
        config = bigquery.CopyJobConfig(
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
        )
        config.destination_encryption_configuration = source.encryption_configuration
        self._calls.run_job(
            f"replace table {name!r}",
            lambda job_id: self._client.copy_table(
                source.reference,
                self.reference(name),
                job_id=job_id,
                location=self._calls.location,
                job_config=config,
                timeout=JOB_TIMEOUT,
                retry=ONCE,
            ),
        )

    def load(self, name: str, columns: Iterable[NewColumn], parquet: IO[bytes]) -> None:
        """Make the content of a staging table the rows of a Parquet file.

        Raises:
            TargetError: BigQuery refuses the file; names the job.
        """
        table = self._new_table(name, columns)
        if not self._datasets.staging_expires:
            table.expires = datetime.now(UTC) + STAGING_LIFETIME
            self.make_table(table)
        config = load_config(self._settings, self.run_id, table.schema)
        size = parquet.seek(0, SEEK_END)
        self._calls.run_job(
            f"load {name!r}", lambda job_id: self._upload(parquet, size, table, job_id, config)
        )

    def _upload(
        self,
        parquet: IO[bytes],
        size: int,
        table: bigquery.Table,
        job_id: str,
        config: bigquery.LoadJobConfig,
    ) -> Any:
        return self._client.load_table_from_file(
            parquet,
            table.reference,
            rewind=True,
            size=size if size < SMALL_FILE else None,  # known: in one call
            num_retries=0,
            job_id=job_id,
            location=self._calls.location,
            job_config=config,
            timeout=JOB_TIMEOUT,
        )

    def run(self, statement: str) -> None:
        """Run a statement that returns no rows."""
        self._calls.run_job("query", lambda job_id: self.send_query(statement, job_id))

    def query(self, sql: str) -> list[Any]:
        """Run a query and return its rows."""
        job = self.query_job(sql)
        return self._calls.call(
            "read a query's rows", lambda: list(job.result(retry=ONCE, timeout=CALL_TIMEOUT))
        )

    def query_job(self, sql: str) -> Any:
        """Run a query and return its job, which knows more than its rows."""
        return self._calls.run_job("query", lambda job_id: self.send_query(sql, job_id))

    def send_query(self, sql: str, job_id: str) -> Any:
        """Start a statement or script under a job id, once."""
        return self._client.query(
            sql,
            job_id=job_id,
            location=self._calls.location,
            job_config=query_config(self._settings, self.run_id),
            timeout=JOB_TIMEOUT,
            retry=ONCE,
            job_retry=ONCE,
        )

    def drop(self, name: str) -> None:
        """Drop a table, if it is there."""
        self._calls.call(
            f"drop table {name!r}",
            lambda: self._client.delete_table(
                self.reference(name), not_found_ok=True, timeout=CALL_TIMEOUT, retry=ONCE
            ),
        )

    def staging_name(self, table: str, number: int) -> str:
        """Return the name of a staging table of this run."""
        return self._datasets.staging_name(table, self.run_id, number)

    def table_names(self) -> list[str]:
        """Return the names of the dataset's tables, and note which staging tables are left."""
        target, staging = self._datasets.target, self._datasets.staging
        names = self._table_names(target)
        self._left_over = names if staging == target else self._table_names(staging)
        return names

    def left_over(self, table: str) -> list[str]:
        """Return the staging tables that killed runs have left of a table."""
        return self._datasets.left_over(table, self._left_over)

    def _table_names(self, dataset: bigquery.DatasetReference) -> list[str]:
        return self._calls.call(
            "list the tables",
            lambda: [
                item.table_id
                for item in self._client.list_tables(
                    dataset, page_size=1000, timeout=CALL_TIMEOUT, retry=ONCE
                )
            ],
        )


def field(column: NewColumn) -> bigquery.SchemaField:
    """Return a column as the API writes it."""
    options: dict[str, Any] = {
        "description": column.description,
        "precision": column.type.precision,
        "scale": column.type.scale,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return bigquery.SchemaField(column.name, column.type.name, **given)
