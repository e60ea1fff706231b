"""The administrator's connection: what it finds in a database, and running statements on it."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from tap_postgres_cdc.commands.identifiers import literal
from tap_postgres_cdc.commands.services import SERVICES, Service, detect
from tap_postgres_cdc.commands.statements import (
    PASSWORD,
    Existing,
    Leftovers,
    Statement,
    TableName,
    Wanted,
)
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError, explain
from tap_postgres_cdc.sessions import Session, one_row, open_session
from tap_postgres_cdc.settings import Settings

ADMIN_URL: Final = "TAP_POSTGRES_CDC_ADMIN_URL"

_EXISTING: Final = """
WITH role AS (SELECT oid, rolreplication OR rolsuper AS replicates FROM pg_roles
  WHERE rolname = %(role)s),
publication AS (SELECT * FROM pg_publication WHERE pubname = %(publication)s),
tables AS (SELECT c.oid, n.nspname AS schema, c.relname AS name,
    pg_get_userbyid(c.relowner)::text AS owner
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = ANY (%(schemas)s) AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p')
SELECT EXISTS (SELECT FROM role) AS role,
  coalesce((SELECT replicates FROM role), false) OR EXISTS (SELECT FROM role, pg_roles g
    WHERE g.rolname = %(group)s AND pg_has_role(role.oid, g.oid, 'MEMBER')) AS replicates,
  coalesce((SELECT has_database_privilege(oid, current_database(), 'CONNECT') FROM role), false)
    AS connects,
  ARRAY(SELECT nspname::text FROM role, pg_namespace n WHERE nspname = ANY (%(schemas)s)
    AND has_schema_privilege(role.oid, n.oid, 'USAGE')) AS schemas,
  ARRAY(SELECT jsonb_build_array(schema, name) FROM role, tables
    WHERE has_table_privilege(role.oid, tables.oid, 'SELECT')) AS tables,
  ARRAY(SELECT nspname::text FROM role, pg_namespace n WHERE nspname = ANY (%(schemas)s)
    AND NOT EXISTS (SELECT FROM tables WHERE schema = nspname
      AND NOT has_table_privilege(role.oid, tables.oid, 'SELECT'))) AS readable_schemas,
  ARRAY(SELECT jsonb_build_array(n.nspname, pg_get_userbyid(d.defaclrole))
    FROM role, pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace
    WHERE d.defaclobjtype = 'r' AND EXISTS (
      SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = role.oid
        AND a.privilege_type = 'SELECT')) AS default_schemas,
  EXISTS (SELECT FROM publication) AS publication,
  coalesce((SELECT puballtables FROM publication), false) AS all_tables,
  ARRAY(SELECT n.nspname::text FROM publication p JOIN pg_publication_namespace s
    ON s.pnpubid = p.oid JOIN pg_namespace n ON n.oid = s.pnnspid) AS published_schemas,
  ARRAY(SELECT jsonb_build_array(n.nspname, c.relname) FROM publication p
    JOIN pg_publication_rel r ON r.prpubid = p.oid JOIN pg_class c ON c.oid = r.prrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace) AS published_tables,
  EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %(slot)s) AS slot,
  (SELECT coalesce(jsonb_object_agg(schema, owners), '{}') FROM (SELECT schema,
    jsonb_agg(DISTINCT owner) AS owners FROM tables GROUP BY schema) o) AS owners
"""

_LEFTOVERS: Final = """
WITH role AS (SELECT oid, rolname, rolsuper FROM pg_roles WHERE rolname = %(role)s),
slot AS (SELECT * FROM pg_replication_slots WHERE slot_name = %(slot)s)
SELECT EXISTS (SELECT FROM slot) AS slot, (SELECT active_pid FROM slot) AS reader,
  EXISTS (SELECT FROM pg_publication WHERE pubname = %(publication)s) AS publication,
  EXISTS (SELECT FROM role) AS role,
  ARRAY(SELECT pg_describe_object(d.classid, d.objid, d.objsubid) FROM role, pg_shdepend d
    WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = role.oid AND d.deptype = 'a'
      AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    ORDER BY 1) AS grants,
  CASE
    WHEN is_own THEN 'it is the administrator''s own'
    WHEN is_superuser THEN 'it is a superuser'
    WHEN is_owner THEN 'it owns objects'
    WHEN is_elsewhere THEN 'it has rights in other databases'
  END AS kept,
  coalesce(is_own OR is_superuser OR is_owner, false) AS owner
FROM (SELECT) one LEFT JOIN (
  SELECT role.rolname = current_user AS is_own, role.rolsuper AS is_superuser,
    coalesce(bool_or(d.deptype = 'o' AND NOT (d.classid = 'pg_publication'::regclass AND d.objid = (
      SELECT oid FROM pg_publication WHERE pubname = %(publication)s))), false) AS is_owner,
    coalesce(bool_or(d.dbid NOT IN (0, (SELECT oid FROM pg_database
      WHERE datname = current_database()))), false) AS is_elsewhere
  FROM role LEFT JOIN pg_shdepend d
    ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = role.oid
  GROUP BY role.rolname, role.rolsuper
) kept ON true
"""

_TABLE: Final = """
SELECT c.oid, n.nspname, c.relname, pg_get_userbyid(c.relowner)::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""

_PARTS: Final = """
SELECT n.nspname, c.relname, pg_get_userbyid(c.relowner)::text
FROM pg_partition_tree(%s) p JOIN pg_class c ON c.oid = p.relid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.isleaf AND p.level > 0 AND c.relkind = 'r'
"""


