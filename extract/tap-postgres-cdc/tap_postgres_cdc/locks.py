"""Patience with those who have locked a table.

A lock that is waited for keeps all others out that come after it, so each try is short
(`lock_timeout`, see `connection`), and there is a pause between two.
See https://www.postgresql.org/docs/current/explicit-locking.html.
"""

import logging
import threading
import time
from typing import Final

from tap_postgres_cdc.errors import CaptureError, Interrupted

logger = logging.getLogger("tap-postgres-cdc")

_PAUSE_SECONDS: Final = 0.5
_REPORT_SECONDS: Final = 10.0
_HOLDERS: Final = (
    "SELECT pid, usename, query FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE mode = 'AccessExclusiveLock'"
)


class LockPatience:
    """Pauses between tries to lock, up to a time."""

    def __init__(self, minutes: float, stop: threading.Event) -> None:
        self._minutes = minutes
        self._stop = stop
        self._deadline = time.monotonic() + 60 * minutes
        self._report_at = time.monotonic() + _REPORT_SECONDS

    def wait(self, what: str) -> None:
        """Pause before the next try.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: The time is over.
        """
        now = time.monotonic()
        if now >= self._deadline:
            raise CaptureError(
                f"{what} was locked by others for {self._minutes:g} minutes (setting "
                f"wait_minutes): see by whom with {_HOLDERS}, and run again"
            )
        if now >= self._report_at:
            logger.info("Waiting for a lock: %s", what)
            self._report_at = now + _REPORT_SECONDS
        if self._stop.wait(_PAUSE_SECONDS):
            raise Interrupted
