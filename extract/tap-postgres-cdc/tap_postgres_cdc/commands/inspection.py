"""What the server says of itself, of the role, the slot, the publication and the tables.

Everything is read from catalogs that any role can read; nothing is changed.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.rows import class_row

from tap_postgres_cdc.commands.services import SERVICES
from tap_postgres_cdc.sessions import TIMEOUTS

_SETTINGS: Final = (
    "default_transaction_read_only",
    "idle_replication_slot_timeout",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "max_wal_senders",
    "server_encoding",
    "ssl",
    "wal_level",
)

_SERVER: Final = """
SELECT current_setting('server_version_num')::int AS version,
  split_part(current_setting('server_version'), ' ', 1) AS version_text,
  pg_is_in_recovery() AS is_standby,
  coalesce(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', true) AS is_local,
  (SELECT count(*) FROM pg_stat_replication) AS wal_senders,
  -- What our own session set is not what holds for others.
  (SELECT jsonb_object_agg(name, jsonb_build_array(reset_val, coalesce((
      SELECT concat_ws(' ', CASE WHEN setdatabase <> 0 THEN 'database' END,
        CASE WHEN setrole <> 0 THEN 'user' END)
      FROM pg_db_role_setting WHERE setconfig::text[] && ARRAY[name || '=' || reset_val]
        AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
        AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      ORDER BY setrole = 0, setdatabase = 0 LIMIT 1), source), pending_restart))
    FROM pg_settings WHERE name = ANY (%s)) AS settings,
  (SELECT coalesce(jsonb_object_agg(name, reset_val || unit), '{}') FROM pg_settings
    WHERE name = ANY (%s) AND reset_val <> '0') AS timeouts,
  (SELECT coalesce(jsonb_agg(rolname), '[]') FROM pg_roles WHERE rolname = ANY (%s)) AS markers,
  (SELECT coalesce(jsonb_agg(jsonb_build_array(gid, owner, database,
      extract(epoch FROM clock_timestamp() - prepared)) ORDER BY prepared), '[]')
    FROM pg_prepared_xacts) AS prepared,
  (SELECT coalesce(jsonb_object_agg(slot_name, active), '{}') FROM pg_replication_slots) AS slots
"""

_ROLE: Final = """
SELECT rolname AS name, rolsuper AS is_superuser, rolreplication AS replicates,
  rolbypassrls OR rolsuper AS bypasses_rls, rolconnlimit AS connection_limit,
  CASE WHEN isfinite(rolvaliduntil) THEN rolvaliduntil END AS valid_until,
  has_database_privilege(current_database(), 'CONNECT') AS connects
FROM pg_roles WHERE rolname = current_user
"""

_SCHEMAS: Final = """
SELECT wanted AS name, n.oid IS NOT NULL AS exists, pg_get_userbyid(n.nspowner) AS owner,
  coalesce(has_schema_privilege(n.oid, 'USAGE'), false) AS usable
FROM unnest(%s::text[]) wanted LEFT JOIN pg_namespace n ON n.nspname = wanted
"""

# As JSON, since versions have different columns.
_SLOT: Final = """
SELECT to_jsonb(s) - '{catalog_xmin,datoid,xmin}'::text[] || jsonb_build_object(
  'here', current_database(),
  'retained', CASE WHEN NOT pg_is_in_recovery()
    THEN pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn) END,
  'reader', (SELECT jsonb_build_object('user', a.usename, 'application', a.application_name,
    'since', a.backend_start, 'own', a.usename = current_user)
    FROM pg_stat_activity a WHERE a.pid = s.active_pid))
FROM pg_replication_slots s WHERE slot_name = %s
"""

_PUBLICATION: Final = """
SELECT pg_get_userbyid(pubowner) AS owner, puballtables AS all_tables, pubinsert AS inserts,
  pubupdate AS updates, pubdelete AS deletes, pubtruncate AS truncates, pubviaroot AS via_root,
  to_jsonb(p) ->> 'pubgencols' AS generated_columns,
  ARRAY(SELECT n.nspname::text FROM pg_publication_namespace s JOIN pg_namespace n
    ON n.oid = s.pnnspid WHERE s.pnpubid = p.oid ORDER BY 1) AS schemas
