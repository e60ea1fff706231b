"""Connections on which text is the same everywhere, and on which every wait ends.

Whatever waits for the server goes through `Session.poll`: queries, COPY and the stream.
"""

import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.abc import Buffer, Params, PQGen, QueryNoTemplate
from psycopg.adapt import Loader
from psycopg.rows import RowFactory, TupleRow, tuple_row
from psycopg.waiting import Ready, Wait

from tap_postgres_cdc.errors import Interrupted

# The text of dates, numbers and names depends on these, and the snapshot and the stream have to
# agree. A hidden row would be a lost row, so row-level security has to fail instead of filter.
# Timeouts would end a session that has to wait; a lock is asked for again instead of waited for.
_SETTINGS: Final = {
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "DateStyle": "ISO,YMD",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "IntervalStyle": "iso_8601",
    "lc_monetary": "C",
    "lock_timeout": "2s",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "search_path": "pg_catalog",
    "standard_conforming_strings": "on",
    "statement_timeout": "0",
    "TimeZone": "UTC",
    "transaction_timeout": "0",
    # A walsender gives up on a client it has not heard of for that long. While it goes through a
    # transaction that has nothing for us it listens only every half of it, which therefore has to
    # be shorter than the silence that is taken for the server's end.
    "wal_sender_timeout": "100s",
}
# Those of them that would end a run if the role's or the database's were not overridden.
TIMEOUTS: Final = {
    name: value
    for name, value in _SETTINGS.items()
    if name.endswith("_timeout") and name != "wal_sender_timeout"
}
# psycopg's number for all types that have no loader of their own.
_OTHER_TYPES: Final = 0
_NO_ENCODING: Final = "SQL_ASCII"
_SINCE_VERSION: Final = {"transaction_timeout": 170000}

# Nobody waits longer than `lock_timeout` for a lock, so a server that is silent for that long is
# not there any more.
SILENCE_SECONDS = 60.0
# How long a query may go on when the run is asked to stop, and how long to try to cancel it.
_GRACE_SECONDS: Final = 0.8
_CANCEL_SECONDS: Final = 0.8
_POLL_SECONDS: Final = 0.2

_Result = TypeVar("_Result")


class Session(psycopg.Connection[TupleRow]):
    """A connection that gives up waiting for the server.

    Attributes:
        stop: Set once the run is asked to stop: what does not answer at once is cancelled.
        silence_seconds: After how long a server that says nothing is given up.
        while_waiting: Called a few times a second while nothing comes.
    """

    def __init__(
        self, pgconn: psycopg.pq.abc.PGconn, row_factory: RowFactory[TupleRow] = tuple_row
    ) -> None:
        """Take a connection of libpq."""
        super().__init__(pgconn, row_factory)
        self.stop = threading.Event()
        self.silence_seconds = SILENCE_SECONDS
        self.while_waiting: Callable[[], None] = _nothing
        self._silent = self._stopping = 0.0
        self._is_interrupted = False
        self._has_encoding = True

    def take_bytes(self) -> None:
        """Read text that may not be UTF-8, of a database whose encoding is SQL_ASCII.

        psycopg would give it as bytes, and take no names but those of ASCII.
        """
        self._has_encoding = False
        for kind in ("text", "name", "varchar", "bpchar", '"char"', _OTHER_TYPES):
            self.adapters.register_loader(kind, _TextLoader)

    def execute(  # type: ignore[override]  # psycopg also takes templates
        self, query: QueryNoTemplate, params: Params | None = None, **options: Any
    ) -> psycopg.Cursor[TupleRow]:
        """Run a query, see `psycopg.Connection.execute`."""
        if not self._has_encoding and not isinstance(query, bytes):
            text = query.as_string() if isinstance(query, sql.Composable) else str(query)
            query = text.encode()
        return super().execute(query, params, **options)

    def wait(
        self,
        gen: PQGen[_Result],
        interval: float = _POLL_SECONDS,
        timeout: float | None = None,  # noqa: ARG002 - psycopg's signature
    ) -> _Result:
        """Do what psycopg wants to do with the server, see `psycopg.Connection.wait`.

        Raises:
            Interrupted: The run was asked to stop; the connection is of no more use.
            psycopg.OperationalError: The server is silent, or the connection was lost.
        """
        self.listen()
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(self.poll(wanted, interval))
        except StopIteration as end:
            result: _Result = end.value
            return result
        except KeyboardInterrupt:
            self._cancel()
            raise

    def listen(self) -> None:
        """Begin to wait for an answer.

        Raises:
            Interrupted: An earlier query had to be cancelled.
        """
        if self._is_interrupted:
            raise Interrupted
        self._silent = self._stopping = 0.0

    def poll(self, wanted: int, seconds: float) -> Ready:
        """Wait until the socket can be read from or written to; `Ready.NONE` if not in time.

        Only the time in here counts as silence, not what the caller does between two calls.

        Raises:
            Interrupted: The run was asked to stop; the query is cancelled.
            psycopg.OperationalError: The server is silent.
        """
        socket = [self.pgconn.socket]
        since = time.monotonic()
        read, write, _ = select.select(
            socket if wanted & Wait.R else (), socket if wanted & Wait.W else (), (), seconds
        )
        if read or write:
            self._silent = 0.0
            return Ready((Ready.R if read else 0) | (Ready.W if write else 0))
        waited = min(time.monotonic() - since, seconds)
        self._silent += waited
        if self.stop.is_set():
            self._stopping += waited
            if self._stopping >= _GRACE_SECONDS:
                self._cancel()
                raise Interrupted
        if self._silent >= self.silence_seconds:
            self.close()
            raise psycopg.OperationalError(
                f"the server has not answered for {self.silence_seconds:g} s"
            )
        self.while_waiting()
        return Ready.NONE

    def _cancel(self) -> None:
        """End what the server does for us, as well as that is possible."""
        self._is_interrupted = True
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=_CANCEL_SECONDS)


