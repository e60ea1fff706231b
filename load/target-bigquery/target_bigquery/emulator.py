"""What the loader does for the emulator alone; of the real service nothing is asked for it.

`bqemulator` keeps catalogue and data apart, runs a job within the call that starts it and knows
its id only afterwards, and can't read every form of upload. `load/target-bigquery/README.md` lists
what that means for the tests.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

from google.api_core import exceptions
from google.api_core.client_options import ClientOptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from target_bigquery.column_types import NUMERIC, BigQueryType
from target_bigquery.connection import connect
from target_bigquery.settings import Settings
from target_bigquery.tables import NewColumn, TablePlan
from target_bigquery.warehouse import SMALL_FILE, Warehouse, field

LOOKS, LOOK_PAUSE = 5, 0.2  # for a job whose answer was lost


def open_warehouse(settings: Settings, run: str) -> Warehouse:
    """Return BigQuery, or the emulator if its address is set.

    Raises:
        TargetError: there are no usable credentials.
    """
    if settings.emulator:
        return EmulatedWarehouse(settings, emulator_client(settings), run)
    return Warehouse(settings, connect(settings), run)


def emulator_client(settings: Settings) -> bigquery.Client:
    """Return a client without credentials for the address in the settings."""
    address = settings.emulator or ""
    return _Client(
        project=settings.project,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options=ClientOptions(
            api_endpoint=address if "://" in address else f"http://{address}"
        ),
        location=settings.location,
    )


_NUMERIC = BigQueryType("NUMERIC", 38, 9)  # a column that becomes one has three decimals without


class _Client(bigquery.Client):
    """Gives a job time to become known, which the emulator knows of when it is done."""

    def get_job(self, *args: Any, **options: Any) -> Any:
        """Return a job, also one whose work ends within moments."""
        for _ in range(LOOKS - 1):
            with suppress(exceptions.NotFound):
                return super().get_job(*args, **options)
            time.sleep(LOOK_PAUSE)
        return super().get_job(*args, **options)


class EmulatedWarehouse(Warehouse):
    """A dataset of the emulator."""

    writes_ingestion_time = False

    def create_table(
        self,
        name: str,
        columns: Iterable[NewColumn],
        *,
        clustering: Iterable[str] = (),
        **options: Any,
    ) -> None:
        """Make a table; its BIGNUMERIC columns come afterwards, as they can't be made with it."""
        columns = list(columns)
        later = [column for column in columns if column.type.name == "BIGNUMERIC"]
        names = {column.name for column in later}
        super().create_table(
            name,
            [column for column in columns if column not in later],
            clustering=[column for column in clustering if column not in names],
            **options,
        )
        if later:
            self.change_table(name, TablePlan((), tuple(later)))

    def change_table(self, name: str, plan: TablePlan) -> None:
        """Change the data by SQL and the catalogue through the API, which BigQuery does in one.

        The data come first: the catalogue is what the next run reads, and if this one is killed in
        between, that adds the column once more.
        """
        for column in plan.add:
            self.run(
                f"ALTER TABLE {self.path(name)} ADD COLUMN IF NOT EXISTS "
                f"`{column.name}` {column.type}"
            )
        widen = [
            change._replace(after=_NUMERIC) if change.after == NUMERIC else change
            for change in plan.widen
        ]
        super().change_table(name, replace(plan, widen=tuple(widen)))
        types = {change.name: change.after for change in plan.widen}
        if types:

            def tell(table: bigquery.Table) -> list[str]:
                table.schema = [
                    field(NewColumn(old.name, types[old.name], old.description))
                    if old.name in types
                    else old
                    for old in table.schema
                ]
                return ["schema"]

            self.update_table(name, tell)

    def fill(self, table: bigquery.Table, columns: Sequence[str], rows: str) -> None:  # noqa: ARG002  # all
        """Make the table by SQL: the API can't make a BIGNUMERIC."""
        self.run(f"CREATE OR REPLACE TABLE {self.path(table.table_id)} AS\n{rows}")

    def overwrite(self, name: str, source: bigquery.Table) -> None:
        """Make the table anew by SQL: a copy job would copy the rows into the old columns."""
        self.run(
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

    def _upload(
        self,
        parquet: IO[bytes],
        size: int,
        table: bigquery.Table,
        job_id: str,
        config: bigquery.LoadJobConfig,
    ) -> Any:
        """Send every file as if it were large: in the call for small ones its bytes are changed."""
        return super()._upload(parquet, max(size, SMALL_FILE), table, job_id, config)