class Administrator:
    """A connection that may create roles and publications."""

    def __init__(self, connection: psycopg.Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self.name, self.is_superuser, self.replicates, self.wal_level = one_row(
            connection,
            "SELECT rolname, rolsuper, rolsuper OR rolreplication, current_setting('wal_level')"
            " FROM pg_roles WHERE rolname = current_user",
        )

    def service(self) -> Service:
        """Find out who runs the server."""
        names = [service.marker for service in SERVICES.values() if service.marker]
        (found,) = one_row(
            self._connection,
            "SELECT coalesce(array_agg(rolname::text), '{}') FROM pg_roles WHERE rolname = ANY(%s)",
            [names],
        )
        return detect(self._settings.host, found)

    def find_tables(self, wanted: Wanted) -> Wanted:
        """Look tables up, and their partitions, since these are what the first copy reads.

        Raises:
            CaptureError: One does not exist.
        """
        tables, parts = [], []
        for table in wanted.tables:
            row = self._connection.execute(_TABLE, table[:2]).fetchone()
            if row is None:
                raise CaptureError(f"table {table.schema}.{table.name} does not exist")
            tables.append(TableName(*row[1:]))
            parts += [TableName(*part) for part in self._connection.execute(_PARTS, [row[0]])]
        return Wanted(wanted.kind, tuple(tables), tuple(parts))

    def existing(self, service: Service, schemas: Sequence[str]) -> Existing:
        """Read what is there already of what `setup` makes."""
        parameters = {
            "role": self._settings.username,
            "publication": self._settings.publication,
            "slot": self._settings.slot,
            "schemas": list(schemas),
            "group": service.replication_role,
        }
        cursor = self._connection.cursor(row_factory=psycopg.rows.dict_row)
        row = cursor.execute(_EXISTING, parameters).fetchone() or {}
        for name in ("tables", "default_schemas", "published_tables"):
            row[name] = {tuple(pair) for pair in row[name]}
        # Of an empty schema nobody can know who will make its tables.
        row["owners"] = {schema: [self.name] for schema in schemas} | row["owners"]
        return Existing(**row)

    def leftovers(self) -> Leftovers:
        """Read what is there of what `teardown` removes."""
        parameters = {
            "role": self._settings.username,
            "publication": self._settings.publication,
            "slot": self._settings.slot,
        }
        cursor = self._connection.cursor(row_factory=class_row(Leftovers))
        row = cursor.execute(_LEFTOVERS, parameters).fetchone()
        assert row is not None  # noqa: S101 - it has no FROM
        return row

    def run(self, statement: Statement, service: Service) -> None:
        """Run a statement, with the password of the settings where it needs one.

        Raises:
            CaptureError: The server refused.
        """
        query = statement.sql
        if PASSWORD in query:
            query = query.replace(PASSWORD, self._secret(service))
        try:
            self._connection.execute(query.encode())
        except psycopg.Error as error:
            # The rest of the error may quote the statement, and so the password.
            said = error.diag.message_primary or type(error).__name__
            raise CaptureError(f"PostgreSQL refused {statement.sql}: {said}") from None

    def _secret(self, service: Service) -> str:
        """The password as SQL; hashed, so that neither the log nor a trace has it as it is."""
        settings = self._settings
        if not settings.password:
            raise CaptureError(
                "setting airbyte_config.password is missing: the role gets it as its password"
            )
        if not service.hashes:
            return literal(settings.password)
        hashed = self._connection.pgconn.encrypt_password(
            settings.password.encode(), settings.username.encode(), b"scram-sha-256"
        )
        return literal(hashed.decode())


@contextmanager
def administrator(settings: Settings, connector: Connector) -> Iterator[Administrator | None]:
    """Connect as `TAP_POSTGRES_CDC_ADMIN_URL` says; gives None if it is not set.

    What the URL leaves out, such as host and database, is as in the settings; user and password
    are not.

    Raises:
        CaptureError: The URL is malformed, or it can't be connected to.
    """
    url = os.environ.get(ADMIN_URL)
    if not url:
        yield None
        return
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {}  # what libpq says of it may quote the password
    if not given.get("user"):
        raise CaptureError(
            f"{ADMIN_URL} does not name a user: it has to be like postgresql://<user>:<password>@/"
        )
    if given.setdefault("dbname", settings.database) != settings.database:
        raise CaptureError(
            f"{ADMIN_URL} is for database {given['dbname']}, airbyte_config.database is "
            f"{settings.database}: make them the same"
        )
    own: dict[str, Any] = {**connector.parameters, "user": None, "password": None}
    if "host" in given or "port" in given:
        # Another way than that of the settings, so not through their tunnel.
        own |= {"hostaddr": None, "port": settings.port}
    parameters = {**own, **given}
    advice: dict[str, object] = {
        "host": given.get("host", settings.host),
        "port": given.get("port", settings.port),
        "username": parameters["user"],
    }
    try:
        with closing(open_session(parameters)) as connection:
            _be_patient(connection)
            yield Administrator(connection, settings)
    except psycopg.Error as error:
        raise CaptureError(f"{ADMIN_URL}: {explain(error, **advice).message}") from error


def run_as_role(connector: Connector, statement: Statement) -> None:
    """Run a statement as the pipeline's own role.

    Raises:
        CaptureError: The role can't connect, or the server refused.
    """
    with connector.errors(), closing(connector.connect()) as connection:
        _be_patient(connection)
        # Making a slot waits for transactions that are running; should we be killed meanwhile, the
        # server is not to make it for nobody.
        connection.execute("SET client_connection_check_interval = '2s'")
        connection.execute(statement.sql.encode())


def _be_patient(session: Session) -> None:
    """Wait for locks: whoever changes a database by hand sees that, and can end it."""
    session.silence_seconds = math.inf
    session.execute("SET lock_timeout = 0")
