"""Which datatype a type of the database has: domains, arrays and everything users made."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import psycopg

from tap_postgres_cdc.datatypes import TEXT, Datatype, array, scalar, without_encoding

# Types, and what the text of their values is made of: base types, elements, attributes, ranges.
_QUERY: Final = """
WITH RECURSIVE used(oid) AS (
  SELECT unnest(%s::oid[])
  UNION
  SELECT part.oid FROM used JOIN pg_type t USING (oid), LATERAL (
    SELECT unnest(ARRAY[t.typbasetype, t.typelem])
    UNION ALL
    SELECT atttypid FROM pg_attribute
    WHERE t.typtype = 'c' AND attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT CASE t.oid WHEN rngtypid THEN rngsubtype ELSE rngtypid END FROM pg_range
    WHERE t.oid IN (rngtypid, rngmultitypid)
  ) part(oid)
)
SELECT t.oid::bigint, t.typname, t.typnamespace = 'pg_catalog'::regnamespace,
  CASE t.typtype WHEN 'd' THEN t.typbasetype::bigint END, t.typtypmod, t.typndims,
  CASE WHEN t.typinput = 'array_in'::regproc THEN t.typelem::bigint END, t.typdelim,
  CASE t.typtype WHEN 'e' THEN (
    SELECT coalesce(jsonb_agg(jsonb_build_array(oid::bigint, xmin::text) ORDER BY oid), '[]')
    FROM pg_enum WHERE enumtypid = t.oid
  ) END,
  CASE t.typtype WHEN 'c' THEN (
    SELECT jsonb_agg(jsonb_build_array(attnum, atttypid::bigint) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0
  ) END,
  (
    SELECT CASE t.oid WHEN rngtypid THEN rngsubtype ELSE rngtypid END::bigint FROM pg_range
    WHERE t.oid IN (rngtypid, rngmultitypid)
  )
FROM used JOIN pg_type t USING (oid)
"""


class _Type(NamedTuple):
    """A row of `pg_type` with what belongs to it.

    Attributes:
        labels: oid and xmin of each label of an enum, in the order they were made.
        attributes: Number and type oid of each attribute of a row type; 0 for one that was dropped.
        subtype: Of a range what it ranges over, of a multirange its range.
    """

    oid: int
    name: str
    is_builtin: bool
    domain_of: int | None
    typmod: int
    dimensions: int
    array_of: int | None
    delimiter: str
    labels: Sequence[tuple[int, str]] | None
    attributes: Sequence[tuple[int, int]] | None
    subtype: int | None


class TypeCatalog:
    """Datatypes by the oid of the type, read from the server when they are first asked for."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._types: dict[int, _Type] = {}
        self._datatypes: dict[tuple[int, int, int], Datatype] = {}
        self._forms: dict[tuple[int, int], str] = {}

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
        known = oid, typmod, dimensions
        if known not in self._datatypes:
            self._datatypes[known] = self._datatype(*known)
        return self._datatypes[known]

    def _datatype(self, oid: int, typmod: int, dimensions: int) -> Datatype:
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

    def newest_label(self, oid: int) -> int:
        """The greatest oid among the labels of the enums that a type is made of, 0 if none."""
        found = self._types.get(oid)
        if found is None:
            return 0
        labels = [label for label, _ in found.labels or ()]
        return max([*labels, *map(self.newest_label, _parts(found))], default=0)

    def form(self, oid: int, newest_label: int) -> str:
        """What the text of a type's values depends on: equal forms give equal text.

        A label that is renamed, or an attribute that is added or dropped, changes values without a
        change in the log. A label that is added does not, so those above `newest_label` are left
        out. The text of a domain is that of its base type, the one of varchar that of text.

        Args:
            oid: Of a type that was loaded.
            newest_label: The oid of the last label that counts.
        """
        known = oid, newest_label
        if known not in self._forms:
            self._forms[known] = self._form(*known)
        return self._forms[known]

    def _form(self, oid: int, newest_label: int) -> str:
        found = self._types.get(oid)
        if found is None:
            return str(oid)
        if found.is_builtin and found.name in {"text", "varchar"}:
            return "text"
        if found.domain_of:
            return self.form(found.domain_of, newest_label)
        if found.labels is not None:
            known = [f"{label}:{xmin}" for label, xmin in found.labels if label <= newest_label]
            return f"{oid}={','.join(known)}"
        parts = ",".join(self.form(part, newest_label) for part in _parts(found))
        return f"{0 if found.array_of else oid}({found.attributes or ''}{parts})"

    def _mend(self, datatype: Datatype) -> Datatype:
        is_ascii = self._connection.info.parameter_status("server_encoding") == "SQL_ASCII"
        return without_encoding(datatype) if is_ascii else datatype


def _parts(found: _Type) -> list[int]:
    """The oids of the types that a type is directly made of."""
    attributes = [part for _, part in found.attributes or ()]
    return [oid for oid in (found.domain_of, found.array_of, found.subtype, *attributes) if oid]
