"""What a run says while it works: how far, how fast, how long still."""

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from tap_postgres_cdc.discovery import Table

logger = logging.getLogger("tap-postgres-cdc")

_SECONDS: Final = 10.0


@dataclass
class CopyProgress:
    """Counts copied rows and logs them by table every few seconds."""

    _rows: dict[int, int] = field(default_factory=dict)
    _started: dict[int, float] = field(default_factory=dict)
    _logged_at: float = field(default_factory=time.monotonic)

    def copied(self, table: Table, rows: int) -> None:
        """Count rows."""
        now = time.monotonic()
        self._started.setdefault(table.oid, now)
        self._rows[table.oid] = self._rows.get(table.oid, 0) + rows
        if now - self._logged_at >= _SECONDS:
            self._logged_at = now
            seconds = now - self._started[table.oid]
            logger.info("%s", copy_line(table, self._rows[table.oid], seconds))

    def finished(self, table: Table) -> None:
        """Log that a table is done."""
        rows = self._rows.get(table.oid, 0)
        seconds = time.monotonic() - self._started.get(table.oid, time.monotonic())
        rate = f", {rows / seconds:,.0f} rows/s" if seconds >= 1 else ""
        logger.info("Copied %s: %s rows%s", table.full_name, f"{rows:,}", rate)


def copy_line(table: Table, rows: int, seconds: float) -> str:
    """How far the copy of a table is, by the server's estimate of its rows."""
    rate = rows / max(seconds, 0.001)
    expected = sum(max(part.rows, 0) for part in table.parts)
    line = f"Copying {table.full_name}: {rows:,} rows, {rate:,.0f} rows/s"
    if expected < rows or not rate:
        return line
    left = duration((expected - rows) / rate)
    return f"{line}, {rows / expected:.0%} of about {expected:,.0f}, {left} left"


@dataclass
class StreamProgress:
    """Counts changes and logs them every few seconds."""

    end_lsn: int
    _changes: int = 0
    _started: float = field(default_factory=time.monotonic)
    _logged: tuple[float, int] = field(default_factory=lambda: (time.monotonic(), 0))

    def read(self, changes: int, lsn: int) -> None:
        """Count changes up to a position in the log."""
        self._changes += changes
        now = time.monotonic()
        at, before = self._logged
        if now - at >= _SECONDS:
            self._logged = now, self._changes
            rate = (self._changes - before) / (now - at)
            behind = data_size(max(self.end_lsn - lsn, 0))
            line = f"{self._changes:,} changes, {rate:,.0f} changes/s, {behind} of WAL behind"
            logger.info("Streaming: %s", line)

    def finished(self) -> None:
        """Log the sum."""
        seconds = time.monotonic() - self._started
        rate = f", {self._changes / seconds:,.0f} changes/s" if seconds >= 1 else ""
        logger.info("Streamed %s changes%s", f"{self._changes:,}", rate)


def duration(seconds: float) -> str:
    """Time for people, such as `2 h 05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def data_size(count: float) -> str:
    """Bytes for people, such as `1.5 GiB`."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB")
    power = max(i for i in range(len(units)) if count >= 1024**i or i == 0)
    return f"{count / 1024**power:,.{min(power, 1)}f} {units[power]}"
