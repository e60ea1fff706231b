"""Positions in the log, transaction ids and snapshots: what is before what, and what sees what.

Only the LSNs of commits are ordered across transactions; the LSN of a single change is not. So a
change is placed by its commit and by its number within the transaction.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self

_LSN = re.compile(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}")
_SNAPSHOT = re.compile(r"\d{1,20}:\d{1,20}:[\d,]*")
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def parse_lsn(text: str) -> int:
    """Read an LSN as PostgreSQL writes it, such as `16/B374D848`.

    Raises:
        ValueError: The text is no LSN.

    See https://www.postgresql.org/docs/current/datatype-pg-lsn.html.
    """
    if not _LSN.fullmatch(text):
        raise ValueError(text)
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Write an LSN as PostgreSQL does."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def server_time(microseconds: int) -> datetime:
    """Time from the microseconds since 2000 that the replication protocol counts in."""
    return _POSTGRES_EPOCH + timedelta(microseconds=microseconds)


class Snapshot(NamedTuple):
    """Which transactions a reader sees, as `pg_current_snapshot()` gives it, with 64-bit ids.

    See https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT-PARTS.
    """

    xmin: int
    xmax: int
    in_progress: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `xmin:xmax:xid,xid,…`.

        Raises:
            ValueError: The text is no snapshot.
        """
        if not _SNAPSHOT.fullmatch(text):
            raise ValueError(text)
        xmin, xmax, in_progress = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, in_progress.split(",")))))

    def __str__(self) -> str:
        running = ",".join(map(str, sorted(self.in_progress)))
        return f"{self.xmin}:{self.xmax}:{running}"

    def sees(self, xid: int) -> bool:
        """Whether a committed transaction, by the 32-bit id of its Begin message, was visible."""
        full = self._widen(xid)
        return full < self.xmin or (full < self.xmax and full not in self.in_progress)

    def _widen(self, xid: int) -> int:
        """Add the epoch: live ids are within 2**31 of each other, so the nearest one is meant."""
        distance = (xid - self.xmax) & 0xFFFFFFFF
        return self.xmax + (distance - (1 << 32) if distance >= 1 << 31 else distance)
