"""Calls to BigQuery, each of which can be repeated: what may have been done is not done twice.

A job has an id of ours, and when an answer was lost, the job is asked for before it is sent again.
https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from google.api_core import exceptions, retry
from google.auth import exceptions as auth_exceptions
from google.cloud import bigquery
from google.resumable_media import common as media_exceptions
from requests import exceptions as requests_exceptions

from target_bigquery.errors import TargetError, one_line

FIRST_PATIENCE = 10.0  # seconds until a warehouse that was never reached counts as unreachable
PATIENCE = 120.0  # seconds of trying again once it was reached
CALL_TIMEOUT = 10.0
JOB_TIMEOUT = 600.0
POLL = 0.5
ONCE: Any = None  # turns the client's own tries off: `call` has them all
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


class Calls:
    """Calls and jobs, tried again until they succeed; usable from several threads.

    Args:
        client: where to send them.
        location: where jobs run.
        run: letters and digits that mark the jobs of this run.
    """

    def __init__(self, client: bigquery.Client, location: str, run: str) -> None:
        self.location = location
        self.patience = FIRST_PATIENCE
        self._client = client
        self._run = run
        self._jobs = 0
        self._lock = threading.Lock()

    def run_job(
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
            while not self.call("wait for a job", lambda: _is_done(job)):
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
            return self.call(what, attempt)
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
                job_id, location=self.location, timeout=CALL_TIMEOUT, retry=ONCE
            )
        except exceptions.NotFound:
            return None

    def _job_id(self) -> str:
        with self._lock:
            self._jobs += 1
            return f"target_bigquery_{self._run}_{self._jobs}"

    def call(self, what: str, call: Callable[[], T]) -> T:
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


def _is_done(job: Any) -> bool:
    return bool(job.done(retry=ONCE, timeout=CALL_TIMEOUT))


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
