"""Bounded concurrency that keeps order."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

T = TypeVar("T")
R = TypeVar("R")

# Results of one item are handed over in chunks; an item whose turn has not come holds a few of
# them, then its thread waits. So memory has a bound, however many results an item has.
CHUNK = 100
CHUNKS_AHEAD = 4
# How often a waiting thread looks whether it should still wait, in seconds.
POLL = 0.05


class _Results(queue.Queue["list[R] | Exception | None"]):
    """The results of one item on their way: chunks, then `None` or the exception that ended it."""

    def __init__(self) -> None:
        super().__init__(CHUNKS_AHEAD)

    def fill(self, results: Iterable[R], closed: threading.Event) -> None:
        """Hand over the results as they come, until nobody reads any more."""
        chunk: list[R] = []
        end: Exception | None = None
        try:
            for result in results:
                chunk.append(result)
                if len(chunk) == CHUNK:
                    self._offer(chunk, closed)
                    chunk = []
                if closed.is_set():
                    return
        except Exception as error:  # noqa: BLE001 the reader's thread raises it
            end = error
        self._offer(chunk, closed)
        self._offer(end, closed)

    def _offer(self, chunk: list[R] | Exception | None, closed: threading.Event) -> None:
        while not closed.is_set():
            with contextlib.suppress(queue.Full):
                self.put(chunk, timeout=POLL)
                return

    def read(self, on_wait: Callable[[], None]) -> Iterator[R]:
        """Yield the results; raise what ended them early."""
        while True:
            on_wait()
            try:
                chunk = self.get(timeout=POLL)
            except queue.Empty:
                continue
            if isinstance(chunk, Exception):
                raise chunk
            if chunk is None:
                return
            yield from chunk


def ordered_map(
    function: Callable[[T], Iterable[R]],
    items: Iterable[T],
    *,
    width: int,
    closed: threading.Event,
    on_wait: Callable[[], None],
) -> Generator[tuple[T, Iterator[R]]]:
    """Run `function` over `items` in `width` threads; yield results in the order of the items.

    At most `2 * width` items are begun ahead of the one being read: with fewer, a slow item leaves
    threads idle. Like `itertools.groupby`, each item's results have to be read before the next
    item.

    The threads are daemons, because an executor's threads are joined when the process ends, and one
    of them waiting for a server would hold up the end by its whole time-out.

    Args:
        function: Turns an item into its results; may be a generator. Runs in the threads.
        items: What to run it over.
        width: Number of threads.
        closed: Ends the threads. The caller sets it when it stops reading before the end.
        on_wait: Called in the caller's thread at least every 50 ms; what it raises ends the map.

    Yields:
        Each item with an iterator of its results, which raises what `function` raised.
    """
    work: queue.SimpleQueue[tuple[T, _Results[R]]] = queue.SimpleQueue()

    def run() -> None:
        while not closed.is_set():
            try:
                item, results = work.get(timeout=POLL)
            except queue.Empty:
                continue
            results.fill(function(item), closed)

    def begin(item: T) -> tuple[T, _Results[R]]:
        task = (item, _Results[R]())
        work.put(task)
        return task

    for _ in range(width):
        threading.Thread(target=run, daemon=True).start()
    rest = iter(items)
    try:
        ahead = deque(begin(item) for item in islice(rest, 2 * width))
        while ahead:
            item, results = ahead.popleft()
            yield item, results.read(on_wait)
            ahead.extend(begin(item) for item in islice(rest, 1))
    finally:
        closed.set()
