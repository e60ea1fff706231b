"""Which datatype a type of the database has: domains, arrays and everything users made."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc.datatypes import TEXT, Datatype, array, scalar, without_encoding

_QUERY: Final = """
WITH RECURSIVE used(oid) AS (
  SELECT unnest(%s::oid[])
  UNION
  SELECT part FROM used JOIN pg_type t USING (oid), unnest(ARRAY[t.typbasetype, t.typelem]) part
)
SELECT t.oid::bigint, t.typname, t.typnamespace = 'pg_catalog'::regnamespace,
  CASE t.typtype WHEN 'd' THEN t.typbasetype::bigint END, t.typtypmod, t.typndims,
  CASE WHEN t.typinput = 'array_in'::regproc THEN t.typelem::bigint END, t.typdelim
FROM used JOIN pg_type t USING (oid)
"""


class _Type(NamedTuple):
    oid: int
    name: str
    is_builtin: bool
    domain_of: int | None
    typmod: int
    dimensions: int
    array_of: int | None
    delimiter: str


class TypeCatalog:
    """Datatypes by the oid of the type, read from the server when they are first asked for."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._types: dict[int, _Type] = {}

    def load(self, oids: Iterable[int]) -> None:
        """Read types, and the ones they are made of, all at once."""
        if missing := [oid for oid in set(oids) if oid not in self._types]:
            rows = self._connection.execute(_QUERY, [missing]).fetchall()
            self._types |= {row[0]: _Type(*row) for row in rows}

    def datatype(self, oid: int, typmod: int, dimensions: int = 0) -> Datatype:
        """Datatype of a column; one whose type was dropped meanwhile gives its text.

        Args:
            oid: `pg_attribute.atttypid`.
            typmod: `pg_attribute.atttypmod`.
            dimensions: `pg_attribute.attndims`.
        """
        self.load([oid])
        found = self._types.get(oid)
        if found is None:
            return self._mend(TEXT)
        if found.domain_of:
            return self.datatype(found.domain_of, found.typmod, found.dimensions)
        if found.array_of:
            item = self.datatype(found.array_of, typmod)
            return array(item, dimensions, self._types[found.array_of].delimiter)
        return self._mend(scalar(found.name, typmod) if found.is_builtin else TEXT)

    def _mend(self, datatype: Datatype) -> Datatype:
        is_ascii = self._connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        return without_encoding(datatype) if is_ascii else datatype
