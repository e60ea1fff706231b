"""The stream class that everything else here serves."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import threading
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec
from requests.adapters import HTTPAdapter
from singer_sdk import RESTStream, metrics
from singer_sdk.exceptions import (
    AbortedSyncFailedException,
    AbortedSyncPausedException,
    FatalAPIError,
)
from singer_sdk.helpers.conform import TypeConformanceLevel

from tap_oso_example.rest.logs import FirstOfItsKind, Progress
from tap_oso_example.rest.ordered import ordered_map
from tap_oso_example.rest.retry import (
    MAX_TRIES,
    RETRIABLE,
    Gate,
    NotFoundError,
    check,
    describe,
    retrying,
)
from tap_oso_example.rest.state import IndexedStateManager

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    import requests
    from singer_sdk.helpers.types import Context, Record
    from singer_sdk.streams._state import StreamStateManager

    from tap_oso_example.rest.tap import ConcurrentTap

REQUEST_SECONDS = 60

_decode = msgspec.json.Decoder(float_hook=decimal.Decimal).decode


class ConcurrentStream(RESTStream[Any]):
    """A REST stream that sends up to `concurrency` requests at a time and keeps order.

    It takes four kinds of source, each by overriding what the SDK documents for it:

    - one request series: nothing to override;
    - a series per partition (a multiplexer): `partitions`, as a list of contexts;
    - a series per record of another stream (a dependent table): `parent_stream_type`, and
      `get_child_context` in the parent;
    - a series per number, day or name that the stream knows itself: `get_records`, with `fetch`.

    The bookmark of a record is taken when all records before it are written, whatever came back
    first. Each series runs in a thread of its own, so `request_records`, and what it calls, must
    not change the stream. https://sdk.meltano.com/en/latest/classes/singer_sdk.RESTStream.html
    """

    #: How to make a column from a row of the source, where that is not the field of its name.
    resolvers: ClassVar[Mapping[str, Callable[[dict[str, Any]], Any]]] = {}

    # The decoder and the resolvers give the schema's types already.
    TYPE_CONFORMANCE_LEVEL = TypeConformanceLevel.NONE
    # A log line per request is too many.
    _LOG_REQUEST_METRICS = False

    def __init__(self, tap: ConcurrentTap, **kwargs: Any) -> None:
        super().__init__(tap, **kwargs)
        self._concurrent_tap = tap
        self._columns = [(name, self.resolvers.get(name)) for name in self.schema["properties"]]
        self._parent_contexts: list[dict[str, Any]] = []
        self._series: Iterator[tuple[Context | None, Iterator[Record]]] | None = None
        self._missing: list[Context | None] = []
        self._closed = threading.Event()
        self._gate = Gate()
        self._auth_lock = threading.Lock()
        self.logger.addFilter(FirstOfItsKind())
        adapter = HTTPAdapter(pool_maxsize=self.concurrency)
        for scheme in ("http://", "https://"):
            self.requests_session.mount(scheme, adapter)

    @property
    def concurrency(self) -> int:
        """The most requests that may be in flight."""
        return int(self.config["concurrency"])

    @property
    def partitions(self) -> list[dict[str, Any]] | None:
        """The contexts that the parent stream has announced; `None` without a parent."""
        if self.parent_stream_type is None:
            return None
        return self._parent_contexts

    def may_be_missing(self, context: Context | None) -> bool:  # noqa: ARG002
        """Whether an item that the server answers with 404 is skipped and counted, not an error."""
        return False

    @property
    def state_manager(self) -> StreamStateManager:
        """What finds and moves the bookmarks."""
        if self._state_manager is None:
            self._state_manager = IndexedStateManager(
                tap_name=self.tap_name,
                stream_name=self.name,
                tap_state=self.tap_state,
                state_partitioning_keys=self.state_partitioning_keys,
                is_sorted=self.is_sorted,
                check_sorted=self.check_sorted,
            )
        return self._state_manager

    # Fetching

    def get_records(self, context: Context | None) -> Iterable[Record]:
        """Return the records of one partition, while the partitions after it are fetched ahead.

        Raises:
            FatalAPIError: A request failed for good; the message names URL and status.
        """
        if self._series is None:
            partitions = self.partitions
            if partitions == []:
                return
            self._series = self.fetch([context] if partitions is None else partitions)
        _, records = next(self._series)
        yield from records

    def fetch(
        self, contexts: Sequence[Mapping[str, Any] | None]
    ) -> Iterator[tuple[Context | None, Iterator[Record]]]:
        """Request the series of each context concurrently; yield them in order, and log progress.

        Like `itertools.groupby`, the records of a context have to be read before the next context.
        """
        progress = Progress(self._tap.logger, self.name, len(contexts))
        self._missing.clear()

        def counted(records: Iterator[Record]) -> Iterator[Record]:
            yield from records
            progress.advance(skipped=len(self._missing))

        for context, records in self._map(self._with_bookmarks(contexts)):
            yield context, counted(records)

    def fetch_one(self, context: Context | None) -> list[Record]:
        """Request the series of one context and wait for all of it."""
        return [record for _, records in self._map([context]) for record in records]

    def _map(
        self, contexts: Iterable[Context | None]
    ) -> Iterator[tuple[Context | None, Iterator[Record]]]:
        self._closed = threading.Event()
        return ordered_map(
            self._records_of,
            contexts,
            width=self.concurrency,
            closed=self._closed,
            on_wait=self._concurrent_tap.raise_if_stopped,
        )

    def _with_bookmarks(self, contexts: Sequence[Context | None]) -> Iterator[Context | None]:
        """Write where each partition starts: in the main thread, before its requests need it."""
        partitioned = bool(self.partitions)
        for context in contexts:
            if partitioned:
                self._write_starting_replication_value(context)
            yield context

    def _records_of(self, context: Context | None) -> Iterator[Record]:
        try:
            for row in self.request_records(context):
                record = {
                    name: resolve(row) if resolve else row.get(name)
                    for name, resolve in self._columns
                }
                record.update(context or {})
                yield record
        except NotFoundError:
            if not self.may_be_missing(context):
                raise
            self._missing.append(context)

    # Requests

    def request_decorator(self, func: Callable[..., requests.Response]) -> Callable[..., Any]:
        """Retry a request by the rules of `retry`."""
        closed = self._closed

        def send(request: requests.PreparedRequest, context: Context | None) -> requests.Response:
            def attempt() -> requests.Response:
                self._gate.pass_through(closed.wait)
                if closed.is_set():
                    raise FatalAPIError("not sent: the sync is over")
                return func(request, context)

            url = str(request.url)
            try:
                return retrying(self._gate, closed, self._tap.logger, url)(attempt)
            except RETRIABLE as error:
                message = f"{describe(error, url)}; gave up after {MAX_TRIES} tries"
                raise FatalAPIError(message) from error

        return send

    def build_prepared_request(self, *args: Any, **kwargs: Any) -> requests.PreparedRequest:
        """Prepare a request, one thread at a time: an authenticator is to fetch only one token."""
        with self._auth_lock:
            return super().build_prepared_request(*args, **kwargs)

    def validate_response(self, response: requests.Response) -> None:
        """Raise unless the response is complete and a success; see `retry.check`."""
        check(response)

    def parse_response(self, response: requests.Response) -> Iterable[dict[str, Any]]:
        """Return the rows of a response: the members of a list, or the one object."""
        body = _decode(response.content)
        return body if isinstance(body, list) else [body]

    @property
    def timeout(self) -> int:
        """How long the server may be silent, in seconds."""
        return REQUEST_SECONDS

    def get_http_request_counter(self) -> metrics.Counter:
        """Return a counter that does not log: there would be a line per series."""
        return _SilentCounter(metrics.Metric.HTTP_REQUEST_COUNT)

    # What the SDK does once per child context, done once for all of them. One sync per context
    # would repeat the schema and the whole state for each, and could not look ahead.

    def _sync_children(self, child_context: Context | None) -> None:
        if child_context is not None:
            for child in self._dependents():
                child._parent_contexts.append(dict(child_context))  # noqa: SLF001

    def _sync_records(
        self, context: Context | None = None, *, write_messages: bool = True
    ) -> Generator[dict[str, Any], Any, Any]:
        self._series = None
        for child in self._dependents():
            child._parent_contexts = []  # noqa: SLF001
        try:
            yield from super()._sync_records(context, write_messages=write_messages)
        except (AbortedSyncFailedException, AbortedSyncPausedException):
            # --test stops a stream after its first records; its children are to be tried as well.
            self._sync_dependents()
            raise
        except (Exception, SystemExit):
            # What is written stays written: the next run goes on from here.
            self._tap.state_writer.write_state(self.tap_state)
            raise
        finally:
            self._closed.set()
        self._sync_dependents()

    def _sync_dependents(self) -> None:
        for child in self._dependents():
            with contextlib.suppress(AbortedSyncFailedException, AbortedSyncPausedException):
                child.sync()

    def _dependents(self) -> Iterator[ConcurrentStream]:
        for child in self.child_streams:
            if child.selected or child.has_selected_descendents:
                yield cast("ConcurrentStream", child)


def new_since(
    rows: Iterable[dict[str, Any]],
    column: str,
    since: dt.datetime | None,
    *,
    patience: int,
) -> Iterator[dict[str, Any]]:
    """Yield the rows at or after `since` of a list that runs from new to old.

    Reading stops after `patience` older rows in a row, so that older pages are not asked for. Rows
    without a value are new.

    Args:
        rows: From new to old by `column`, or nearly so.
        column: Holds an RFC 3339 time or null.
        since: The bookmark; `None` yields everything.
        patience: How far the order may be wrong, in rows.
    """
    older = 0
    for row in rows:
        if since is None or row[column] is None or parse_time(row[column]) >= since:
            older = 0
            yield row
        elif (older := older + 1) >= patience:
            return


def parse_time(text: str) -> dt.datetime:
    """Return the moment that an RFC 3339 text names."""
    return dt.datetime.fromisoformat(text)


class _SilentCounter(metrics.Counter):
    """Counts and keeps it to itself."""

    def _pop(self) -> None:
        self.value = 0
