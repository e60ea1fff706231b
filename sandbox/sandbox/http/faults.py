"""Faults that a path of the local server can be told to answer with."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

KINDS = "a status (500), 429:SECONDS, 403:SECONDS, truncate, garbage, drop or slow:SECONDS"


class Dropped(Response):
    """Cuts the connection without a word."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Abort the transport that the server left in the request's state."""
        cast("asyncio.Transport", scope["state"]["transport"]).abort()


class Truncated(Response):
    """Promises more bytes than it sends, then closes."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send half of the body and end the connection."""
        length = str(len(self.body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = bytes(self.body[: len(self.body) // 2])
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await asyncio.sleep(0.01)
        cast("asyncio.Transport", scope["state"]["transport"]).close()


@dataclass
class Fault:
    """Answer requests for paths like `path` (a shell pattern) with `kind`, `times` times."""

    path: str
    kind: str
    times: int

    def __post_init__(self) -> None:
        """Check `kind`, so that a typing error shows at once and not as a healthy server.

        Raises:
            ValueError: `kind` is not one that the server knows.
        """
        name, _, value = self.kind.partition(":")
        known = name in {"truncate", "garbage", "drop"} and not value
        known |= name.isdigit() and 400 <= int(name) < 600  # noqa: PLR2004
        known |= name == "slow" and bool(value)
        if not known:
            raise ValueError(f"unknown fault {self.kind!r}: use {KINDS}")

    async def respond(self) -> Response | None:
        """Return the faulty answer, or `None` when the true answer is only late."""
        name, _, value = self.kind.partition(":")
        match name:
            case "slow":
                await asyncio.sleep(float(value))
                return None
            case "drop":
                return Dropped()
            case "truncate":
                return Truncated(json.dumps({"filler": "x" * 2000}))
            case "garbage":
                return Response("<html>This is not JSON</html>", media_type="text/html")
        return Response(
            json.dumps({"message": f"injected {name}"}),
            status_code=int(name),
            headers=_limit_headers(int(name), value),
            media_type="application/json",
        )


class Faults:
    """The faults in force; each is used up after its number of times."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Put a fault in force."""
        with self._lock:
            self._faults.append(fault)

    def take(self, path: str) -> Fault | None:
        """Return the first fault for `path`, if there is one, and count it as used."""
        with self._lock:
            for fault in self._faults:
                if fault.times > 0 and fnmatch.fnmatchcase(path, fault.path):
                    fault.times -= 1
                    return fault
        return None


def _limit_headers(status: int, seconds: str) -> dict[str, Any]:
    """Say when to come back the way GitHub does: 429 in seconds, 403 as the time of the reset.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    if not seconds:
        return {}
    if status == 403:  # noqa: PLR2004
        reset = str(int(time.time() + float(seconds)))
        return {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    return {"retry-after": seconds}
