"""Files of any number of streams in one temporary file: a single descriptor, gone with the process.

Each is written from its start to its end, then read; pieces of the others lie in between.
"""

import io
import os
import tempfile
import threading
from bisect import bisect_right
from typing import Any, NamedTuple


class _Piece(NamedTuple):
    start: int  # in the file it is of
    offset: int  # in the spool
    size: int


class Spool:
    """The temporary file; usable from several threads."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by `close`
        self._end = 0
        self._lock = threading.Lock()

    def append(self, data: memoryview) -> int:
        """Write bytes, and return where they are.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            offset = self._end
            self._end += len(data)
        written = 0
        while written < len(data):
            written += os.pwrite(self._file.fileno(), data[written:], offset + written)
        return offset

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes that were written."""
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Free the space."""
        self._file.close()


class SpooledFile(io.RawIOBase):
    """One of the files in a spool."""

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool
        self._pieces: list[_Piece] = []
        self._size = 0
        self._position = 0

    def write(self, data: Any) -> int:
        """Append bytes, wherever the file was read."""
        view = memoryview(data).cast("B")
        offset = self._spool.append(view)
        last = self._pieces[-1] if self._pieces else None
        if last and last.offset + last.size == offset:
            self._pieces[-1] = last._replace(size=last.size + len(view))
        else:
            self._pieces.append(_Piece(self._size, offset, len(view)))
        self._size += len(view)
        self._position = self._size
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, as far as the file goes."""
        view = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(view) and self._position < self._size:
            at = bisect_right(self._pieces, self._position, key=lambda piece: piece.start) - 1
            piece = self._pieces[at]
            skipped = self._position - piece.start
            size = min(len(view) - filled, piece.size - skipped)
            data = self._spool.read(size, piece.offset + skipped)
            view[filled : filled + len(data)] = data
            filled += len(data)
            self._position += len(data)
        return filled

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to where the next read starts."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._position

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True
