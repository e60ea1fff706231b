"""A server before the emulator that makes good where it is not like BigQuery.

It is for tests of what is sent to the real service: job ids that run once and are known from the
start, jobs that run for a while after the call that starts them, uploads in one call, and schema
changes that reach catalogue and data at once.
"""

import json
import math
import re
import threading
import time
from email.message import Message
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sandbox.faults import Answer, Fault, FaultyServer, error_answer

OK = 200
_JSON = [("Content-Type", "application/json")]
_RUNNING = {"status": {"state": "RUNNING"}}
_JOB = re.compile(r"/projects/[^/]+/jobs/([^/?]+)")
_RESULTS = re.compile(r"/projects/[^/]+/queries/([^/?]+)")
_TABLE = re.compile(r"/projects/([^/]+)/datasets/([^/]+)/tables/([^/?]+)")
_WIDENED = re.compile(
    r"ALTER TABLE `([^`.]+)\.([^`.]+)\.([^`]+)` ALTER COLUMN `([^`]+)` SET DATA TYPE (\w+)"
)


class FaithfulServer(FaultyServer):
    """Passes on what the emulator does right and does the rest itself; faults come before it.

    `job_seconds`: how long a job is said to run.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.job_seconds = 0.0
        self._jobs: dict[str, tuple[Any, float]] = {}  # by id: the job, and when it is done
        self._uploads: dict[str, Any] = {}  # by upload: its job
        self._jobs_lock = threading.Lock()

    def handle(self, method: str, path: str, headers: Message, body: bytes) -> Answer:
        """Return what BigQuery would answer."""
        url = urlsplit(path)
        if url.path.endswith("/jobs") and method in {"POST", "PUT"}:
            return self._job(method, path, headers, body)
        if method == "GET" and (known := _JOB.search(url.path)) and known[1] in self._jobs:
            job, ready = self._jobs[known[1]]
            running = {} if time.monotonic() >= ready else _RUNNING
            return OK, _JSON, json.dumps(job | running).encode()
        if method == "GET" and (known := _RESULTS.search(url.path)) and known[1] in self._jobs:
            _, ready = self._jobs[known[1]]
            wait = int(parse_qs(url.query).get("timeoutMs", ["10000"])[0]) / 1000
            time.sleep(max(0.0, min(wait, ready - time.monotonic())))
            if time.monotonic() < ready:
                return OK, _JSON, json.dumps({"jobComplete": False}).encode()
        if method == "PATCH" and (table := _TABLE.search(url.path)):
            self._add_columns(table, headers, json.loads(body))
        return super().handle(method, path, headers, body)

    def _job(self, method: str, path: str, headers: Message, body: bytes) -> Answer:
        url = urlsplit(path)
        if method == "PUT":
            job = self._uploads[parse_qs(url.query)["upload_id"][0]]
            if self._known(job):
                return _conflict()
            return self._begun(job, super().handle(method, path, headers, body))
        if "uploadType=multipart" in url.query:
            return self._upload_in_one_call(path, headers, body)
        if url.path.startswith("/upload/"):
            return self._noted_upload(json.loads(body), super().handle(method, path, headers, body))
        return self._query(json.loads(body), path, headers, body)

    def _query(self, job: Any, path: str, headers: Message, body: bytes) -> Answer:
        if self._known(job):
            return _conflict()
        answer = super().handle("POST", path, headers, body)
        sql = job["configuration"]["query"]["query"]
        if answer[0] == OK and (widened := _WIDENED.search(sql)):
            self._widen(widened, headers)
        return self._begun(job, answer)

    def _upload_in_one_call(self, path: str, headers: Message, body: bytes) -> Answer:
        """Send the two parts of a body one after the other, which the emulator can read."""
        boundary = headers.get_boundary() or ""
        _, first, second, _ = body.split(f"--{boundary}".encode(), 3)
        metadata = first.split(b"\r\n\r\n", 1)[1].strip()
        content = second.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        job = json.loads(metadata)
        if self._known(job):
            return _conflict()
        resumable = path.replace("uploadType=multipart", "uploadType=resumable")
        status, found, answer = super().handle("POST", resumable, _with_type(headers), metadata)
        if status != OK:
            return self._begun(job, (status, found, answer))
        location = urlsplit(_header(found, "location"))
        sized = _with_type(headers)
        sized["Content-Range"] = f"bytes 0-{len(content) - 1}/{len(content)}"
        return self._begun(
            job, super().handle("PUT", f"{location.path}?{location.query}", sized, content)
        )

    def _noted_upload(self, job: Any, answer: Answer) -> Answer:
        self._uploads[_header(answer[1], "x-guploader-uploadid")] = job
        return answer

    def _known(self, job: Any) -> bool:
        job_id = job["jobReference"]["jobId"]
        with self._jobs_lock:
            known = job_id in self._jobs
            self._jobs.setdefault(job_id, (job, math.inf))
            return known

    def _begun(self, job: Any, answer: Answer) -> Answer:
        """Keep a job under the id that was asked for; say that it is running."""
        status, headers, body = answer
        job_id = job["jobReference"]["jobId"]
        if status != OK:
            del self._jobs[job_id]
            return answer
        done = json.loads(body)
        done["jobReference"]["jobId"] = job_id
        self._jobs[job_id] = done, time.monotonic() + self.job_seconds
        return status, headers, json.dumps(done | _RUNNING).encode()

    def _add_columns(self, table: re.Match[str], headers: Message, patch: dict[str, Any]) -> None:
        for column in patch.get("schema", {}).get("fields", ()):
            limits = ", ".join(str(column[n]) for n in ("precision", "scale") if n in column)
            kind = column["type"] + (f"({limits})" if limits else "")
            self._run(
                f"ALTER TABLE `{'.'.join(table.groups())}` "
                f"ADD COLUMN IF NOT EXISTS `{column['name']}` {kind}",
                table[1],
                headers,
            )

    def _widen(self, widened: re.Match[str], headers: Message) -> None:
        project, dataset, table, name, kind = widened.groups()
        path = f"/bigquery/v2/projects/{project}/datasets/{dataset}/tables/{table}"
        fields = json.loads(super().handle("GET", path, headers, b"")[2])["schema"]["fields"]
        for field in fields:
            if field["name"] == name:
                field["type"] = kind
        body = json.dumps({"schema": {"fields": fields}}).encode()
        super().handle("PATCH", path, _with_type(headers), body)

    def _run(self, sql: str, project: str, headers: Message) -> None:
        body = json.dumps({"query": sql, "useLegacySql": False}).encode()
        path = f"/bigquery/v2/projects/{project}/queries"
        status, _, answer = super().handle("POST", path, _with_type(headers), body)
        if status != OK:
            raise RuntimeError(answer.decode())


def _header(headers: list[tuple[str, str]], name: str) -> str:
    return next((value for key, value in headers if key.lower() == name), "")


def _with_type(headers: Message) -> Message:
    copy = Message()
    copy["Host"] = headers["Host"]
    copy["Content-Type"] = "application/json"
    return copy


def _conflict() -> Answer:
    return error_answer(409, Fault("POST", "", 409, reason="duplicate", message="Already Exists"))
