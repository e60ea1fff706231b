"""How far a slot is behind, and what that costs the server."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc.commands.backlog import BacklogTooLong, oldest_change
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.positions import format_lsn, parse_lsn
from tap_postgres_cdc.progress import data_size, duration
from tap_postgres_cdc.settings import Settings

logger = logging.getLogger("tap-postgres-cdc")

# Versions have different columns, so the row comes as JSON.
_SLOT: Final = """
SELECT to_jsonb(s), pg_current_wal_lsn()::text, clock_timestamp(),
  (SELECT to_jsonb(backend_start) #>> '{}' FROM pg_stat_activity WHERE pid = s.active_pid)
FROM pg_replication_slots s WHERE slot_name = %s
"""
_METRICS: Final = {
    "lag_bytes": "WAL between the confirmed position and the end of the log.",
    "lag_seconds": "Age of the oldest published change that was not confirmed.",
    "retained_wal_bytes": "WAL that the server keeps for the slot.",
    "safe_wal_bytes": "WAL that may still be written before the slot is lost.",
    "active": "Whether a run is reading the slot.",
    "lost": "Whether the server has removed WAL that the slot needed.",
}


class Lag(NamedTuple):
    """A slot at one moment.

    Attributes:
        slot: Its name.
        database: Its database.
        active: Whether a run is reading it.
        lost: Whether WAL that it needed is gone.
        lag_bytes: WAL from the confirmed position to the end of the log; None if lost.
        lag_seconds: Age of the oldest published change after the confirmed position, 0 if there is
            none; None if that could not be found out.
        retained_wal_bytes: WAL that the server keeps for it; None if lost.
        safe_wal_bytes: WAL that may be written before it is lost; None if there is no bound.
        confirmed_flush_lsn: Up to here everything is loaded, for certain.
        current_lsn: End of the log.
        active_since: Since when the run reads it, ISO 8601.
        inactive_since: Since when nobody reads it, ISO 8601; None before PostgreSQL 17.
    """

    slot: str
    database: str
    active: bool
    lost: bool
    lag_bytes: int | None
    lag_seconds: float | None
    retained_wal_bytes: int | None
    safe_wal_bytes: int | None
    confirmed_flush_lsn: str | None
    current_lsn: str
    active_since: str | None
    inactive_since: str | None


def measure(settings: Settings, connector: Connector, connection: psycopg.Connection) -> Lag:
    """Measure how far the slot of the settings is behind; it stays as it is.

    Raises:
        CaptureError: There is no such slot.
    """
    row = connection.execute(_SLOT, [settings.slot]).fetchone()
    if row is None:
        raise CaptureError(
            f'replication slot "{settings.slot}" does not exist: see what else is missing with the '
            "command check, or correct the setting replication_slot"
        )
    slot, current, now, reader_since = row
    if slot["slot_type"] != "logical" or slot["plugin"] != "pgoutput":
        raise CaptureError(f'replication slot "{settings.slot}" is not for pgoutput: see check')
    end = parse_lsn(current)
    lost = slot["wal_status"] == "lost"
    return Lag(
        slot=settings.slot,
        database=slot["database"],
        active=slot["active"],
        lost=lost,
        lag_bytes=None if lost else _distance(slot["confirmed_flush_lsn"], end),
        lag_seconds=None if lost else _seconds(settings, connector, end, now),
        retained_wal_bytes=None if lost else _distance(slot["restart_lsn"], end),
        safe_wal_bytes=0 if lost else slot["safe_wal_size"],
        confirmed_flush_lsn=slot["confirmed_flush_lsn"],
        current_lsn=format_lsn(end),
        active_since=reader_since,
        inactive_since=slot.get("inactive_since"),
    )


def _distance(lsn: str | None, end: int) -> int | None:
    return None if lsn is None else max(end - parse_lsn(lsn), 0)


def _seconds(settings: Settings, connector: Connector, end: int, now: datetime) -> float | None:
    try:
        oldest = oldest_change(connector, settings.slot, settings.publication, end)
    except BacklogTooLong:
        logger.warning("There is so much WAL to read that the age of the oldest change is unknown")
        return None
    except (psycopg.Error, CaptureError) as error:
        logger.warning("The age of the oldest change is unknown: %s", str(error).strip())
        return None
    return 0.0 if oldest is None else max(round((now - oldest).total_seconds(), 3), 0.0)


def exceeded(lag: Lag, max_bytes: int | None, max_seconds: float | None) -> list[str]:
    """What is worse than allowed, for people; a lost slot always is."""
    if lag.lost:
        return [f"slot {lag.slot} is lost: see the command check for what to do"]
    found = []
    if max_bytes is not None and lag.lag_bytes is not None and lag.lag_bytes > max_bytes:
        found.append(f"slot {lag.slot} is {lag.lag_bytes:,} bytes behind, more than {max_bytes:,}")
    if max_seconds is not None and (lag.lag_seconds is None or lag.lag_seconds > max_seconds):
        behind = "unknown" if lag.lag_seconds is None else f"{lag.lag_seconds:,.0f}"
        found.append(f"slot {lag.slot} is {behind} seconds behind, more than {max_seconds:,.0f}")
    return found


def as_text(lag: Lag) -> str:
    """Lines for people."""
    return "\n".join(f"{name:<20}{value}" for name, value in _lines(lag))


def _lines(lag: Lag) -> Iterator[tuple[str, str]]:
    state = "lost" if lag.lost else "being read" if lag.active else "free"
    yield "slot", f"{lag.slot} of database {lag.database}, {state}"
    if lag.lag_bytes is not None:
        yield "behind", f"{data_size(lag.lag_bytes)} of WAL{_age(lag)}"
    if lag.retained_wal_bytes is not None:
        yield "WAL kept", data_size(lag.retained_wal_bytes)
    safe = "no bound" if lag.safe_wal_bytes is None else data_size(lag.safe_wal_bytes)
    yield "safe size left", safe
    yield "confirmed up to", f"{lag.confirmed_flush_lsn}; the log ends at {lag.current_lsn}"
    if lag.active_since:
        yield "active since", lag.active_since
    if lag.inactive_since:
        yield "inactive since", lag.inactive_since


def _age(lag: Lag) -> str:
    if lag.lag_seconds is None:
        return ""
    if not lag.lag_seconds:
        return ", of which nothing is published"
    return f", the oldest change is {duration(lag.lag_seconds)} old"


def as_json(lag: Lag) -> str:
    """One JSON object."""
    return json.dumps(lag._asdict())


def as_prometheus(lag: Lag) -> str:
    """Gauges in the text format of Prometheus; what is unknown is left out.

    See https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format.
    """
    labels = ",".join(f'{name}="{_escape(getattr(lag, name))}"' for name in ("database", "slot"))
    lines = []
    for name, description in _METRICS.items():
        value = getattr(lag, name)
        if value is None:
            continue
        metric = f"tap_postgres_cdc_{name}"
        lines += [f"# HELP {metric} {description}", f"# TYPE {metric} gauge"]
        number = int(value) if isinstance(value, bool) else value
        lines.append(f"{metric}{{{labels}}} {number}")
    return "\n".join(lines)


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
