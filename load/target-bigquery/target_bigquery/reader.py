"""Lines from standard input in blocks; time, signals and failures end the wait for them."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

BLOCK = 1 << 20
PIPE_SIZE = 1 << 20
F_SETPIPE_SZ = 1031
# What a tap that stops as well has yet to write: it is silent then, but Meltano may leave the pipe
# open. One that does not stop is not waited for.
SILENCE = 1.0  # seconds
LAST_SECONDS = 10.0  # of waiting
LAST_BYTES = 64 << 20


class Waker:
    """Ends a wait for input, from a signal handler or another thread."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.settimeout(0)
        self._write.settimeout(0)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read.fileno()

    def wake(self) -> None:
        """End the wait that is on, or the next."""
        with contextlib.suppress(OSError):  # enough is waiting there, or nobody waits any more
            self._write.send(b"x")

    def clear(self) -> None:
        """Make the next wait a real one."""
        try:
            while self._read.recv(1024):
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close both ends."""
        self._read.close()
        self._write.close()


def blocks(
    source: IO[Any], waker: Waker, timeout: Callable[[], float | None], stopped: Callable[[], bool]
) -> Iterator[list[bytes]]:
    """Yield complete lines in lists.

    A list is empty when `timeout` seconds have passed or the waker was used.

    The last line may lack its line feed. Ends at the end of input, or, when `stopped` says so, with
    what the tap still writes; were that left unread, a tap would hang before a full pipe.
    """
    try:
        descriptor = source.fileno()
    except (AttributeError, OSError, ValueError):
        yield from _plain(source)
        return
    _enlarge(descriptor)
    parts: list[bytes] = []
    seconds, size = LAST_SECONDS, LAST_BYTES
    while seconds > 0 and size > 0:
        began, stopping = time.monotonic(), stopped()
        readable = _readable(descriptor, waker, SILENCE if stopping else timeout())
        waited = time.monotonic() - began
        seconds -= waited if stopping else 0
        if not readable:
            if stopping and waited >= SILENCE:
                return
            yield []
            continue
        block = os.read(descriptor, BLOCK)
        size -= len(block) if stopping else 0
        if not block:
            if parts:
                yield [b"".join(parts)]
            return
        lines = block.split(b"\n")
        rest = lines.pop()
        if not lines:
            parts.append(rest)
            continue
        parts.append(lines[0])
        lines[0] = b"".join(parts)
        parts = [rest] if rest else []
        yield lines


def _readable(descriptor: int, waker: Waker, timeout: float | None) -> bool:
    try:
        ready, _, _ = select.select([descriptor, waker.fileno()], [], [], timeout)
    except (ValueError, OSError):  # not a descriptor that can be waited for
        return True
    if waker.fileno() in ready:
        waker.clear()
        return False
    return bool(ready)


def _plain(source: IO[Any]) -> Iterator[list[bytes]]:
    """Yield the lines of something that is not a file of the operating system."""
    for line in source:
        yield [line.encode() if isinstance(line, str) else line]


def _enlarge(descriptor: int) -> None:
    """Ask for a larger pipe: fewer switches between tap and target; not every system has it."""
    try:
        import fcntl  # noqa: PLC0415  # not on every system

        fcntl.fcntl(descriptor, F_SETPIPE_SZ, PIPE_SIZE)
    except (ImportError, OSError):
        pass
