"""What the owner of a source database does, and what must come of it in the warehouse.

One table for the tests, which do each of it, and for the page that tells of it. It follows the
pages of PostgreSQL's manual, action by action:
https://www.postgresql.org/docs/current/sql-commands.html.
"""

from typing import Final

from sandbox.events import keys, moments, partitions, publications, tables, types
from sandbox.events.event import RUN, Event, Outcome, When

__all__ = ["EVENTS", "RUN", "Event", "Outcome", "When"]

EVENTS: Final[tuple[Event, ...]] = (
    *tables.EVENTS,
    *types.EVENTS,
    *keys.EVENTS,
    *partitions.EVENTS,
    *publications.EVENTS,
    *moments.EVENTS,
)