FROM pg_publication p WHERE pubname = %s
"""

_RELATIONS: Final = """
SELECT c.oid::bigint, n.nspname AS schema, c.relname AS name, pg_get_userbyid(c.relowner) AS owner,
  c.relkind AS kind, c.relpersistence AS persistence, c.relispartition AS is_partition,
  pub.tablename IS NOT NULL AS is_published,
  (n.nspname = ANY (%(covered)s) OR %(all)s) AS is_covered,
  row_security_active(c.oid) AS has_row_security,
  coalesce(pr.prattrs IS NOT NULL, false) AS has_column_list,
  pg_get_expr(pr.prqual, c.oid) AS row_filter,
  (SELECT ARRAY(SELECT DISTINCT f.attname::text FROM regexp_matches(pr.prqual::text,
    ':varattno (\\d+)', 'g') m JOIN pg_attribute f ON f.attrelid = c.oid AND f.attnum = m[1]::int
  )) AS filter_columns,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
    AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) AS columns,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
    AND NOT a.attisdropped AND a.attgenerated <> '' ORDER BY a.attnum) AS generated_columns,
  -- Before 18 the view lists generated columns, but they are never published.
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid
    AND a.attname = ANY (pub.attnames) AND (a.attgenerated = ''
      OR current_setting('server_version_num')::int >= 180000)) AS published_columns,
  c.relreplident AS identity,
  ARRAY(SELECT a.attname::text FROM pg_index i
    CROSS JOIN unnest(i.indkey::int[]) WITH ORDINALITY k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
    WHERE i.indrelid = c.oid AND k.position <= i.indnkeyatts AND i.indisvalid
      AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
        ELSE i.indisprimary AND i.indimmediate END
    ORDER BY k.position) AS key,
  (SELECT o.conname::text FROM pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'p'
    AND o.condeferrable) AS deferrable_key,
  ARRAY(SELECT a.attname::text FROM pg_constraint o
    CROSS JOIN unnest(o.conkey) WITH ORDINALITY k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
    WHERE o.conrelid = c.oid AND o.contype = 'p' ORDER BY k.position) AS primary_key,
  (SELECT x.relname::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid
      AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attnotnull
          AND a.attnum = ANY ((i.indkey::int[])[0:i.indnkeyatts - 1]))
    ORDER BY i.indnkeyatts, x.relname LIMIT 1) AS unique_index,
  ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE parts.has_large AND a.attrelid = c.oid
    AND a.attnum > 0 AND NOT a.attisdropped AND a.attlen = -1 AND a.attstorage IN ('x', 'e')
    ORDER BY a.attnum) AS large_columns,
  coalesce(parts.size, 0) AS size, coalesce(parts.foreign_parts, '{}') AS foreign_parts
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_publication_tables pub
  ON pub.pubname = %(publication)s AND pub.schemaname = n.nspname AND pub.tablename = c.relname
LEFT JOIN pg_publication_rel pr ON pr.prrelid = c.oid
  AND pr.prpubid = (SELECT oid FROM pg_publication WHERE pubname = %(publication)s)
