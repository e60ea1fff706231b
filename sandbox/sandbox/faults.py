"""A server in between: passes HTTP requests on, and does to some what networks do."""

import contextlib
import http.client
import json
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

HOP_BY_HOP = {"connection", "content-length", "host", "keep-alive", "transfer-encoding"}
CUT_BEFORE = "cut before"  # the request is not passed on
CUT_AFTER = "cut after"  # the request is carried out, its answer is lost


@dataclass
class Fault:
    """What happens to some of the requests.

    Args:
        method: HTTP method.
        path: regular expression that is searched in path and query.
        action: a status code to answer with, CUT_BEFORE or CUT_AFTER.
        body: regular expression that is searched in the request's body.
        times: how often, None for ever.
        skip: how many requests pass before.
        reason: Google's reason in the error's details.
        headers: of the answer.
    """

    method: str
    path: str
    action: int | str
    body: str = ""
    times: int | None = 1
    skip: int = 0
    reason: str = "backendError"
    headers: Mapping[str, str] = field(default_factory=dict)
    met: int = 0

    def meets(self, method: str, path: str, body: bytes) -> bool:
        """Tell if the fault happens to this request, and count it."""
        if method != self.method or not re.search(self.path, path):
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

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = faulty.fault_of(self.command, self.path, body)
                if fault is None:
                    self.answer(*self.passed_on(body))
                elif isinstance(fault.action, int):
                    self.answer(*error_answer(fault.action, fault))
                else:
                    if fault.action == CUT_AFTER:
                        self.passed_on(body)
                    self.close_connection = True

            def passed_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                connection = http.client.HTTPConnection(faulty.upstream.netloc, timeout=120)
                with contextlib.closing(connection):
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP}
                    headers["Host"] = self.headers[
                        "Host"
                    ]  # upload addresses in answers lead back here
                    headers["Accept-Encoding"] = "identity"
                    connection.request(self.command, self.path, body, headers)
                    response = connection.getresponse()
                    return response.status, response.getheaders(), response.read()

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


def error_answer(status: int, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return an error in the form of Google's APIs."""
    message = f"{fault.reason}: made by the test"
    error = {
        "code": status,
        "message": message,
        "errors": [{"reason": fault.reason, "message": message}],
    }
    headers = [("Content-Type", "application/json"), *fault.headers.items()]
    return status, headers, json.dumps({"error": error}).encode()
