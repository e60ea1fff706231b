"""What waits for the next flush: records, STATEs, and versions to be activated.

A run that fails commits what came before the newest STATE that has nothing wrong before it, and no
more: what came later comes again with the next run, and appended now it would be there twice.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from singer_sdk.exceptions import MissingKeyPropertiesError, RecordsWithoutSchemaException

from target_bigquery.batch import Batch
from target_bigquery.checkpoints import Checkpoint, Checkpoints
from target_bigquery.errors import TargetError
from target_bigquery.spool import Spool
from target_bigquery.streams import Stream

HELD_BYTES = 64 << 20  # of all streams together, decoded or in Arrow's form
INPUT_ERRORS = (TargetError, MissingKeyPropertiesError, RecordsWithoutSchemaException)


@dataclass(frozen=True)
class Flush:
    """What is committed together.

    Args:
        batches: records, by stream.
        activations: streams, and the version whose elders are to go.
        state: goes out when the rest is done.
        spool: has the batches' files; it is done with when they are loaded.
    """

    batches: list[tuple[Stream, Batch]]
    activations: list[tuple[Stream, int]]
    state: bytes | None
    spool: Spool | None

    def __bool__(self) -> bool:
        return bool(self.batches or self.activations) or self.state is not None

    def close(self) -> None:
        """Let go of the files."""
        if self.spool is not None:
            self.spool.close()


class Waiting:
    """What waits.

    Attributes:
        streams: by name, under their latest SCHEMA.
        activations: by stream: the version whose elders are to go.
        rows: records since the last flush.
        bytes: their size.
        converted: records that were converted, of the whole run.
    """

    def __init__(self) -> None:
        self.streams: dict[str, Stream] = {}
        self.activations: dict[str, int] = {}
        self.rows = 0
        self.bytes = 0
        self.converted = 0
        self._checkpoints = Checkpoints()
        self._spool: Spool | None = None
        self._sequence = time.time_ns()  # of the record before the first that waits

    def __bool__(self) -> bool:
        return bool(self.rows or self.activations or self._checkpoints.newest)

    def convert(self, stream: Stream) -> None:
        """Write a stream's decoded records to its Parquet file.

        Raises:
            TargetError: a value can't be loaded; the records stay as they are.
        """
        messages = stream.messages
        if not messages:
            return
        now = datetime.now(UTC)
        if stream.batch is None:
            self._spool = self._spool or Spool()
            stream.batch = stream.new_batch(now, self._spool)
        sequences = pc.add(pa.array(stream.positions, pa.int64()), self._sequence)
        stream.batch.add(messages, sequences, now)
        self.converted += len(messages)
        messages.clear()
        stream.positions.clear()
        stream.size = 0

    def convert_all(self) -> None:
        """Write the decoded records of all streams."""
        for stream in self.streams.values():
            self.convert(stream)

    def bound_memory(self) -> None:
        """Write everything to the files if there is too much in memory."""
        if sum(stream.held_bytes() for stream in self.streams.values()) >= HELD_BYTES:
            self.convert_all()
            for stream in self.streams.values():
                if stream.batch is not None:
                    stream.batch.write()

    def add_state(self, state: bytes) -> None:
        """Take a STATE, and note what came before it."""
        complete = not self.rows and not self.activations
        self._checkpoints.add(Checkpoint(state, self.rows, dict(self.activations), complete))
        if self._checkpoints.too_many:
            self.convert_all()
            self._checkpoints.settle()

    def complete_state(self) -> bytes | None:
        """Return the newest STATE, and forget it, if nothing that waits came before it."""
        checkpoint = self._checkpoints.newest
        if checkpoint is None or not checkpoint.complete:
            return None
        self._checkpoints.clear()
        return checkpoint.state

    def forget_states(self) -> None:
        """Forget the STATEs: they are not true, as something before them was not loaded."""
        self._checkpoints.clear()

    def cut(self) -> None:
        """Forget all behind the newest STATE that has nothing wrong before it; all without one."""
        while (checkpoint := self._checkpoints.newest) is not None:
            try:
                for stream in self.streams.values():
                    stream.forget_messages(checkpoint.position)
                    self.convert(stream)
                break
            except INPUT_ERRORS:
                self._checkpoints.refuse()
        self.activations = dict(checkpoint.activations) if checkpoint else {}
        position = checkpoint.position if checkpoint else 0
        for stream in self.streams.values():
            stream.forget_messages(position)
            if stream.batch is not None:
                stream.batch.cut(self._sequence + position)

    def take(self) -> Flush:
        """Return what waits; nothing does afterwards."""
        checkpoint = self._checkpoints.newest
        flush = Flush(
            [(s, s.batch) for s in self.streams.values() if s.batch is not None and s.batch.rows],
            [(self.streams[name], version) for name, version in self.activations.items()],
            checkpoint.state if checkpoint else None,
            self._spool,
        )
        for stream in self.streams.values():
            stream.batch = None
        self.activations.clear()
        self._checkpoints.clear()
        self._spool = None
        self._sequence += self.rows
        self.rows = self.bytes = 0
        return flush

    def close(self) -> None:
        """Let go of the files."""
        for stream in self.streams.values():
            if stream.batch is not None:
                stream.batch.close()
        if self._spool is not None:
            self._spool.close()
