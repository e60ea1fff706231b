"""What a publication holds: its tables with their columns, keys and parts."""

from collections.abc import Iterable, Mapping, Sequence
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
# or attached in between would be taken for what it was. Each part is read once for all tables.
# Where something can go away and come back, the xmin of its row tells.
_TABLES: Final = """
WITH RECURSIVE publication AS (
  SELECT oid, concat_ws('.', oid, xmin) AS identity FROM pg_publication WHERE pubname = %s
), published AS (
  SELECT p.schemaname, p.tablename, p.rowfilter, p.attnames, c.*
  FROM pg_publication_tables p JOIN pg_namespace n ON n.nspname = p.schemaname
  JOIN pg_class c ON c.relname = p.tablename AND c.relnamespace = n.oid
  WHERE p.pubname = %s AND p.schemaname = ANY (%s)
), tree(root, relid, link) AS (
  SELECT oid, oid, '' FROM published
  UNION ALL
  SELECT tree.root, i.inhrelid, concat_ws('.', tree.link, i.inhrelid, i.xmin)
  FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid AND NOT i.inhdetachpending
  JOIN pg_class l ON l.oid = i.inhrelid AND l.relispartition
), ancestry(leaf, relid, link) AS (
  SELECT oid, oid, '' FROM published
  UNION ALL
  SELECT ancestry.leaf, i.inhparent, i.xmin::text
  FROM ancestry JOIN pg_inherits i ON i.inhrelid = ancestry.relid
  JOIN pg_class l ON l.oid = i.inhrelid AND l.relispartition
), membership AS (
  -- Why a table is published: by its name, by its schema, or by those of a table it is part of.
  SELECT leaf AS oid, string_agg(
    concat_ws('.', relid, link, r.oid, s.oid, CASE WHEN s.oid IS NOT NULL THEN d.xmin END), ','
    ORDER BY relid
  ) AS reasons, bool_or(r.oid IS NOT NULL AND relid = leaf) AS is_named
  FROM ancestry JOIN pg_class c ON c.oid = relid CROSS JOIN publication p
  LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = relid
  LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = c.relnamespace
  LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = relid
    AND d.objsubid = 0 AND d.refclassid = 'pg_namespace'::regclass
  GROUP BY leaf
), filled AS (
  -- Columns with a default that older rows have without it being in them; of a partitioned table
  -- it is the partitions that have the rows.
  SELECT DISTINCT tree.root AS oid, x.attname
  FROM tree JOIN pg_attribute x ON x.attrelid = tree.relid AND x.atthasmissing
), attributes AS (
  SELECT c.oid, max(a.attnum) AS newest,
    string_agg(concat_ws('.', a.attnum, a.xmin), ',' ORDER BY a.attnum) AS changes,
    jsonb_agg(jsonb_build_array(a.attnum, a.attname, a.atttypid::bigint, a.atttypmod, a.attndims,
      f.oid IS NOT NULL, has_column_privilege(c.oid, a.attnum, 'SELECT')) ORDER BY a.attnum)
    FILTER (WHERE NOT a.attisdropped AND a.attname = ANY (c.attnames)
      -- Before 18 the view lists generated columns, but they are never published.
      AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
    ) AS columns
  FROM published c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN filled f ON f.oid = c.oid AND f.attname = a.attname
  GROUP BY c.oid
), keys AS (
  -- REINDEX CONCURRENTLY makes another index, and leaves the constraint.
  SELECT c.oid, coalesce(k.oid, i.indexrelid)::bigint AS identity,
    jsonb_agg(a.attname ORDER BY p.position) AS names
  FROM published c JOIN pg_index i ON i.indrelid = c.oid
    AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
      ELSE i.indisprimary AND i.indimmediate END
  LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = c.oid
    AND k.contype IN ('p', 'u')
  CROSS JOIN unnest(i.indkey) WITH ORDINALITY p(attnum, position)
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.attnum
  WHERE p.position <= i.indnkeyatts
  GROUP BY c.oid, k.oid, i.indexrelid
), parts AS (
  SELECT tree.root AS oid, jsonb_agg(jsonb_build_array(l.oid::bigint, n.nspname, l.relname,
    l.relfilenode::bigint, l.reltoastrelid::bigint, tree.link, l.xmin::text::bigint,
    -- The transaction that made it, if it made it as a partition.
    CASE t.xmin WHEN i.xmin THEN i.xmin::text END,
    l.reltuples, has_any_column_privilege(l.oid, 'SELECT')
      AND has_schema_privilege(n.oid, 'USAGE')) ORDER BY l.oid) AS parts
  FROM tree JOIN pg_class l ON l.oid = tree.relid AND l.relkind = 'r'
  JOIN pg_namespace n ON n.oid = l.relnamespace
  LEFT JOIN pg_inherits i ON i.inhrelid = l.oid AND tree.root <> l.oid
  LEFT JOIN pg_type t ON t.oid = l.reltype
  GROUP BY tree.root
)
SELECT c.oid::bigint AS oid, c.schemaname AS schema, c.tablename AS name, c.rowfilter AS filter,
  c.relreplident AS identity, concat_ws(' ', publication.identity, m.reasons) AS membership,
  m.is_named, k.identity AS key_identity, k.names AS key, a.newest AS attributes,
  a.changes AS attribute_changes, a.columns, p.parts
FROM published c CROSS JOIN publication
LEFT JOIN membership m ON m.oid = c.oid
LEFT JOIN attributes a ON a.oid = c.oid
LEFT JOIN keys k ON k.oid = c.oid
LEFT JOIN parts p ON p.oid = c.oid
ORDER BY c.schemaname, c.tablename
"""
_BLOCKS: Final = """
SELECT oid::bigint, pg_relation_size(oid) / current_setting('block_size')::int
FROM unnest(%s::oid[]) oid
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
        toast: oid of its TOAST table, 0 for none. An ALTER TABLE that rewrites makes another,
            VACUUM FULL, CLUSTER and TRUNCATE do not.
        link: How it is attached, empty for the table itself: another one after it was detached.
        changed_by: 32-bit id of the transaction that changed its `pg_class` row last.
        made_by: 32-bit id of the transaction that made it, as a partition, None if it was attached.
        rows: Estimate of the server, -1 if it has none.
        blocks: Its size, see `read_blocks`.
    """

    oid: int
    schema: str
    name: str
    relfilenode: int
    toast: int
    link: str
    changed_by: int
    made_by: str | None
    rows: float
    readable: bool
    blocks: int = 0


