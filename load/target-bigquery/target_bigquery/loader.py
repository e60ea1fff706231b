"""The heart of the target: messages in, tables and STATE out, in that order.

Records wait as Parquet files, one per stream. A flush hands all of them to a second thread, which
loads and merges them while the next ones are read, and then writes the newest STATE that came
before them. There is one flush at a time, so what waits is bounded, and STATE never runs ahead of
data.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
from singer_sdk import metrics
from singer_sdk.exceptions import RecordsWithoutSchemaException

from target_bigquery.emulator import open_warehouse
from target_bigquery.errors import TargetError, one_line
from target_bigquery.flushing import Flusher
from target_bigquery.jobs import working_for
from target_bigquery.messages import (
    UNDECODABLE,
    ActivateVersionMessage,
    BatchMessage,
    RecordEnvelope,
    SchemaMessage,
    StateMessage,
    decode,
)
from target_bigquery.settings import Settings
from target_bigquery.streams import Stream, open_stream
from target_bigquery.waiting import INPUT_ERRORS, Flush, Waiting

CHUNK_ROWS = 512  # what fits into the processor's cache: 8,192 took a third more time
CHUNK_BYTES = 8 << 20
KNOWN_PREFIXES = 10_000
_RECORD = b'"record"'

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """Messages seen."""

    records: int = 0
    schemas: int = 0
    states: int = 0
    versions: int = 0


class Loader:
    """Loads Singer messages into one dataset.

    Args:
        settings: the checked settings.
        emit: writes a STATE; called from another thread.
        wake: called when a flush has ended, so that its error is noticed while the input is silent.
    """

    def __init__(
        self,
        settings: Settings,
        emit: Callable[[bytes], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.counts = Counts()
        self._settings = settings
        self._emit = emit
        self._wake = wake
        self._warehouse = open_warehouse(settings, secrets.token_hex(6))
        self._table_names: list[str] | None = None
        self._waiting = Waiting()
        self._by_prefix: dict[bytes, Stream] = {}
        self._since: float | None = None  # when the oldest waiting message came
        self._started = time.monotonic()
        self._flushing: Future[None] | None = None
        self._worker = ThreadPoolExecutor(1, "flush")
        self._flusher = Flusher(settings, self._warehouse)

    def read(self, blocks: Iterable[list[bytes]]) -> None:
        """Take blocks of lines until they end.

        Raises:
            TargetError: a message, a record or BigQuery is at fault; what came before the last
                STATE that has nothing wrong before it is loaded, and nothing later.
        """
        try:
            self._read(blocks)
        except INPUT_ERRORS as error:
            try:
                self.wait()
                self._waiting.cut()
                self.flush()
                self.wait()
            except TargetError as second:
                raise TargetError(
                    f"{error}; and what came before could not be loaded: {second}"
                ) from second
            raise

    def _read(self, blocks: Iterable[list[bytes]]) -> None:
        find, waiting = self._by_prefix.get, self._waiting
        most_rows, most_bytes = self._settings.flush_rows, self._settings.flush_bytes
        for lines in blocks:
            for line in lines:
                stream = find(line[: line.find(_RECORD)]) or self._other(line)
                if stream is None:
                    continue
                try:
                    message = stream.decode(line)
                except UNDECODABLE:
                    message = stream.decoder.repair(line, len(stream.messages))
                size = len(line)
                waiting.rows += 1
                waiting.bytes += size
                stream.messages.append(message)
                stream.positions.append(waiting.rows)
                stream.size += size
                if len(stream.messages) >= CHUNK_ROWS or stream.size >= CHUNK_BYTES:
                    waiting.convert(stream)
                if waiting.rows >= most_rows or waiting.bytes >= most_bytes:
                    self.flush()
            self._after_block()
        waiting.convert_all()
        self.counts.records = waiting.converted

    def patience(self) -> float | None:
        """Return in how many seconds a flush is due, None if nothing waits."""
        if self._since is None:
            return None
        return max(0.0, self._since + self._settings.flush_seconds - time.monotonic())

    def flush(self) -> None:
        """Hand all that waits to the second thread, when that is done with the flush before."""
        self._waiting.convert_all()
        for stream in self._waiting.streams.values():
            stream.decoder.warn_of_changes()
        self.wait()
        self._since = None
        flush = self._waiting.take()
        if flush:
            self._flushing = self._worker.submit(self._commit, flush)
            self._flushing.add_done_callback(lambda _: self._wake())
        else:
            flush.close()

    def wait(self) -> None:
        """Wait for the flush that is on; its error is raised here.

        A STATE that came right behind the records of that flush goes out now.
        """
        flushing, self._flushing = self._flushing, None
        if flushing is not None and (error := flushing.exception()) is not None:
            self._waiting.forget_states()
            raise error
        if (state := self._waiting.complete_state()) is not None:
            self._emit(state)

    def close(self, *, complete: bool) -> None:
        """End: load and commit what waits if the input is complete, and let go of everything."""
        try:
            if complete:
                self.flush()
            self.wait()
        finally:
            self._worker.shutdown()
            self._flusher.close()
            self._waiting.close()
            self._warehouse.close()

    def _after_block(self) -> None:
        if self._flushing is None or self._flushing.done():
            self.wait()
        self._waiting.bound_memory()
        if self._since is None:
            if self._waiting:
                self._since = time.monotonic()
        elif self.patience() == 0:
            self.flush()

    def _other(self, line: bytes) -> Stream | None:
        """Handle a line whose beginning is not known; return its stream if it is a RECORD."""
        if not line.strip():
            return None
        message = decode(line)
        match message:
            case RecordEnvelope():
                return self._record_stream(message.stream, line)
            case SchemaMessage():
                self.counts.schemas += 1
                self._schema(message)
            case StateMessage():
                self.counts.states += 1
                self._waiting.add_state(bytes(message.value))
            case ActivateVersionMessage():
                self.counts.versions += 1
                self._activate_later(self._known(message.stream), message.version)
            case BatchMessage():
                raise TargetError(
                    f"stream {message.stream!r}: BATCH messages are not supported; turn off "
                    "batch_config in the tap"
                )
        return None

    def _known(self, name: str) -> Stream:
        stream = self._waiting.streams.get(name)
        if stream is None:
            raise RecordsWithoutSchemaException(
                f"stream {name!r}: a record came before the stream's SCHEMA message"
            )
        return stream

    def _record_stream(self, name: str, line: bytes) -> Stream:
        """Return the stream of a RECORD; remember the line's beginning if that says it all."""
        stream = self._known(name)
        if name in self._waiting.activations:  # of whatever version it is, it is not to go
            self.flush()
        stream.warn_of_unknown(line)
        prefix = line[: line.find(_RECORD)]
        try:
            head = msgspec.json.decode(prefix.rstrip().removesuffix(b",") + b"}")
        except ValueError:
            return stream
        says_all = head.get("type") == "RECORD" and head.get("stream") == name
        if (
            says_all
            and head.keys() <= {"type", "stream", "version"}
            and len(self._by_prefix) < KNOWN_PREFIXES
        ):
            self._by_prefix[prefix] = stream
        return stream

    def _activate_later(self, stream: Stream, version: int) -> None:
        """Have the next flush delete the rows of older versions, before the next record comes.

        One at a time, a first copy of many small tables would wait for the warehouse at each.
        """
        self._waiting.activations[stream.name] = max(
            version, self._waiting.activations.get(stream.name, version)
        )
        for prefix in [prefix for prefix, s in self._by_prefix.items() if s is stream]:
            del self._by_prefix[prefix]

    def _schema(self, message: SchemaMessage) -> None:
        """Make the stream's table fit a SCHEMA; one that is as before changes nothing."""
        name = message.stream
        before = self._waiting.streams.get(name)
        if before is not None and before.message == message:
            return
        if self._table_names is None:
            self._warehouse.open()
            self._table_names = self._warehouse.table_names()
        others = {
            stream.table.lower() for stream in self._waiting.streams.values() if stream.name != name
        }
        try:
            opened = open_stream(
                message, self._settings, self._warehouse, self._table_names, others
            )
        except (TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise TargetError(
                f"stream {name!r}: the SCHEMA message can't be understood: {one_line(error)}"
            ) from error
        if before is not None:  # its records are loaded as they were described
            self.flush()
            self.wait()
            self._by_prefix.clear()
            opened.stream.loaded = before.loaded
        else:
            for leftover in self._warehouse.left_over(opened.stream.table):
                logger.info("dropping %s, left by an interrupted run", leftover)
                self._warehouse.drop(leftover)
        with working_for(name):
            opened.apply(self._warehouse)
        self._waiting.streams[name] = opened.stream
        self._table_names.append(opened.stream.table)

    def _commit(self, flush: Flush) -> None:
        """Load and merge what a flush has, then let its STATE out: the second thread's work."""
        started = time.monotonic()
        try:
            self._flusher.commit(flush.batches, flush.activations)
        finally:
            flush.close()
        if flush.state is not None:
            self._emit(flush.state)
        self._report(flush.batches, time.monotonic() - started)

    def _report(self, batches: list[tuple[Stream, Any]], seconds: float) -> None:
        for stream, batch in batches:
            stream.loaded += batch.rows
            metrics.log(
                metrics.get_metrics_logger(),
                metrics.Point(
                    "counter", metrics.Metric.RECORD_COUNT, batch.rows, {"stream": stream.name}
                ),
            )
            logger.info(
                "%s: %s rows loaded into %s in %.1f s (%s in all)",
                stream.name,
                f"{batch.rows:,}",
                stream.table,
                seconds,
                f"{stream.loaded:,}",
            )
        if batches:
            total = sum(stream.loaded for stream in self._waiting.streams.values())
            rate = total / max(time.monotonic() - self._started, 0.001)
            logger.info("%s rows loaded so far, %s rows/s", f"{total:,}", f"{rate:,.0f}")
