"""The connection that streams the log: how it is opened, kept alive and told what we have.

See https://www.postgresql.org/docs/current/protocol-replication.html.
"""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from tap_postgres_cdc import copystream
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import Interrupted
from tap_postgres_cdc.positions import format_lsn
from tap_postgres_cdc.sessions import Session

# A walsender gives up on a client it has not heard of for `wal_sender_timeout`, see `sessions`.
_STATUS_SECONDS: Final = 5.0
# A client that was killed holds its slot until the server notices.
_BUSY_SECONDS: Final = 15.0
_STATUS: Final = struct.Struct(">BQQQqB")
_KEEPALIVE: Final = struct.Struct(">QqB")
_POSTGRES_EPOCH_SECONDS: Final = 946_684_800


class ReplicationStream:
    """Messages of a slot from `start_lsn` on, which is also what is confirmed, and no more.

    Attributes:
        get: libpq's `get_copy_data`; its argument is 1.
    """

    get: Callable[[int], tuple[int, memoryview]]

    def __init__(self, connector: Connector, slot: str, publication: str, start_lsn: int) -> None:
        """Open the connection and start to stream.

        Raises:
            CaptureError: The connection can't be opened.
            psycopg.Error: The server refused to stream.
        """
        self._start_lsn = start_lsn
        self._connection = connector.connect_to_replicate()
        try:
            start_replication(self._connection, slot, publication, start_lsn)
        except (psycopg.Error, Interrupted):
            self._connection.close()
            raise
        self.get = self._connection.pgconn.get_copy_data
        self._status_at = 0.0
        self._is_asked = False
        self.tell_status()
        self._paused = threading.Lock()
        self._paused.acquire()
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep_alive, daemon=True)
        self._keeper.start()

    def wait(self, seconds: float) -> bool:
        """Wait for messages; False when none came in time, and the server was asked where it is.

        Raises:
            Interrupted: The run was asked to stop.
            psycopg.Error: The server is silent although it was asked, or the connection was lost.
        """
        has_messages = copystream.wait(self._connection, seconds)
        if has_messages or self._is_asked:
            self.tell_status_if_due()
        else:
            # Once, until it answers. A packet from us restarts the persist timer of its TCP, 0.2 s
            # on Linux, and only that makes it send into a window smaller than a segment, which has
            # 64 KiB on loopback: a server that is asked that often may never send again.
            self._is_asked = True
            self.tell_status(ask=True)
        return has_messages

    def keepalive(self, data: bytes) -> int:
        """Read a keepalive and answer it if it asks; gives the LSN up to which all was sent."""
        wal_end, must_answer = parse_keepalive(data)
        self._is_asked = False
        if must_answer:
            self.tell_status()
        return wal_end

    def finish(self) -> None:
        """Raise what ended the stream.

        Raises:
            psycopg.Error: Always.
        """
        copystream.finish(self._connection)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While the caller does something else, the server still hears of us."""
        self._paused.release()
        try:
            yield
        finally:
            self._paused.acquire()

    def tell_status_if_due(self) -> None:
        """Let the server hear of us every few seconds."""
        if time.monotonic() - self._status_at >= _STATUS_SECONDS:
            self.tell_status()

    def tell_status(self, *, ask: bool = False) -> None:
        """Confirm `start_lsn`; with `ask` the server says where it is."""
        send_status(self._connection, self._start_lsn, ask=ask)
        self._status_at = time.monotonic()

    def close(self) -> None:
        """End the stream and the connection."""
        self._closed.set()
        self._paused.release()
        self._keeper.join()
        try:
            self._connection.pgconn.put_copy_end()
            copystream.flush(self._connection)
        except (psycopg.Error, Interrupted):
            pass  # it was lost already, or nobody reads it
        self._connection.close()

    def _keep_alive(self) -> None:
        while not self._closed.wait(_STATUS_SECONDS / 5):
            if self._paused.acquire(blocking=False):
                try:
                    self.tell_status_if_due()
                except (psycopg.Error, Interrupted):
                    return  # the caller will find out
                finally:
                    self._paused.release()


def start_replication(session: Session, slot: str, publication: str, start_lsn: int) -> None:
    """Start to stream, waiting a while for a slot that another client has just left.

    Raises:
        Interrupted: The run was asked to stop.
        psycopg.Error: The server refused.
    """
    query = sql.SQL(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {})"
    )
    # The publication is a list of identifiers within a literal.
    name = sql.Identifier(publication).as_string()
    command = query.format(sql.Identifier(slot), sql.SQL(format_lsn(start_lsn)), name)
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            copystream.start(session, command.as_string())
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            if session.stop.wait(0.2):
                raise Interrupted from None
        else:
            return


def send_status(connection: psycopg.Connection, lsn: int, *, ask: bool = False) -> None:
    """Confirm everything before an LSN; with `ask` the server says where it is.

    Raises:
        psycopg.Error: The connection was lost.
    """
    now = round((time.time() - _POSTGRES_EPOCH_SECONDS) * 1_000_000)
    connection.pgconn.put_copy_data(_STATUS.pack(ord("r"), lsn, lsn, lsn, now, ask))
    copystream.flush(connection)


def parse_keepalive(data: bytes) -> tuple[int, bool]:
    """Read a keepalive: the LSN up to which all was sent, and whether it wants an answer."""
    wal_end, _, must_answer = _KEEPALIVE.unpack_from(data, 1)
    return wal_end, bool(must_answer)


def identify_system(connection: psycopg.Connection) -> dict[str, Any]:
    """What IDENTIFY_SYSTEM says: `systemid`, `timeline`, `xlogpos`, `dbname`."""
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    return cursor.execute("IDENTIFY_SYSTEM").fetchone() or {}