class Table(NamedTuple):
    """A published table.

    Attributes:
        stream: Name of its stream.
        filter: SQL of the publication's row filter.
        identity: `pg_class.relreplident`.
        membership: Identifies its place in the publication; another one means that changes in
            between may not have been published.
        is_named: Whether the publication names it, so that it can't become UNLOGGED.
        attributes: Number of the newest column, published or not.
        attribute_changes: Another one after a column was altered, in whatever way.
        columns: Those that are published.
        key: Columns of the primary key or replica identity index, in its order.
        key_identity: oid of its constraint or index: another one after it was made anew.
        parts: Where its rows are.
    """

    stream: str
    oid: int
    schema: str
    name: str
    filter: str | None
    identity: str
    membership: str
    is_named: bool
    attributes: int
    attribute_changes: str
    columns: tuple[TableColumn, ...]
    key: tuple[str, ...]
    key_identity: int
    parts: tuple[Part, ...]

    @property
    def full_name(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"

    def sized(self, blocks: Mapping[int, int]) -> "Table":
        """The table with sizes as `read_blocks` gives them, 0 for parts that it has not."""
        parts = (part._replace(blocks=blocks.get(part.oid, 0)) for part in self.parts)
        return self._replace(parts=tuple(parts))


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
    cursor.execute(_TABLES, [publication, publication, list(schemas)])
    # Row by row: all at once, they would take more memory than what is made of them.
    tables = tuple(_table(row, types, stream_name) for row in cursor)
    _check_names(connection, tables, publication, schemas)
    unpublished = (name for name, yes in zip(operations, published, strict=True) if not yes)
    return Publication(tables, tuple(unpublished))


def read_blocks(connection: psycopg.Connection, tables: Iterable[Table]) -> dict[int, int]:
    """Sizes of the parts of tables, by oid.

    Apart from the rest because it waits for whoever has locked a table.
    """
    parts = [part.oid for table in tables for part in table.parts]
    return {oid: blocks or 0 for oid, blocks in connection.execute(_BLOCKS, [parts])}


def _table(row: dict[str, Any], types: TypeCatalog, stream_name: str) -> Table:
    types.load(column[2] for column in row["columns"] or ())
    columns = tuple(
        TableColumn._make([*column, types.datatype(*column[2:5])])
        for column in row["columns"] or ()
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
        is_named=row["is_named"],
        attributes=row["attributes"] or 0,
        attribute_changes=row["attribute_changes"] or "",
        columns=columns,
        key=_published_key(row["key"], columns),
        key_identity=row["key_identity"] or 0,
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
