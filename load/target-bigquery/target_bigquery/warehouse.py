"""Calls to BigQuery, each of which can be repeated: what may have been done is not done twice.

Load jobs replace the content of their staging table; a query has a job id of ours, and when an
answer was lost, the job is asked for before the query is sent again.
https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid
"""

import json
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from datetime import UTC, datetime, timedelta
from typing import IO, Any, TypeVar

import google.auth
from google.api_core import exceptions, retry
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.oauth2 import service_account
from google.resumable_media import common as media_exceptions
from requests import exceptions as requests_exceptions

from target_bigquery.column_types import BigQueryType, standard_name
from target_bigquery.errors import TargetError, one_line
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

SCOPES = ["https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/drive"]
FIRST_PATIENCE = 10.0  # seconds until a warehouse that was never reached counts as unreachable
PATIENCE = 120.0  # seconds of trying again once it was reached
CALL_TIMEOUT = 10.0
JOB_TIMEOUT = 600.0
POLL = 0.5
STAGING_LIFETIME = timedelta(days=1)
ONCE: Any = None  # turns the client's own tries off: `_call` has them all
TRANSIENT_REASONS = {
    "backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded",
    "rateLimitExceeded", "tableUnavailable",
}  # fmt: skip
_CONNECTION_ERRORS = (
    ConnectionError, TimeoutError, FutureTimeoutError, auth_exceptions.TransportError,
    media_exceptions.DataCorruption, requests_exceptions.ConnectionError,
    requests_exceptions.ChunkedEncodingError, requests_exceptions.Timeout,
)  # fmt: skip

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Warehouse:
    """One dataset of BigQuery; usable from several threads.

    Args:
        settings: project, dataset, location and credentials.
        run: letters and digits that mark the staging tables and jobs of this run.
    """

    def __init__(self, settings: Settings, run: str) -> None:
        self.run = run
        self.patience = FIRST_PATIENCE
        self._settings = settings
        self._client = _client(settings)
        self._dataset = bigquery.DatasetReference(settings.project, settings.dataset)
        self._location = settings.location
        self._jobs = 0
        self._lock = threading.Lock()

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
            found = self._call("open the dataset", self._get_dataset)
            if found is None:
                logger.info("making dataset %s in %s", name, self._settings.location)
                made = bigquery.Dataset(self._dataset)
                made.location = self._settings.location
                found = self._call(
                    "make the dataset",
                    lambda: self._client.create_dataset(
                        made, exists_ok=True, timeout=CALL_TIMEOUT, retry=ONCE
                    ),
                )
        except TargetError as error:
            raise TargetError(f"can't use dataset {name}: {error}") from error
        if found.location and found.location.lower() != self._location.lower():
            logger.info("dataset %s is in %s", name, found.location)
            self._location = found.location  # jobs have to run where the dataset is
        self.patience = PATIENCE

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
            )
            for field in found.schema
        )
        return StoredTable(name, columns, described_mark(found.description))

    def _get_table(self, name: str) -> bigquery.Table | None:
        def get() -> bigquery.Table | None:
            try:
                return self._client.get_table(
                    self._dataset.table(name), timeout=CALL_TIMEOUT, retry=ONCE
                )
            except exceptions.NotFound:
                return None

        return self._call(f"read table {name!r}", get)

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
        self._call(
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
            self._call(
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
        self._call(
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
                location=self._location,
                job_config=config,
                timeout=JOB_TIMEOUT,
            )

        self._run_job(f"load {name!r}", send)

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
                location=self._location,
                timeout=JOB_TIMEOUT,
                retry=ONCE,
                job_retry=ONCE,
            )

        return self._run_job("query", send, done, repeatable=repeatable)

    def merge(self, script: str, staging: str, *, repeatable: bool) -> None:
        """Run a script that drops its staging table at the end: its work is done when that is gone.

        Args:
            script: brings the staging table's rows into their table.
            staging: name of the staging table.
            repeatable: running the script twice is as good as once.
        """
        self.query(script, lambda: self._get_table(staging) is None, repeatable=repeatable)

    def drop(self, name: str) -> None:
        """Drop a table, if it is there."""
        self._call(
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
        return self._call(
            "list the tables",
            lambda: [
                item.table_id
                for item in self._client.list_tables(
                    self._dataset, page_size=1000, timeout=CALL_TIMEOUT, retry=ONCE
                )
            ],
        )

    def _run_job(
        self,
        what: str,
        send: Callable[[str], Any],
        done: Callable[[], bool] | None = None,
        *,
        repeatable: bool = True,
    ) -> Any:
        """Send a job once and wait for its result; send another if it fails and may be repeated."""
        job_id = self._job_id()
        sent = False

        def attempt() -> Any:
            nonlocal job_id, sent
            job = self._find_job(job_id) if sent else None
            if job is None and sent and done is not None and done():
                return None
            sent = True
            job = job or self._sent(send, job_id)
            while not self._call("wait for a job", lambda: _is_done(job)):
                time.sleep(POLL)
            try:
                return job.result(retry=ONCE, timeout=CALL_TIMEOUT)
            except exceptions.GoogleAPICallError as error:
                if job.error_result and not (repeatable and _transient(error)):
                    raise TargetError(f"could not {what}: {_advice(error)}") from error
                if job.error_result:
                    job_id, sent = self._job_id(), False
                raise

        try:
            return self._call(what, attempt)
        except TargetError as error:
            raise TargetError(f"{error} (job {job_id})") from error.__cause__

    def _sent(self, send: Callable[[str], Any], job_id: str) -> Any:
        try:
            return send(job_id)
        except exceptions.Conflict:  # an earlier try came through
            job = self._find_job(job_id)
            if job is None:
                raise
            return job

    def _find_job(self, job_id: str) -> Any:
        try:
            return self._client.get_job(
                job_id, location=self._location, timeout=CALL_TIMEOUT, retry=ONCE
            )
        except exceptions.NotFound:
            return None

    def _job_id(self) -> str:
        with self._lock:
            self._jobs += 1
            return f"target_bigquery_{self.run}_{self._jobs}"

    def _call(self, what: str, call: Callable[[], T]) -> T:
        """Call until it succeeds, fails for good, or patience ends."""

        def tell(error: Exception) -> None:
            logger.warning("BigQuery did not %s, trying again: %s", what, one_line(error))

        again = retry.Retry(
            predicate=_transient, initial=0.5, maximum=15.0, timeout=self.patience, on_error=tell
        )
        try:
            return again(call)()
        except exceptions.RetryError as error:
            cause = error.cause or error
            raise TargetError(
                f"could not {what}: no success within {self.patience:.0f} seconds, last: "
                f"{one_line(cause)}"
            ) from cause
        except exceptions.GoogleAPICallError as error:
            raise TargetError(f"could not {what}: {_advice(error)}") from error
        except auth_exceptions.GoogleAuthError as error:
            raise TargetError(
                f"could not {what}: the credentials are refused: {one_line(error)}"
            ) from error
        except (*_CONNECTION_ERRORS, media_exceptions.InvalidResponse) as error:
            raise TargetError(f"could not {what}: {one_line(error)}") from error


_STAGING = "_sdc_staging_"


def staging_of(table: str, names: Iterable[str]) -> list[str]:
    """Return which of the names are staging tables of a table."""
    pattern = re.compile(rf"{_STAGING}{re.escape(table)}_[0-9a-f]{{12}}_\d+")
    return [name for name in names if pattern.fullmatch(name)]


def _is_done(job: Any) -> bool:
    return bool(job.done(retry=ONCE, timeout=CALL_TIMEOUT))


def _field(column: NewColumn) -> bigquery.SchemaField:
    options: dict[str, Any] = {
        "description": column.description,
        "precision": column.type.precision,
        "scale": column.type.scale,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return bigquery.SchemaField(column.name, column.type.name, **given)


def _transient(error: BaseException) -> bool:
    """Tell if the same call may succeed later."""
    if isinstance(error, media_exceptions.InvalidResponse):
        return error.response.status_code in {408, 410, 429, 500, 502, 503, 504}
    if isinstance(error, exceptions.GoogleAPICallError):
        reasons = {
            detail.get("reason") for detail in error.errors or () if isinstance(detail, dict)
        }
        server = (exceptions.ServerError, exceptions.TooManyRequests)
        if isinstance(error, server) and not isinstance(error, exceptions.MethodNotImplemented):
            return True
        return bool(reasons & TRANSIENT_REASONS)
    return isinstance(error, _CONNECTION_ERRORS)


def _advice(error: exceptions.GoogleAPICallError) -> str:
    text = one_line(error)
    if isinstance(error, exceptions.Forbidden):
        return (
            f"{text}; the account needs the roles BigQuery Data Editor (dataset) and "
            "BigQuery Job User (project)"
        )
    if isinstance(error, exceptions.Unauthorized):
        return f"{text}; check credentials_path, credentials_json or the application default ones"
    return text


def _client(settings: Settings) -> bigquery.Client:
    if settings.emulator:
        host = settings.emulator if "://" in settings.emulator else f"http://{settings.emulator}"
        return bigquery.Client(
            project=settings.project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=host),
            location=settings.location,
        )
    return bigquery.Client(
        project=settings.project, credentials=_credentials(settings), location=settings.location
    )


def _credentials(settings: Settings) -> Any:
    try:
        if settings.credentials_json:
            try:
                info = json.loads(settings.credentials_json)
            except ValueError:
                raise TargetError("setting 'credentials_json' is not JSON") from None
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                info, scopes=SCOPES
            )
        if settings.credentials_path:
            with warnings.catch_warnings():
                # Its advice is for programs that are given a file by strangers.
                warnings.simplefilter("ignore", DeprecationWarning)
                return google.auth.load_credentials_from_file(  # type: ignore[no-untyped-call]
                    settings.credentials_path, scopes=SCOPES
                )[0]
        return google.auth.default(scopes=SCOPES)[0]
    except (auth_exceptions.GoogleAuthError, OSError, ValueError, KeyError) as error:
        raise TargetError(
            f"no usable credentials: {one_line(error)}; set credentials_path, credentials_json or "
            "GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
