"""SQL that prepares a database for a pipeline, and SQL that takes everything away again."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from tap_postgres_cdc.commands.identifiers import identifier, identifiers, literal
from tap_postgres_cdc.commands.services import Service
from tap_postgres_cdc.commands.wording import listed
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import Settings

PASSWORD: Final = "'<password>'"  # noqa: S105 - it stands for one
OWNER: Final = "<owner of the tables>"


class Statement(NamedTuple):
    """One statement.

    Attributes:
        purpose: What it is for, in a few words.
        sql: Without semicolon; `PASSWORD` and `OWNER` stand for what is not known or not shown.
        by_role: Whether the pipeline's own role runs it, not an administrator.
    """

    purpose: str
    sql: str
    by_role: bool = False


class TableName(NamedTuple):
    """A table and its owner, where that is known."""

    schema: str
    name: str
    owner: str | None = None


class Wanted(NamedTuple):
    """What to publish: `tables` by name, with their partitions; `schemas` whole; or `all`."""

    kind: str
    tables: tuple[TableName, ...] = ()
    partitions: tuple[TableName, ...] = ()


class Existing(NamedTuple):
    """What is there already, as far as it is known.

    Attributes:
        role: Whether the role exists.
        replicates: Whether it may replicate.
        connects: Whether it may connect to the database.
        schemas: Those it may use.
        tables: Those it may read.
        readable_schemas: Schemas of which it may read every table.
        default_schemas: Those whose tables to come it may read, by owner.
        publication: Whether it exists; and what it holds:
        all_tables: … whether that is everything,
        published_schemas: … whole schemas,
        published_tables: … tables by name.
        slot: Whether it exists.
        owners: Owners of tables, by schema.
    """

    role: bool = False
    replicates: bool = False
    connects: bool = False
    schemas: Collection[str] = ()
    tables: Collection[tuple[str, str]] = ()
    readable_schemas: Collection[str] = ()
    default_schemas: Collection[tuple[str, str]] = ()
    publication: bool = False
    all_tables: bool = False
    published_schemas: Collection[str] = ()
    published_tables: Collection[tuple[str, str]] = ()
    slot: bool = False
    owners: Mapping[str, Sequence[str]] = {}


def setup(
    settings: Settings, service: Service, wanted: Wanted, existing: Existing | None
) -> list[Statement]:
    """What is missing for a pipeline: a role of the least rights, a publication and a slot.

    Args:
        settings: Names of everything.
        service: Who runs the server.
        wanted: What to publish.
        existing: What is there; None if that is not known, and then everything is made.
    """
    there = existing or Existing()
    return [
        *_role(settings, service, there),
        *_grants(settings, wanted, there, known=existing is not None),
        *_publication(settings, wanted, there),
        *_slot(settings, there),
    ]


def _role(settings: Settings, service: Service, there: Existing) -> list[Statement]:
    role = identifier(settings.username)
    grant = service.grant_replication(role)
    statements = []
    if not there.role:
        if not service.roles_by_sql:
            raise CaptureError(
                f"role {settings.username} does not exist, and on {service.label} one made by SQL "
                f"can't replicate: make it in {service.console}, then run this again"
            )
        attributes = "LOGIN" if service.replication_role else "LOGIN REPLICATION"
        sql = f"CREATE ROLE {role} {attributes} PASSWORD {PASSWORD}"
        statements.append(Statement("a role of its own", sql))
        if service.replication_role:
            statements.append(Statement("that may replicate", grant.sql[0]))
    elif not there.replicates and grant.sql:
        statements.append(Statement("the role may replicate", grant.sql[0]))
    return statements


def _grants(settings: Settings, wanted: Wanted, there: Existing, *, known: bool) -> list[Statement]:
    role, database = identifier(settings.username), identifier(settings.database)
    statements = []
    if not there.connects:
        sql = f"GRANT CONNECT ON DATABASE {database} TO {role}"
        statements.append(Statement("it may connect", sql))
    read = (*wanted.tables, *wanted.partitions)
    used = {table.schema for table in read} or set(settings.schemas)
    if schemas := sorted(used.difference(there.schemas)):
        sql = f"GRANT USAGE ON SCHEMA {identifiers(schemas)} TO {role}"
        statements.append(Statement("it may use the schemas", sql))
    unreadable = [table for table in read if table[:2] not in there.tables]
    if unreadable:
        names = identifiers(table[:2] for table in unreadable)
        sql = f"GRANT SELECT ON {names} TO {role}"
        statements.append(Statement("it may read the tables", sql))
    if wanted.kind != "tables":
        statements += _grants_on_schemas(settings, there, known=known)
    return statements


def _grants_on_schemas(settings: Settings, there: Existing, *, known: bool) -> list[Statement]:
    """Rights on whole schemas, and on tables that will be made in them."""
    role = identifier(settings.username)
    statements = []
    for schema in settings.schemas:
        if schema not in there.readable_schemas:
            sql = f"GRANT SELECT ON ALL TABLES IN SCHEMA {identifier(schema)} TO {role}"
            statements.append(Statement(f"it may read the tables of {schema}", sql))
        for owner in there.owners.get(schema, ()) if known else (OWNER,):
            if (schema, owner) in there.default_schemas:
                continue
            by = OWNER if owner == OWNER else identifier(owner)
            sql = (
                f"ALTER DEFAULT PRIVILEGES FOR ROLE {by} IN SCHEMA {identifier(schema)} "
                f"GRANT SELECT ON TABLES TO {role}"
            )
            statements.append(Statement("and those that are made later", sql))
    return statements


def _publication(settings: Settings, wanted: Wanted, there: Existing) -> list[Statement]:
    name = identifier(settings.publication)
    if there.all_tables:
        return []
    tables = [table[:2] for table in wanted.tables if table[:2] not in there.published_tables]
    schemas = [one for one in settings.schemas if one not in there.published_schemas]
    tables = [table for table in tables if table[0] not in there.published_schemas]
    what = {
        "all": "ALL TABLES",
        "schemas": f"TABLES IN SCHEMA {identifiers(schemas)}" if schemas else "",
        "tables": f"TABLE {identifiers(tables)}" if tables else "",
    }[wanted.kind]
    if not there.publication:
        sql = f"CREATE PUBLICATION {name} FOR {what} WITH (publish_via_partition_root = true)"
        return [Statement("what to capture", sql)]
    if wanted.kind == "all":
        raise CaptureError(
            f"publication {settings.publication} exists and is not for all tables, which can't be "
            f"changed: drop it with DROP PUBLICATION {name}, or leave out --all-tables"
        )
    if not what:
        return []
    return [Statement("what else to capture", f"ALTER PUBLICATION {name} ADD {what}")]


def _slot(settings: Settings, there: Existing) -> list[Statement]:
    if there.slot:
        return []
    sql = f"SELECT pg_create_logical_replication_slot({literal(settings.slot)}, 'pgoutput')"
    purpose = "from here on the server keeps its log for us, once transactions now running are over"
    return [Statement(purpose, sql, by_role=True)]


def as_script(settings: Settings, service: Service, statements: Sequence[Statement]) -> str:
    """The statements with comments, to be read and run by an administrator."""
    wal_level = service.set_parameter("wal_level", "logical", restart=True)
    lines = [
        f"-- For {service.administrator}, in database {settings.database}. Replace what is in <>.",
    ]
    how = f"{wal_level.sql[0]}; then {wal_level.do}" if wal_level.sql else wal_level.do
    lines.append(f"-- SHOW wal_level has to say logical before the last statement; if not: {how}.")
    for statement in statements:
        lines.append("")
        who = f", best as {settings.username}" if statement.by_role else ""
        lines += [f"-- {statement.purpose}{who}", f"{statement.sql};"]
    return "\n".join(lines)


class Leftovers(NamedTuple):
    """What of a pipeline is in a database.

    Attributes:
        slot: Whether its slot exists.
        reader: Process that reads the slot.
        publication: Whether its publication exists.
        role: Whether its role exists.
        grants: On what the role has rights in this database, for people.
        kept: Why the role has to stay, if it has to.
        owner: Whether that is because of what it is or owns, so that its rights stay as well.
    """

    slot: bool
    reader: int | None
    publication: bool
    role: bool
    grants: Sequence[str]
    kept: str | None
    owner: bool


def teardown(
    settings: Settings, leftovers: Leftovers | None, member: str = "", *, slot_by_role: bool = False
) -> list[Statement]:
    """What removes slot, publication, grants and role.

    Args:
        settings: Names of everything.
        leftovers: What is there; None if that is not known, and then everything is removed.
        member: Role that will run this, if it is no superuser: it has to be a member of the role
            to take its rights away.
        slot_by_role: Whether only the pipeline's own role may drop the slot.
    """
    there = leftovers or _EVERYTHING
    role = identifier(settings.username)
    statements = []
    if there.slot:
        sql = f"SELECT pg_drop_replication_slot({literal(settings.slot)})"
        purpose = "the slot, and with it the WAL that the server keeps for it"
        statements.append(Statement(purpose, sql, by_role=slot_by_role))
    if there.publication:
        sql = f"DROP PUBLICATION {identifier(settings.publication)}"
        statements.append(Statement("the publication; its tables stay as they are", sql))
    revoked = there.role and not there.owner and bool(there.grants or not there.kept)
    if revoked and member:
        sql = f"GRANT {role} TO {identifier(member)}"
        statements.append(Statement("so that the role's rights can be taken away", sql))
    if revoked:
        on = f" on {listed(there.grants)}" if there.grants else ""
        statements.append(Statement(f"the role's rights{on}", f"DROP OWNED BY {role}"))
    if there.role and not there.kept:
        statements.append(Statement("the role", f"DROP ROLE {role}"))
    return statements


_EVERYTHING: Final = Leftovers(
    slot=True, reader=None, publication=True, role=True, grants=(), kept=None, owner=False
)
