"""A database in which events happen side by side, each in a schema of its own."""

import re
from collections.abc import Callable, Sequence

import psycopg

from sandbox.events.event import Event
from sandbox.postgres import execute

_OTHER = (
    "INSERT INTO public.other SELECT max(id) + 1, 1, 'new' FROM public.other",
    "UPDATE public.other SET a = a + 1 WHERE id % 50 = 0",
    "DELETE FROM public.other WHERE id = (SELECT min(id) FROM public.other)",
)


class Stage:
    """Events that share a publication and its slot, and beside them the table `public.other`.

    Attributes:
        homes: The schema of each event.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection], events: Sequence[Event]) -> None:
        """Prepare; nothing is made yet.

        Args:
            connect: Opens a connection in autocommit mode to an empty database.
            events: Of one kind of publication and with the same parameters of it.
        """
        self.homes = {event: f"e{number}" for number, event in enumerate(events)}
        self._connect = connect

    @property
    def schemas(self) -> list[str]:
        """All schemas in which tables can be."""
        homes = self.homes.values()
        return ["public", *homes, *(f"{home}_away" for home in homes)]

    def make(self) -> None:
        """Make the tables, the publication `oso_publication` and the slot `oso_slot`."""
        first = next(iter(self.homes))
        of_all = first.publication == "FOR ALL TABLES"
        with self._connect() as connection:
            connection.execute("CREATE TABLE other (id int PRIMARY KEY, a int, b text)")
            connection.execute(
                "INSERT INTO other SELECT i, i, 'o' || i FROM generate_series(1, 200) i"
            )
            what = "FOR ALL TABLES" if of_all else "FOR TABLE other"
            connection.execute(
                f"CREATE PUBLICATION oso_publication {what} WITH ({first.parameters})".encode()
            )
            for event, home in self.homes.items():
                connection.execute(f"CREATE SCHEMA {home}".encode())
                added = event.publication.replace("FOR", "ALTER PUBLICATION oso_publication ADD")
                self._do(connection, event, (*event.setup, *(() if of_all else (added,))))
            connection.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")

    def do(self, event: Event, statements: Sequence[str]) -> None:
        """Run an event's SQL in its schema."""
        with self._connect() as connection:
            # A run in whose middle this happens may hold a lock, and does not go on meanwhile.
            connection.execute("SET lock_timeout = '1s'")
            self._do(connection, event, statements)

    def change(self, part: str) -> None:
        """Make the changes of all events that a field of them holds, and some in `public.other`."""
        with self._connect() as connection:
            for event in self.homes:
                self._do(connection, event, getattr(event, part))
            for statement in _OTHER:
                connection.execute(statement.encode())

    def _do(self, connection: psycopg.Connection, event: Event, statements: Sequence[str]) -> None:
        connection.execute(f"SET search_path = {self.homes[event]}".encode())
        for statement in statements:
            named = re.sub(r"\bhome(?=\b|_)", self.homes[event], statement)
            execute(connection, named)
