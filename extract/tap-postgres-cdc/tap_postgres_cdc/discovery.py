"""What a publication holds: its tables with their columns, keys and parts."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg

from tap_postgres_cdc.datatypes import Datatype
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.records import METADATA
from tap_postgres_cdc.typecatalog import TypeCatalog

_PUBLICATION: Final = """
SELECT oid::bigint, pubinsert, pubupdate, pubdelete, pubtruncate
FROM pg_publication WHERE pubname = %s
"""

# Everything is read from the catalog's tables, as of the query's snapshot. Functions such as
# pg_relation_filenode() and pg_partition_tree() answer as of now, and a table that was rewritten
# or attached in between would be taken for what it was.
_TABLES: Final = """
WITH RECURSIVE published AS (
  SELECT p.schemaname, p.tablename, p.rowfilter, p.attnames, pub.oid AS publication, c.*
  FROM pg_publication_tables p
  JOIN pg_publication pub USING (pubname)
  JOIN pg_class c ON c.relname = p.tablename
    AND c.relnamespace = (SELECT n.oid FROM pg_namespace n WHERE n.nspname = p.schemaname)
  WHERE p.pubname = %s AND p.schemaname = ANY (%s)
), tree(root, relid) AS (
  SELECT oid, oid FROM published
  UNION ALL
  SELECT tree.root, i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid
  JOIN pg_class l ON l.oid = i.inhrelid AND l.relispartition
), ancestry(leaf, relid) AS (
  SELECT oid, oid FROM published
  UNION ALL
  SELECT ancestry.leaf, i.inhparent FROM ancestry JOIN pg_inherits i ON i.inhrelid = ancestry.relid
  JOIN pg_class l ON l.oid = i.inhrelid AND l.relispartition
)
SELECT c.oid::bigint AS oid, c.schemaname AS schema, c.tablename AS name, c.rowfilter AS filter,
  c.relreplident AS identity,
  concat_ws('/', c.publication, (
    SELECT string_agg(r.oid::text, ',' ORDER BY r.oid) FROM pg_publication_rel r
    WHERE r.prpubid = c.publication
      AND r.prrelid IN (SELECT relid FROM ancestry WHERE leaf = c.oid)
  ), (
    SELECT string_agg(s.oid::text, ',' ORDER BY s.oid) FROM pg_publication_namespace s
    WHERE s.pnpubid = c.publication AND s.pnnspid = c.relnamespace
  )) AS membership,
  (SELECT max(attnum) FROM pg_attribute WHERE attrelid = c.oid) AS attributes,
  (
    SELECT coalesce(jsonb_agg(jsonb_build_array(a.attnum, a.attname, a.atttypid::bigint,
      a.atttypmod, a.attndims, EXISTS (
        -- Of a partitioned table it is the partitions that have the rows.
        SELECT FROM pg_attribute x WHERE x.attname = a.attname AND x.atthasmissing
          AND x.attrelid IN (SELECT relid FROM tree WHERE root = c.oid)
      ),
      has_column_privilege(c.oid, a.attnum, 'SELECT')) ORDER BY a.attnum), '[]')
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname = ANY (c.attnames)
      -- Before 18 the view lists generated columns, but they are never published.
      AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
  ) AS columns,
  (
    SELECT jsonb_agg(a.attname ORDER BY k.position)
    FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, position), pg_attribute a
    WHERE i.indrelid = c.oid AND k.position <= i.indnkeyatts
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
        ELSE i.indisprimary AND i.indimmediate END
      AND a.attrelid = c.oid AND a.attnum = k.attnum
  ) AS key,
  (
    SELECT jsonb_agg(jsonb_build_array(l.oid::bigint, n.nspname, l.relname, l.relfilenode::bigint,
      pg_relation_size(l.oid) / current_setting('block_size')::int, l.reltuples,
      has_any_column_privilege(l.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
      ORDER BY l.oid)
    FROM pg_class l JOIN pg_namespace n ON n.oid = l.relnamespace
    WHERE l.oid IN (SELECT relid FROM tree WHERE root = c.oid) AND l.relkind = 'r'
  ) AS parts
FROM published c
ORDER BY c.schemaname, c.tablename
"""


class TableColumn(NamedTuple):
    """A published column; `has_default` means rows older than the column have a value in it."""

    attnum: int
    name: str
    type_oid: int
    typmod: int
    dimensions: int
    has_default: bool
    readable: bool
    datatype: Datatype


class Part(NamedTuple):
    """What holds rows: the table itself, or one of its partitions.

    Attributes:
        relfilenode: Changes when the part is rewritten or truncated.
        blocks: Its size.
        rows: Estimate of the server, -1 if it has none.
    """

    oid: int
    schema: str
    name: str
    relfilenode: int
    blocks: int
    rows: float
    readable: bool


class Table(NamedTuple):
    """A published table.

    Attributes:
        stream: Name of its stream.
        filter: SQL of the publication's row filter.
        identity: `pg_class.relreplident`.
        membership: Identifies its place in the publication; another one means that changes in
            between may not have been published.
        attributes: Number of the newest column, published or not.
        key: Columns of the primary key or replica identity index, in its order.
    """

    stream: str
    oid: int
    schema: str
    name: str
    filter: str | None
    identity: str
    membership: str
    attributes: int
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def full_name(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"


class Publication(NamedTuple):
    """A publication's tables and the operations it leaves out."""

    tables: tuple[Table, ...]
    unpublished: tuple[str, ...]


def discover(
    connection: psycopg.Connection,
    types: TypeCatalog,
    publication: str,
    schemas: Sequence[str],
    stream_name: str,
) -> Publication:
    """Read what a publication holds in the given schemas.

    Raises:
        CaptureError: It does not exist or holds nothing there, a schema does not exist, or two
            tables would have one name.
    """
    found = connection.execute(_PUBLICATION, [publication]).fetchone()
    if found is None:
        raise CaptureError(
            f'publication "{publication}" does not exist: create it with '
            f'CREATE PUBLICATION "{publication}" FOR TABLE … or correct the setting publication'
        )
    _, *published = found
    operations = ("INSERT", "UPDATE", "DELETE", "TRUNCATE")
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    rows = cursor.execute(_TABLES, [publication, list(schemas)]).fetchall()
    types.load(column[2] for row in rows for column in row["columns"])
    tables = tuple(_table(row, types, stream_name) for row in rows)
    _check_names(connection, tables, publication, schemas)
    unpublished = (name for name, yes in zip(operations, published, strict=True) if not yes)
    return Publication(tables, tuple(unpublished))


def _table(row: dict[str, Any], types: TypeCatalog, stream_name: str) -> Table:
    columns = tuple(
        TableColumn._make([*column, types.datatype(*column[2:5])]) for column in row["columns"]
    )
    name = row["name"] if stream_name == "table" else f"{row['schema']}-{row['name']}"
    return Table(
        stream=name,
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        filter=row["filter"],
        identity=row["identity"],
        membership=row["membership"],
        attributes=row["attributes"] or 0,
        columns=columns,
        key=_published_key(row["key"], columns),
        parts=tuple(Part(*part) for part in row["parts"] or ()),
    )


def _published_key(key: list[str] | None, columns: Sequence[TableColumn]) -> tuple[str, ...]:
    """A key of which a column is not published names no row."""
    published = {column.name for column in columns}
    return tuple(key) if key and published.issuperset(key) else ()


def _check_names(
    connection: psycopg.Connection,
    tables: Sequence[Table],
    publication: str,
    schemas: Sequence[str],
) -> None:
    if not tables:
        query = "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)"
        exist = {name for (name,) in connection.execute(query, [list(schemas)])}
        for schema in schemas:
            if schema not in exist:
                raise CaptureError(
                    f'schema "{schema}" does not exist: correct the setting airbyte_config.schemas'
                )
        raise CaptureError(
            f'publication "{publication}" holds no table of schema {", ".join(schemas)}: add '
            f'tables with ALTER PUBLICATION "{publication}" ADD TABLE … or correct the setting '
            "airbyte_config.schemas"
        )
    by_stream: dict[str, Table] = {}
    for table in tables:
        if taken := METADATA.keys() & {column.name for column in table.columns}:
            raise CaptureError(
                f"table {table.full_name} has a column {min(taken)}, which records need for "
                "themselves: leave it out with a column list in the publication"
            )
        other = by_stream.setdefault(table.stream, table)
        if other is not table:
            raise CaptureError(
                f"tables {other.full_name} and {table.full_name} would both be stream "
                f'"{table.stream}": set stream_name to schema-table'
            )