class _TextLoader(Loader):
    """Text that is UTF-8 as far as one can tell."""

    def load(self, data: Buffer) -> str:
        """Decode it."""
        return bytes(data).decode(errors="replace")


def lock(connection: psycopg.Connection, table: str) -> None:
    """Lock a table in ACCESS SHARE mode until the transaction ends; its name stays what it is.

    Unlike LOCK TABLE, this is content with the privilege to read some columns.

    Args:
        connection: In a transaction.
        table: Its name as SQL has it.

    Raises:
        psycopg.errors.LockNotAvailable: Others have locked it for longer than `lock_timeout`.
        psycopg.Error: It is not there, or may not be read.
    """
    connection.execute(f"SELECT FROM ONLY {table} LIMIT 0".encode())


def one_row(
    connection: psycopg.Connection, query: str, parameters: Sequence[Any] = ()
) -> tuple[Any, ...]:
    """The first row of a query that always gives one.

    Raises:
        psycopg.Error: The server could not answer.
    """
    row = connection.execute(query, parameters or None).fetchone()
    return cast("tuple[Any, ...]", row)


def open_session(
    parameters: Mapping[str, Any],
    stop: threading.Event | None = None,
    *,
    while_waiting: Callable[[], None] | None = None,
) -> Session:
    """Open a connection in autocommit mode, with the settings that every one of ours has.

    They are set afterwards, as PGTZ and other variables of the environment have precedence over
    what a connection asks for when it is opened.

    Args:
        parameters: Of libpq.
        stop: Set once the run is asked to stop.
        while_waiting: Called a few times a second while the server does not answer.

    Raises:
        Interrupted: `stop` was set meanwhile.
        psycopg.Error: It can't be opened.
    """
    stop, while_waiting = stop or threading.Event(), while_waiting or _nothing
    session = _connect(parameters, stop, while_waiting)
    session.stop, session.while_waiting = stop, while_waiting
    try:
        is_ascii = session.info.parameter_status("server_encoding") == _NO_ENCODING
        changes = {"client_encoding": _NO_ENCODING} if is_ascii else {}
        if "replication" in parameters:
            # Nobody could ask again for a lock that the decoding of the log needs.
            changes["lock_timeout"] = "0"
        session.execute(_statements(session.info.server_version, changes))
        if is_ascii:
            session.take_bytes()
    except BaseException:
        session.close()
        raise
    return session


def _connect(
    parameters: Mapping[str, Any], stop: threading.Event, while_waiting: Callable[[], None]
) -> Session:
    """Connect in a thread, as nothing else ends the look-up of a host's address."""
    opened: list[Session | BaseException] = []

    def connect() -> None:
        try:
            opened.append(Session.connect(**parameters, autocommit=True))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            opened.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    stopping = 0.0
    while not opened:
        thread.join(_POLL_SECONDS)
        if stop.is_set() and not opened:
            stopping += _POLL_SECONDS
            if stopping >= _GRACE_SECONDS:
                raise Interrupted
        while_waiting()
    if isinstance(opened[0], BaseException):
        raise opened[0]
    return opened[0]


def _statements(version: int, changes: Mapping[str, str]) -> bytes:
    """SQL of all settings, for one round trip."""
    return "; ".join(
        f"SET {name} = '{value}'"
        for name, value in {**_SETTINGS, **changes}.items()
        if version >= _SINCE_VERSION.get(name, 0)
    ).encode()


def _nothing() -> None:
    """Be called."""
