"""A server in between: passes HTTP requests on, and does to some what networks do."""

import contextlib
import http.client
import json
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
Answer = tuple[int, list[tuple[str, str]], bytes]  # status, headers, body
CUT_BEFORE = "cut before"  # the request is not passed on
CUT_AFTER = "cut after"  # the request is carried out, its answer is lost
FAILED_JOB = "failed job"  # the job is taken and fails; the request is not passed on
SILENCE = "silence"  # the request is not passed on, and the connection stays open


@dataclass
class Fault:
    """What happens to some of the requests.

    Args:
        method: HTTP method, "" for any.
        path: regular expression that is searched in path and query.
        action: a status code to answer with, or one of the words above.
        body: regular expression that is searched in the request's body.
        times: how often, None for ever.
        skip: how many requests pass before.
        reason: Google's reason in the error's details.
        message: its text; by default the reason.
        headers: of the answer.
    """

    method: str
    path: str
    action: int | str
    body: str = ""
    times: int | None = 1
    skip: int = 0
    reason: str = "backendError"
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    met: int = 0

    def meets(self, method: str, path: str, body: bytes) -> bool:
        """Tell if the fault happens to this request, and count it."""
        if self.method not in {"", method} or not re.search(self.path, path):
            return False
        if self.body and not re.search(self.body.encode(), body):
            return False
        self.met += 1
        nth = self.met - self.skip
        return nth > 0 and (self.times is None or nth <= self.times)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke: it is what the server is for."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class FaultyServer:
    """Listens on a loopback port while it is a context; `requests`: method, path, body of each."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, bytes]] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, method: str, path: str, action: int | str, **options: Any) -> Fault:
        """Add a fault and return it."""
        fault = Fault(method, path, action, **options)
        self.faults.append(fault)
        return fault

    def fault_of(self, method: str, path: str, body: bytes) -> Fault | None:
        """Return what happens to a request, None if it passes."""
        with self._lock:
            self.requests.append((method, path, body))
            return next((fault for fault in self.faults if fault.meets(method, path, body)), None)

    def outcome(self, method: str, path: str, headers: Message, body: bytes) -> Answer | None:
        """Return the answer to a request, None if its connection is to be cut."""
        fault = self.fault_of(method, path, body)
        if fault is None:
            return self.handle(method, path, headers, body)
        if isinstance(fault.action, int):
            return error_answer(fault.action, fault)
        if fault.action == FAILED_JOB:
            return failed_job(body, fault)
        if fault.action == CUT_AFTER:
            self.handle(method, path, headers, body)
        elif fault.action == SILENCE:
            self._stopped.wait()
        return None

    def handle(self, method: str, path: str, headers: Message, body: bytes) -> Answer:
        """Return the answer to a request that no fault happens to: the upstream server's."""
        connection = http.client.HTTPConnection(self.upstream.netloc, timeout=120)
        with contextlib.closing(connection):
            passed = {k: v for k, v in headers.items() if k.lower() not in HOP_BY_HOP}
            passed["Host"] = headers["Host"]  # upload addresses in answers lead back here
            passed["Accept-Encoding"] = "identity"
            connection.request(method, path, body, passed)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = faulty.outcome(self.command, self.path, self.headers, body)
                if answer is None:
                    self.close_connection = True
                else:
                    self.answer(*answer)

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value.replace(faulty.upstream.geturl(), faulty.url))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        return Handler


def error_answer(status: int, fault: Fault) -> Answer:
    """Return an error in the form of Google's APIs."""
    message = fault.message or f"{fault.reason}: made by the test"
    error = {
        "code": status,
        "message": message,
        "errors": [{"reason": fault.reason, "message": message}],
    }
    headers = [("Content-Type", "application/json"), *fault.headers.items()]
    return status, headers, json.dumps({"error": error}).encode()


def failed_job(body: bytes, fault: Fault) -> Answer:
    """Return the job that a request would start as one that has failed."""
    error = {"reason": fault.reason, "message": fault.message or fault.reason}
    job = {**json.loads(body), "status": {"state": "DONE", "errorResult": error}}
    return 200, [("Content-Type", "application/json")], json.dumps(job).encode()