CROSS JOIN LATERAL (
  SELECT sum(pg_table_size(l.oid))::bigint AS size,
    bool_or(l.reltoastrelid <> 0 AND pg_relation_size(l.reltoastrelid) > 0) AS has_large,
    array_agg(l.oid::regclass::text) FILTER (WHERE c.relkind = 'p' AND l.relkind = 'f')
      AS foreign_parts
  FROM (SELECT c.oid WHERE c.relkind <> 'p' UNION ALL
    SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p' AND t.isleaf) leaf
  JOIN pg_class l ON l.oid = leaf.oid
) parts
WHERE n.nspname = ANY (%(schemas)s) AND c.relkind IN ('r', 'p', 'f')
ORDER BY n.nspname, c.relname
"""


class Setting(NamedTuple):
    """A parameter in its base unit; `pending` is whether a new value waits for a restart."""

    value: str
    source: str
    pending: bool


class Prepared(NamedTuple):
    """A transaction that was prepared for a commit in two phases, of any database."""

    gid: str
    owner: str
    database: str
    seconds: float


class Server(NamedTuple):
    """The server as a whole.

    Attributes:
        timeouts: Those that a session has without our doing, and that would end a run.
        prepared: Prepared transactions, the oldest first.
        slots: All by name, with whether they are being read.
    """

    version: int
    version_text: str
    is_standby: bool
    is_local: bool
    wal_senders: int
    settings: Mapping[str, Setting]
    timeouts: Mapping[str, str]
    prepared: Sequence[Prepared]
    markers: frozenset[str]
    slots: Mapping[str, bool]


class Role(NamedTuple):
    """The role of the settings."""

    name: str
    is_superuser: bool
    replicates: bool
    bypasses_rls: bool
    connection_limit: int
    valid_until: datetime | None
    connects: bool


class Schema(NamedTuple):
    """A schema of the settings."""

    name: str
    exists: bool
    owner: str | None
    usable: bool


class PublicationFacts(NamedTuple):
    """The publication as a whole; `generated_columns` is None before version 18."""

    owner: str
    all_tables: bool
    inserts: bool
    updates: bool
    deletes: bool
    truncates: bool
    via_root: bool
    generated_columns: str | None
    schemas: list[str]


class Relation(NamedTuple):
    """A table of the schemas of the settings, whether it is published or not.

    Attributes:
        kind: `pg_class.relkind`: r, p or f.
        persistence: `pg_class.relpersistence`.
        is_covered: Whether the publication is for all tables, or for its schema.
        filter_columns: Those that the row filter reads.
        columns: All but generated ones.
        key: Of the primary key or the replica identity index.
        deferrable_key: Name of the primary key, if it is deferrable: it identifies no row.
        unique_index: One that could be the replica identity.
        large_columns: Those whose values may be stored apart, if any is.
        size: Bytes, without indexes.
    """

    oid: int
    schema: str
    name: str
    owner: str
    kind: str
    persistence: str
    is_partition: bool
    is_published: bool
    is_covered: bool
    has_row_security: bool
    has_column_list: bool
    row_filter: str | None
    filter_columns: list[str]
    columns: list[str]
    generated_columns: list[str]
    published_columns: list[str]
    identity: str
    key: list[str]
    deferrable_key: str | None
    primary_key: list[str]
    unique_index: str | None
    large_columns: list[str]
    size: int
    foreign_parts: list[str]

    @property
    def full_name(self) -> str:
        """Schema and name, for people."""
        return f"{self.schema}.{self.name}"


def read_server(connection: psycopg.Connection) -> Server:
    """Read what holds for the whole server."""
    names = [service.marker for service in SERVICES.values() if service.marker]
    cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
    row = cursor.execute(_SERVER, [list(_SETTINGS), list(TIMEOUTS), names]).fetchone() or {}
    settings = {name: Setting(*setting) for name, setting in row.pop("settings").items()}
    markers = frozenset(row.pop("markers"))
    prepared = [Prepared(*one) for one in row.pop("prepared")]
    return Server(**row, settings=settings, markers=markers, prepared=prepared)


def read_role(connection: psycopg.Connection) -> Role:
    """Read the attributes of the connection's role."""
    role = connection.cursor(row_factory=class_row(Role)).execute(_ROLE).fetchone()
    assert role is not None  # noqa: S101 - it is the one that asks
    return role


def read_schemas(connection: psycopg.Connection, names: Sequence[str]) -> list[Schema]:
    """Read whether schemas exist and can be used, in the order of `names`."""
    cursor = connection.cursor(row_factory=class_row(Schema))
    return cursor.execute(_SCHEMAS, [list(names)]).fetchall()


def read_slot(connection: psycopg.Connection, name: str) -> dict[str, Any] | None:
    """Read a row of `pg_replication_slots`, as JSON, with what else is known of the slot.

    Beside the columns of the view there are `here`, the connection's database; `retained`, bytes of
    WAL; and `reader`, the session that reads it: `user`, `application`, `since`, `own`.
    """
    row = connection.execute(_SLOT, [name]).fetchone()
    return row[0] if row else None


def read_publication(connection: psycopg.Connection, name: str) -> PublicationFacts | None:
    """Read a publication; None if there is none of that name."""
    cursor = connection.cursor(row_factory=class_row(PublicationFacts))
    return cursor.execute(_PUBLICATION, [name]).fetchone()


def read_relations(
    connection: psycopg.Connection,
    name: str,
    publication: PublicationFacts | None,
    schemas: Sequence[str],
) -> list[Relation]:
    """Read the tables of schemas, and what the publication of that name has of them."""
    parameters = {
        "publication": name,
        "schemas": list(schemas),
        "covered": publication.schemas if publication else [],
        "all": bool(publication and publication.all_tables),
    }
    cursor = connection.cursor(row_factory=class_row(Relation))
    return cursor.execute(_RELATIONS, parameters).fetchall()
