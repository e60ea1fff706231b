"""A server in between that passes bytes on, and cuts connections in the middle of a message."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

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
        """Cut all connections when the server has sent so many more bytes; None for never."""
        with self._lock:
            self._left = size

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._listener)  # closing it would not wake up the thread that waits for it
        self._thread.join()
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._upstream))
        except OSError:
            client.close()
            return
        with client, server:
            with self._lock:
                self._open |= {client, server}
            questions = threading.Thread(target=_pass_on, args=(client, server, len), daemon=True)
            questions.start()
            _pass_on(server, client, self._allowed)
            questions.join()
            with self._lock:
                self._open -= {client, server}

    def _allowed(self, block: bytes) -> int:
        """How much of an answer may pass."""
        with self._lock:
            if self._left is None:
                return len(block)
            allowed = min(self._left, len(block))
            self._left -= allowed
            if allowed == len(block):
                return allowed
            self._left = None
        self._cut()
        return allowed

    def _cut(self) -> None:
        with self._lock:
            self.cuts += len(self._open) // 2
            for end in self._open:
                _end(end)


def _pass_on(source: socket.socket, sink: socket.socket, allowed: Callable[[bytes], int]) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(_BLOCK):
            passing = allowed(block)
            sink.sendall(block[:passing])
            if passing < len(block):
                break
    _end(source)
    _end(sink)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
