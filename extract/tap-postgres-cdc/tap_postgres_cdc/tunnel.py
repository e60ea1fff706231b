"""An SSH tunnel to the database, in a thread.

A process of its own was no faster on two cores, and slower in a copy: there is little to decrypt,
and waking up for small pieces takes more than that.
"""

import asyncio
import logging
import threading
from concurrent.futures import Future
from typing import Final

import asyncssh

from tap_postgres_cdc import ssh
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import SshTunnel

logger = logging.getLogger("tap-postgres-cdc")

LOOPBACK: Final = "127.0.0.1"
# The end of a tunnel is seen at its connections a moment before its thread knows why.
_REASON_SECONDS: Final = 2.0


class Tunnel:
    """A port on loopback from which an SSH server forwards to the database.

    Attributes:
        port: Where it listens.
    """

    port: int

    def __init__(self, server: SshTunnel, host: str, port: int) -> None:
        """Start the thread and wait until the tunnel stands.

        Args:
            server: What forwards.
            host: Of the database, as that server sees it.
            port: The same.

        Raises:
            CaptureError: It can't be opened.
        """
        self._server = server
        self._place = f"{server.host}:{server.port}"
        self._target = host, port
        self._close: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._opened: Future[int] = Future()
        self._ended: Future[str] = Future()
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()], daemon=True)
        self._thread.start()
        self.port = self._opened.result()
        logger.info('Opened an SSH tunnel through %s as user "%s"', self._place, server.user)

    def failure(self) -> str | None:
        """Why the tunnel has ended, in one line; None if it stands."""
        try:
            return self._ended.result(_REASON_SECONDS)
        except TimeoutError:
            return None

    def close(self) -> None:
        """End the tunnel with all that goes through it."""
        if not self._ended.done():
            self._loop.call_soon_threadsafe(self._close.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._close = asyncio.get_running_loop(), asyncio.Event()
        client = ssh.Client()
        try:
            async with await ssh.log_in(self._server, client) as connection:
                await self._check_target(connection)
                listener = await connection.forward_local_port(LOOPBACK, 0, *self._target)
                self._opened.set_result(listener.get_port())
                ends = connection.wait_closed(), self._close.wait()
                tasks = [asyncio.create_task(end) for end in ends]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except Exception as error:  # noqa: BLE001 - raised where the tunnel is opened
            if not self._opened.done():
                self._opened.set_exception(error)
        self._ended.set_result(
            f"the SSH tunnel through {self._place} was lost ({ssh.reason(client.ended)}): run "
            "again, and look at that server's log if it happens again"
        )

    async def _check_target(self, connection: asyncssh.SSHClientConnection) -> None:
        """Try whether the database can be reached: later no one would hear why it can't."""
        host, port = self._target
        try:
            _, writer = await connection.open_connection(host, port)
        except asyncssh.ChannelOpenError as error:
            is_prohibited = error.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            reason = "forwarding is prohibited" if is_prohibited else error.reason
            raise CaptureError(
                f"the SSH server {self._place} can't reach {host}:{port} ({reason}): check "
                "the settings host and port, as that server sees them, and its AllowTcpForwarding"
            ) from None
        writer.close()
