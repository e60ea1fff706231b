"""One dataset of BigQuery: its tables, and the statements that run on them."""

import logging
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import IO, Any

from google.api_core import exceptions
from google.cloud import bigquery

from target_bigquery.calls import CALL_TIMEOUT, JOB_TIMEOUT, ONCE, PATIENCE, Calls
from target_bigquery.column_types import BigQueryType, standard_name
from target_bigquery.connection import connect
from target_bigquery.errors import TargetError
from target_bigquery.partitions import stored_partitions
from target_bigquery.settings import Partitioning, Settings
from target_bigquery.tables import (
    Mark,
    NewColumn,
    StoredColumn,
    StoredTable,
    TablePlan,
    column_property,
    described_mark,
    with_mark,
)

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
        self.collated = False  # new tables compare text by more than its characters
        self._settings = settings
        self._client = connect(settings)
        self._calls = Calls(self._client, settings.location, run)
        self._dataset = bigquery.DatasetReference(settings.project, settings.dataset)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def path(self, table: str) -> str:
        """Return the table's full name as SQL writes it."""
        return f"`{self._dataset.project}.{self._dataset.dataset_id}.{table}`"

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
        self._calls.patience = PATIENCE
        self.collated = bool(found.to_api_repr().get("defaultCollation"))

    def _get_dataset(self) -> bigquery.Dataset | None:
        try:
            return self._client.get_dataset(self._dataset, timeout=CALL_TIMEOUT, retry=ONCE)
        except exceptions.NotFound:
            return None

    def table(self, name: str) -> StoredTable | None:
        """Return a table as the catalogue has it, None if there is none."""
        found = self._get_table(name)
        if found is None:
            return None
        columns = tuple(
            StoredColumn(
                field.name,
                BigQueryType(standard_name(field.field_type), field.precision, field.scale),
                column_property(field.name, field.description),
                field.mode == "REPEATED",
                bool(field.to_api_repr().get("collation")),
            )
            for field in found.schema
        )
        return StoredTable(
            name,
            columns,
            described_mark(found.description),
            stored_partitions(found.to_api_repr()),
            tuple(found.clustering_fields or ()),
        )

    def _get_table(self, name: str) -> bigquery.Table | None:
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
        clustering: Iterable[str] = (),
        partitioning: Partitioning | None = None,
        temporary: bool = False,
    ) -> None:
        """Make a table; one that exists already is left as it is."""
        table = bigquery.Table(self._dataset.table(name), [_field(column) for column in columns])
        table.description = with_mark(None, mark) if mark else None
        table.clustering_fields = list(clustering) or None
        if partitioning:
            table.time_partitioning = bigquery.TimePartitioning(
                partitioning.granularity.upper(), field=partitioning.column
            )
        if temporary:
            table.expires = datetime.now(UTC) + STAGING_LIFETIME
        self._calls.call(
            f"make table {name!r}",
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
        table = self._get_table(name)
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

    def mark_table(self, name: str, mark: Mark) -> None:
        """Write into the table's description what the loader keeps of its rows."""
        table = self._get_table(name)
        if table is None:
            raise TargetError(f"table {name!r} disappeared while it was being loaded")
        table.description = with_mark(table.description, mark)
        self._calls.call(
            f"change the description of table {name!r}",
            lambda: self._client.update_table(
                table, ["description"], timeout=CALL_TIMEOUT, retry=ONCE
            ),
        )

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

        def send(job_id: str) -> Any:
            return self._client.query(
                sql,
                job_id=job_id,
                location=self._calls.location,
                timeout=JOB_TIMEOUT,
                retry=ONCE,
                job_retry=ONCE,
            )

        return self._calls.run_job("query", send, done, repeatable=repeatable)

    def merge(self, statements: Iterable[str], staging: str, *, repeatable: bool) -> None:
        """Run what brings the rows of a staging table into their table, then drop that.

        Args:
            statements: each for its own part of the rows.
            staging: name of the staging table.
            repeatable: running a statement twice is as good as once.
        """
        for statement in statements:
            self.query(statement, repeatable=repeatable)
        self.drop(staging)

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
