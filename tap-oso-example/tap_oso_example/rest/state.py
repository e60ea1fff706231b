"""Finding the bookmark of a partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from singer_sdk.streams._state import StreamStateManager

if TYPE_CHECKING:
    from singer_sdk.helpers.types import Context


class IndexedStateManager(StreamStateManager):
    """Finds a partition in one step.

    The SDK looks through all partitions for each record, so that the time of a run grows with the
    square of their number.
    """

    _index: dict[frozenset[tuple[str, Any]], dict[str, Any]] | None = None

    def get_context_state(self, context: Context | None) -> dict[str, Any]:
        """Return the writable state of a partition, or of the stream when there is no partition."""
        partition = self.get_state_partition_context(context) if context else None
        if not partition:
            return self.stream_state
        partitions: list[dict[str, Any]] = self.stream_state.setdefault("partitions", [])
        if self._index is None:
            self._index = {frozenset(each["context"].items()): each for each in partitions}
        key = frozenset(partition.items())
        if key not in self._index:
            self._index[key] = {"context": dict(partition)}
            partitions.append(self._index[key])
        return self._index[key]
