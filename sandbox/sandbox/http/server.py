"""Running the local APIs on a real socket, beside a test or for a person."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.http.app import make_app
from sandbox.http.faults import Fault, Faults
from sandbox.http.world import World

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import ASGIApp, Receive, Scope, Send

START_SECONDS = 20.0


class _TransportInState(HttpToolsProtocol):
    """Lets a request reach its own connection, so that a fault can cut it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class Request(NamedTuple):
    """A request that came in: its path, and when, in seconds of `time.monotonic`."""

    path: str
    at: float


class HttpSandbox:
    """The local XKCD and GitHub APIs, served from a thread of this process.

    Use it as a context manager, or with `start` and `stop`. `requests` lists what was asked for, in
    the order of arrival; `most_in_flight` is the largest number of requests that were being
    answered at one time.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        app: ASGIApp | None = None,
        latency: float = 0.0,
        token: str | None = None,
        port: int = 0,
    ) -> None:
        """Prepare a server.

        Args:
            world: What the APIs know; some comics and organizations by default.
            app: Another API to serve, such as `recorded(folder)`, instead of XKCD and GitHub.
            latency: Seconds that each answer takes.
            token: The token that the GitHub part demands, if any.
            port: Where to listen on the loopback address; 0 picks a free port.
        """
        self.world = world or World.generate()
        self.latency = latency
        self.requests: list[Request] = []
        self.most_in_flight = 0
        self._in_flight = 0
        self._faults = Faults()
        self._app: ASGIApp = app or make_app(self.world, token=token)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._handle,
                host="127.0.0.1",
                port=port,
                http=_TransportInState,
                interface="asgi3",
                lifespan="off",
                log_level="critical",
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    @property
    def url(self) -> str:
        """Where the server listens, such as `http://127.0.0.1:41234`."""
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    @property
    def tap_config(self) -> dict[str, Any]:
        """Settings that point `tap-oso-example` at this server and all of its organizations."""
        return {
            "xkcd_url": f"{self.url}/xkcd",
            "github_url": f"{self.url}/github",
            "organizations": list(self.world.organizations),
        }

    def inject(self, path: str, kind: str, times: int = 1) -> None:
        """Answer the next `times` requests for paths like `path` (a shell pattern) with a fault.

        Args:
            path: Such as `/xkcd/7/info.0.json` or `/github/*`.
            kind: One of `sandbox.http.faults.KINDS`.
            times: How often.

        Raises:
            ValueError: `kind` is unknown.
        """
        self._faults.add(Fault(path, kind, times))

    def heal(self) -> None:
        """Take back all faults."""
        self._faults = Faults()

    def start(self) -> None:
        """Start serving, and return when the socket is open.

        Raises:
            RuntimeError: The server did not start; most often its port is taken.
        """
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the HTTP sandbox can't listen on port {self._server.config.port}"
                )
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop serving; requests under way are cut after a second."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        """Start serving."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop serving."""
        self.stop()

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.requests.append(Request(scope["path"], time.monotonic()))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            await self._answer(scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.latency:
            await asyncio.sleep(self.latency)
        fault = self._faults.take(scope["path"])
        response = await fault.respond() if fault else None
        await (response or self._app)(scope, receive, send)
