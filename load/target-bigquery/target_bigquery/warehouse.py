"""One dataset of BigQuery: its tables, and the statements that run on them."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from google.api_core import exceptions
from google.cloud import bigquery

from target_bigquery.calls import CALL_TIMEOUT, JOB_TIMEOUT, ONCE, PATIENCE, Calls
from target_bigquery.catalogue import stored_table
from target_bigquery.connection import connect
from target_bigquery.errors import TargetError
from target_bigquery.marks import Mark, with_columns, with_columns_label, with_mark
from target_bigquery.settings import Partitioning, Settings
from target_bigquery.tables import NewColumn, StoredTable, TablePlan

# A project can have another, and moments and texts would be cast by it.
_UTC = bigquery.ConnectionProperty("time_zone", "UTC")
STAGING_LIFETIME = timedelta(days=1)

logger = logging.getLogger(__name__)


class Warehouse:
    """One dataset of BigQuery; usable from several threads.

    Args:
        settings: project, dataset, location and credentials.
        run: letters and digits that mark the staging tables and jobs of this run.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self.run = run
        self._settings = settings
        self._client = connect(settings)
        self._calls = Calls(self._client, settings.location, run)
        self._dataset = bigquery.DatasetReference(settings.project, settings.dataset)
        self._any_case = False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def path(self, table: str) -> str:
        """Return the table's full name as SQL writes it."""
        return f"`{self._dataset.project}.{self._dataset.dataset_id}.{table}`"

    def reference(self, table: str) -> bigquery.TableReference:
        """Return the table's name as the API writes it."""
        return self._dataset.table(table)

    @property
    def writes_ingestion_time(self) -> bool:
        """Whether rows can be put into partitions by ingestion time; the emulator has none."""
        return not self._settings.emulator

    def table_key(self, name: str) -> str:
        """Return what two names have in common that mean one table: in some datasets, any case."""
        return name.lower() if self._any_case else name

    def open(self) -> None:
        """Make sure that the dataset is there.

        Raises:
            TargetError: BigQuery can't be reached or refuses.
        """
        name = f"{self._dataset.project}.{self._dataset.dataset_id}"
        try:
            found = self._calls.call("open the dataset", self._get_dataset)
            if found is None:
                logger.info("making dataset %s in %s", name, self._settings.location)
                made = bigquery.Dataset(self._dataset)
                made.location = self._settings.location
                found = self._calls.call(
                    "make the dataset",
                    lambda: self._client.create_dataset(
                        made, exists_ok=True, timeout=CALL_TIMEOUT, retry=ONCE
                    ),
                )
        except TargetError as error:
            raise TargetError(f"can't use dataset {name}: {error}") from error
        if found.location and found.location.lower() != self._calls.location.lower():
            logger.info("dataset %s is in %s", name, found.location)
            self._calls.location = found.location  # jobs have to run where the dataset is
        self._any_case = bool(found.is_case_insensitive)
        self._calls.patience = PATIENCE

    def _get_dataset(self) -> bigquery.Dataset | None:
        try:
            return self._client.get_dataset(self._dataset, timeout=CALL_TIMEOUT, retry=ONCE)
        except exceptions.NotFound:
            return None

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
                    self._dataset.table(name), timeout=CALL_TIMEOUT, retry=ONCE
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
        temporary: bool = False,
    ) -> None:
        """Make a table for a stream, or a staging table."""
        table = bigquery.Table(self._dataset.table(name), [_field(column) for column in columns])
        table.description = with_columns(None, renamed or {})
        table.labels = with_columns_label(with_mark({}, mark), renamed or {}) if mark else {}
        table.clustering_fields = list(clustering) or None
        if partitioning:
            table.time_partitioning = bigquery.TimePartitioning(
                partitioning.granularity.upper(), field=partitioning.column
            )
        if temporary:
            table.expires = datetime.now(UTC) + STAGING_LIFETIME
        self.make_table(table)

    def make_table(self, table: bigquery.Table) -> None:
        """Make a table of the API's; one that exists already is left as it is."""
        self._calls.call(
            f"make table {table.table_id!r}",
            lambda: self._client.create_table(
                table, exists_ok=True, timeout=CALL_TIMEOUT, retry=ONCE
            ),
        )

    def change_table(self, name: str, plan: TablePlan) -> None:
        """Add and widen columns.

        The catalogue is told through the API and the data's own columns are checked: BigQuery
        changes both at once, its emulator needs both statements.
        """
        path = self.path(name)
        for change in plan.widen:
            self.query(
                f"ALTER TABLE {path} ALTER COLUMN `{change.name}` SET DATA TYPE {change.after}"
            )
        types = {change.name: change.after for change in plan.widen}
        table = self.get_table(name)
        if table is None:
            raise TargetError(f"table {name!r} disappeared while it was being changed")
        schema = [
            _field(NewColumn(field.name, types[field.name], field.description))
            if field.name in types
            else field
            for field in table.schema
        ]
        known = {field.name.lower() for field in schema}
        schema += [_field(column) for column in plan.add if column.name.lower() not in known]
        if schema != table.schema:
            table.schema = schema
            self._calls.call(
                f"change table {name!r}",
                lambda: self._client.update_table(
                    table, ["schema"], timeout=CALL_TIMEOUT, retry=ONCE
                ),
            )
        there = {
            field.name.lower() for field in self.query(f"SELECT * FROM {path} WHERE FALSE").schema
        }
        for column in plan.add:
            if column.name.lower() not in there:
                self.query(
                    f"ALTER TABLE {path} ADD COLUMN IF NOT EXISTS `{column.name}` {column.type}"
                )

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
        """Read a table, change it and write it back.

        Args:
            name: of the table.
            change: changes it, and returns the names of the properties that it changed.
        """
        table = self.get_table(name)
        if table is None:
            raise TargetError(f"table {name!r} disappeared while it was being changed")
        changed = change(table)
        self._calls.call(
            f"change table {name!r}",
            lambda: self._client.update_table(table, changed, timeout=CALL_TIMEOUT, retry=ONCE),
        )

    def row_policies(self, name: str) -> list[Any]:
        """Return the row access policies of a table, as far as the account may list them.

        https://cloud.google.com/bigquery/docs/reference/rest/v2/rowAccessPolicies/list
        """
        path = f"{self._dataset.table(name).path}/rowAccessPolicies"

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
        if self._settings.emulator:  # its API can't make a BIGNUMERIC
            self.query(f"CREATE OR REPLACE TABLE {path} AS\n{rows}")
            return
        self.drop(table.table_id)
        self.make_table(table)
        self.query(f"INSERT INTO {path} ({', '.join(columns)})\n{rows}")

    def overwrite(self, name: str, source: bigquery.Table) -> None:
        """Make a table what another one is, as a whole or not at all."""
        if self._settings.emulator:
            self._overwrite_emulated(name, source)
            return
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

    def _overwrite_emulated(self, name: str, source: bigquery.Table) -> None:
        """Do the same in the emulator, whose copy jobs copy rows into the old columns."""
        self.query(
            f"CREATE OR REPLACE TABLE {self.path(name)} AS "
            f"SELECT * FROM {self.path(source.table_id)}"
        )

        def restore(table: bigquery.Table) -> list[str]:
            kept = ["schema", "labels", "description", "friendly_name"]
            kept += ["clustering_fields", "time_partitioning"]
            for part in kept:
                setattr(table, part, getattr(source, part))
            return kept

        self.update_table(name, restore)

    def load(self, name: str, columns: Iterable[NewColumn], parquet: IO[bytes]) -> None:
        """Make the content of a staging table the rows of a Parquet file.

        Raises:
            TargetError: BigQuery refuses the file; names the job.
        """
        columns = list(columns)
        self.create_table(name, columns, temporary=True)
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET,
            write_disposition=bigquery.WriteDisposition.WRITE_TRUNCATE,
            create_disposition=bigquery.CreateDisposition.CREATE_NEVER,
            schema=[_field(column) for column in columns],
        )

        def send(job_id: str) -> Any:
            return self._client.load_table_from_file(
                parquet,
                self._dataset.table(name),
                rewind=True,
                num_retries=0,
                job_id=job_id,
                location=self._calls.location,
                job_config=config,
                timeout=JOB_TIMEOUT,
            )

        self._calls.run_job(f"load {name!r}", send)

    def query(
        self, sql: str, done: Callable[[], bool] | None = None, *, repeatable: bool = True
    ) -> Any:
        """Run a statement or script and return its rows.

        Args:
            sql: what to run.
            done: tells if a script whose answer was lost has done its work.
            repeatable: whether a script that failed within BigQuery can be run again.
        """
        return self._calls.run_job(
            "query", lambda job_id: self._send_query(sql, job_id), done, repeatable=repeatable
        )

    def _send_query(self, sql: str, job_id: str) -> Any:
        return self._client.query(
            sql,
            job_id=job_id,
            location=self._calls.location,
            job_config=bigquery.QueryJobConfig(connection_properties=[_UTC]),
            timeout=JOB_TIMEOUT,
            retry=ONCE,
            job_retry=ONCE,
        )

    def query_job(self, sql: str) -> Any:
        """Run a query and return its job, which knows more than its rows."""
        jobs: list[Any] = []

        def send(job_id: str) -> Any:
            jobs.append(self._send_query(sql, job_id))
            return jobs[-1]

        self._calls.run_job("query", send)
        return jobs[-1]

    def merge(self, script: str, staging: str, *, repeatable: bool) -> None:
        """Run a script that drops its staging table at the end: its work is done when that is gone.

        Args:
            script: brings the staging table's rows into their table.
            staging: name of the staging table.
            repeatable: running the script twice is as good as once.
        """
        self.query(script, lambda: self.get_table(staging) is None, repeatable=repeatable)

    def drop(self, name: str) -> None:
        """Drop a table, if it is there."""
        self._calls.call(
            f"drop table {name!r}",
            lambda: self._client.delete_table(
                self._dataset.table(name), not_found_ok=True, timeout=CALL_TIMEOUT, retry=ONCE
            ),
        )

    def staging_name(self, table: str, number: int) -> str:
        """Return the name of a staging table of this run."""
        return f"{_STAGING}{table}_{self.run}_{number}"

    def table_names(self) -> list[str]:
        """Return the names of the dataset's tables, staging tables of killed runs among them."""
        return self._calls.call(
            "list the tables",
            lambda: [
                item.table_id
                for item in self._client.list_tables(
                    self._dataset, page_size=1000, timeout=CALL_TIMEOUT, retry=ONCE
                )
            ],
        )


_STAGING = "_sdc_staging_"


def staging_of(table: str, names: Iterable[str]) -> list[str]:
    """Return which of the names are staging tables of a table."""
    pattern = re.compile(rf"{_STAGING}{re.escape(table)}_[0-9a-f]{{12}}_\d+")
    return [name for name in names if pattern.fullmatch(name)]


def _field(column: NewColumn) -> bigquery.SchemaField:
    options: dict[str, Any] = {
        "description": column.description,
        "precision": column.type.precision,
        "scale": column.type.scale,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return bigquery.SchemaField(column.name, column.type.name, **given)
