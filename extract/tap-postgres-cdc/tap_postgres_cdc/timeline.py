"""Timelines: where the log of a server forked when it was promoted or restored.

See https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-TIMELINES.
"""

import psycopg

from tap_postgres_cdc.positions import parse_lsn


def read_forks(connection: psycopg.Connection, timeline: int) -> dict[int, int]:
    """Where each earlier timeline of a server's history ends, by its number.

    Args:
        connection: One that replicates.
        timeline: The current one.

    Raises:
        psycopg.Error: The server has lost the history.
    """
    if timeline == 1:
        return {}
    cursor = connection.execute(f"TIMELINE_HISTORY {timeline}")
    content = cursor.pgresult.get_value(0, 1) if cursor.pgresult else None
    return parse_history((content or b"").decode())


def parse_history(text: str) -> dict[int, int]:
    """Read the lines of a history file: timeline, LSN where it was left, reason.

    Raises:
        ValueError: They are something else.
    """
    lines = (line.split() for line in text.splitlines() if line.strip() and line[0] != "#")
    return {int(fields[0]): parse_lsn(fields[1]) for fields in lines}
