"""The STATEs that wait for a flush, each with what came before it.

A run that fails commits what came before the newest STATE that has nothing wrong before it. Values
are looked at some hundred records at a time, so a bad one may come to light after the next STATE.
"""

from collections.abc import Mapping
from typing import NamedTuple

LARGEST = 4 << 20  # bytes; all of these are in memory
_OVERHEAD = 1000
_PER_ACTIVATION = 100


class Checkpoint(NamedTuple):
    """A STATE.

    Args:
        state: its text.
        position: how many records came before it, of all streams since the last flush.
        activations: by stream: the version whose elders were to go by then.
        complete: nothing waited when it came.
    """

    state: bytes
    position: int
    activations: Mapping[str, int]
    complete: bool


class Checkpoints:
    """Those that wait, in the order they came."""

    def __init__(self) -> None:
        self._waiting: list[Checkpoint] = []
        self._size = 0

    @property
    def newest(self) -> Checkpoint | None:
        """The last one, if any."""
        return self._waiting[-1] if self._waiting else None

    @property
    def too_many(self) -> bool:
        """Whether the older ones should go: `settle`."""
        return self._size > LARGEST

    def add(self, checkpoint: Checkpoint) -> None:
        """Take one more."""
        self._waiting.append(checkpoint)
        self._size += _OVERHEAD + len(checkpoint.state)
        self._size += _PER_ACTIVATION * len(checkpoint.activations)

    def settle(self) -> None:
        """Forget all but the newest: there is nothing wrong before it."""
        del self._waiting[:-1]
        self._size = 0

    def refuse(self) -> None:
        """Forget the newest: there is something wrong before it."""
        self._waiting.pop()

    def clear(self) -> None:
        """Forget all."""
        self._waiting.clear()
        self._size = 0
