"""A server in between that passes bytes on, and cuts connections in the middle of a message."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

_RESET = struct.pack("ii", 1, 0)
_BLOCK = 1 << 14


class TcpProxy:
    """Passes connections to a loopback port on, while it is a context.

    Attributes:
        port: Where it listens.
        cuts: How many connections it has cut.
    """

    def __init__(self, upstream: int) -> None:
        self.cuts = 0
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._left: int | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def cut_after(self, size: int | None) -> None:
        """Reset all connections when the server has sent so many more bytes; None for never."""
        with self._lock:
            self._left = size

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A listener that is closed does not wake up who waits for it.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset()
        self._thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream), timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        for ends in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._pass_on, args=ends, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:  # noqa: FBT001
        with contextlib.suppress(OSError):
            while block := source.recv(_BLOCK):
                allowed = self._allowed(len(block)) if is_answer else len(block)
                sink.sendall(block[:allowed])
                if allowed < len(block):
                    self._reset()
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open -= {source, sink}

    def _allowed(self, size: int) -> int:
        with self._lock:
            if self._left is None:
                return size
            allowed = min(self._left, size)
            self._left = self._left - size if self._left >= size else None
            return allowed

    def _reset(self) -> None:
        """End all connections with a reset, as a router that forgot them would."""
        with self._lock:
            ends, self._open = self._open, set()
        self.cuts += len(ends) // 2
        for end in ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()
