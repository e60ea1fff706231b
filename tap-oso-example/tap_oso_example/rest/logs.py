"""What a run says while it works."""

from __future__ import annotations

import logging
import time

INTERVAL = 10.0


class FirstOfItsKind(logging.Filter):
    """Lets each message below an error through once: the SDK repeats some for every partition."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[object] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a message with these words, whatever its values, is new."""
        if record.levelno >= logging.ERROR:
            return True
        new = record.msg not in self._seen
        self._seen.add(record.msg)
        return new


class Progress:
    """Counts finished items of a known total and logs every ten seconds and at the end."""

    def __init__(self, logger: logging.Logger, name: str, total: int) -> None:
        self._logger = logger
        self._name = name
        self._total = total
        self._done = 0
        self._started = self._said = time.monotonic()
        if total == 0:
            logger.info("%s: nothing new to fetch", name)

    def advance(self, skipped: int) -> None:
        """Count one item as finished.

        Args:
            skipped: How many items the server did not have, up to now.
        """
        self._done += 1
        now = time.monotonic()
        seconds = max(now - self._started, 1e-6)
        rate = self._done / seconds
        if self._done == self._total:
            self._logger.info(
                "%s: %d of %d done in %.1f s (%.1f/s), %d skipped because missing (HTTP 404)",
                self._name,
                self._done,
                self._total,
                seconds,
                rate,
                skipped,
            )
        elif now - self._said >= INTERVAL:
            self._said = now
            self._logger.info(
                "%s: %d of %d done (%d %%), %.1f/s, about %.0f s left",
                self._name,
                self._done,
                self._total,
                100 * self._done // self._total,
                rate,
                (self._total - self._done) / rate,
            )
