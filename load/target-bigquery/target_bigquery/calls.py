"""Calls to BigQuery, each of which can be repeated: what may have been done is not done twice.

A job has an id of ours, and when an answer was lost, the job is asked for before it is sent again.
A statement takes effect as a whole or not at all, so one that failed is sent again in a new job.
https://cloud.google.com/bigquery/docs/running-jobs#generate-jobid
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from google.api_core import exceptions
from google.cloud import bigquery

from target_bigquery.answers import ERRORS, explained, passes
from target_bigquery.errors import TargetError, one_line

FIRST_PATIENCE = 10.0  # seconds until a warehouse that was never reached counts as unreachable
PATIENCE = 120.0  # seconds of trying again once it was reached
CALL_TIMEOUT = 30.0  # of silence
JOB_TIMEOUT = 60.0  # of silence in a call that starts a job, which can bring a file along
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # before a call is tried again
FIRST_POLL, LONGEST_POLL = 0.25, 5.0  # before a running job is asked for again
SERVER_WAIT = 20.0  # that BigQuery may let a call wait for the end of a statement
LONG_JOB = 60.0  # seconds after which the log says that a job runs, again and again
ONCE: Any = None  # turns the client's own tries off: `Calls` has them all

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

    def call(self, what: str, call: Callable[[], T]) -> T:
        """Call until it succeeds, fails for good, or patience ends.

        Raises:
            TargetError: one of the latter.
        """
        tries = _Tries(what, self.patience)
        while True:
            try:
                return call()
            except ERRORS as error:
                tries.again(error)

    def run_job(self, what: str, send: Callable[[str], Any]) -> Any:
        """Send a job under an id and wait until it is done; send another if it failed and may pass.

        Raises:
            TargetError: it fails for good, or patience ends; names the job.
        """
        tries = _Tries(what, self.patience)
        while True:
            job_id = self._job_id()
            try:
                job = self._sent(what, send, job_id)
                started = time.monotonic()
                self._wait(what, job)
                if not job.error_result:
                    return job
                error = job.exception(timeout=CALL_TIMEOUT)
                tries.excuse(time.monotonic() - started)
                tries.again(error)
            except TargetError as error:
                raise TargetError(f"{error} (job {job_id})") from error.__cause__

    def _sent(self, what: str, send: Callable[[str], Any], job_id: str) -> Any:
        """Send a job; one that is there already although no answer came is not sent again."""
        sent = False

        def attempt() -> Any:
            nonlocal sent
            job = self._find_job(job_id) if sent else None
            sent = True
            return job or send(job_id)

        return self.call(what, attempt)

    def _wait(self, what: str, job: Any) -> None:
        pause, started = FIRST_POLL, time.monotonic()
        told = started

        while not self.call(f"{what}: ask whether the job is done", lambda: self._is_done(job)):
            now = time.monotonic()
            if now - told >= LONG_JOB:
                told = now
                logger.info("%s: job %s runs for %.0f s", what, job.job_id, now - started)
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_POLL)

    def _is_done(self, job: Any) -> bool:
        """Ask for a job: of a statement BigQuery answers when it is done, or after a while.

        https://cloud.google.com/bigquery/docs/reference/rest/v2/jobs/getQueryResults
        """
        if job.job_type != "query" or job.state == "DONE":
            return bool(job.done(retry=ONCE, timeout=CALL_TIMEOUT))
        # The client's own method for this has a timeout of two minutes at least.
        connection: Any = self._client._connection  # noqa: SLF001
        options = {"location": self.location, "maxResults": 0, "timeoutMs": int(SERVER_WAIT * 1000)}
        try:
            answer = connection.api_request(
                method="GET",
                path=f"/projects/{job.project}/queries/{job.job_id}",
                query_params=options,
                timeout=CALL_TIMEOUT,
            )
        except exceptions.GoogleAPICallError:
            if job.done(retry=ONCE, timeout=CALL_TIMEOUT):  # it is the job that has failed
                return True
            raise
        return bool(answer.get("jobComplete"))

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


class _Tries:
    """Tries of one thing: pauses between them, and an end when it has failed for too long."""

    def __init__(self, what: str, patience: float) -> None:
        self._what = what
        self._patience = patience
        self._until: float | None = None
        self._pause = FIRST_PAUSE

    def again(self, error: BaseException) -> None:
        """Wait for the next try.

        Raises:
            TargetError: there is to be none.
        """
        if not passes(error):
            self._end(explained(error), error)
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._patience
        # Several that were refused because of each other must not come back at the same time.
        pause = random.uniform(self._pause / 2, self._pause)  # noqa: S311  # no secret
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if now + pause > self._until:
            text = f"no success within {self._patience:.0f} seconds, last: {explained(error)}"
            self._end(text, error)
        logger.warning("BigQuery did not %s, trying again: %s", self._what, one_line(error))
        time.sleep(pause)

    def excuse(self, seconds: float) -> None:
        """Have seconds in which nothing failed not count."""
        if self._until is not None:
            self._until += seconds

    def _end(self, text: str, error: BaseException) -> NoReturn:
        raise TargetError(f"could not {self._what}: {text}") from error
