"""Looking into partitions whose catalog entries leave a question open.

A partition that was truncated by itself is not in the log of the table it is part of, and neither
are the rows that one had before it was attached.
"""

from collections.abc import Iterable
from typing import Final

import psycopg
from psycopg import sql

from tap_postgres_cdc.discovery import Part

# As far as is looked for a row that was there before; VACUUM FULL leaves rows in their order.
_BLOCKS: Final = 4096
# Ids of transactions are compared around the circle that they go, see
# https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND.
_OLD_ROW: Final = """
SELECT EXISTS (SELECT FROM ONLY {} WHERE ctid < {}
  AND (xmin::text::bigint - {} + 4294967296) % 4294967296 >= 2147483648)
"""
_ROW_OF: Final = "SELECT EXISTS (SELECT FROM ONLY {} WHERE xmin = {})"


class Partitions:
    """What was found out about partitions, by oid and file."""

    def __init__(self, connection: psycopg.Connection, oldest_xid: int) -> None:
        """Take a connection that is not in a transaction, and what was over at the last run."""
        self._connection = connection
        self._oldest_xid = oldest_xid
        self._kept: set[tuple[int, int]] = set()
        self._logged: set[tuple[int, int]] = set()

    def look(self, emptied: Iterable[Part], attached: Iterable[Part]) -> None:
        """Look into partitions that may have been truncated, and into those that are new.

        Raises:
            psycopg.Error: One of them is locked.
        """
        for part in emptied:
            name, end = sql.Identifier(part.schema, part.name), f"({_BLOCKS},0)"
            if self._is(_OLD_ROW, name, end, self._oldest_xid & 0xFFFFFFFF):
                self._kept.add((part.oid, part.relfilenode))
        for part in attached:
            name = sql.Identifier(part.schema, part.name)
            if part.made_by and self._is(_ROW_OF, name, part.made_by) is False:
                self._logged.add((part.oid, part.relfilenode))

    def existing(self, oids: Iterable[int]) -> set[int]:
        """Those of former partitions that were detached, not dropped."""
        wanted = list(oids)
        query = "SELECT oid::bigint FROM pg_class WHERE oid = ANY (%s::oid[])"
        rows = self._connection.execute(query, [wanted]).fetchall() if wanted else []
        return {oid for (oid,) in rows}

    def is_kept(self, part: Part) -> bool:
        """Whether it has a row from before the last run, so that nobody truncated it since."""
        return (part.oid, part.relfilenode) in self._kept

    def is_logged(self, part: Part) -> bool:
        """Whether all its rows came when it was a partition already."""
        return (part.oid, part.relfilenode) in self._logged

    def _is(self, query: str, table: sql.Identifier, *values: str | int) -> bool | None:
        literals = (sql.Literal(value) for value in values)
        try:
            found = self._connection.execute(sql.SQL(query).format(table, *literals)).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return None
        return bool(found and found[0])
