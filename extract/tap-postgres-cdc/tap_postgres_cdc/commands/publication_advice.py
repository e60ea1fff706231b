"""What is right or wrong with a publication and what it covers. Nothing here asks the server."""

from collections.abc import Mapping, Sequence

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier, identifiers
from tap_postgres_cdc.commands.inspection import PublicationFacts, Relation, Role, Schema
from tap_postgres_cdc.commands.sampling import PIPE_ROWS, Sample
from tap_postgres_cdc.commands.wording import about_rows, counted, listed
from tap_postgres_cdc.discovery import Table
from tap_postgres_cdc.progress import data_size, duration


def check_publication(
    name: str,
    publication: PublicationFacts | None,
    relations: Sequence[Relation],
    schemas: Sequence[Schema],
) -> list[Finding]:
    """The publication exists, holds tables, and publishes every operation."""
    missing = [schema.name for schema in schemas if not schema.exists]
    findings = [
        Finding(
            "schema",
            Status.ERROR,
            f"schema {schema} does not exist",
            Fix("you", do="correct the setting airbyte_config.schemas"),
            subject=schema,
        )
        for schema in missing
    ]
    tables = [relation for relation in relations if relation.is_published]
    if publication is None:
        wanted = [relation for relation in relations if _can_be_published(relation)]
        findings.append(_missing_publication(name, wanted))
    elif not tables:
        wanted = [relation for relation in relations if _can_be_published(relation)]
        names = ", ".join(schema.name for schema in schemas)
        found = f"publication {name} holds no table of schema {names}"
        findings.append(
            Finding("publication", Status.ERROR, found, _add_tables(name, publication, wanted))
        )
    else:
        found = f"publication {name} holds {counted(len(tables), 'table')}"
        findings.append(Finding("publication", Status.OK, found))
    if publication:
        findings.append(_check_operations(name, publication))
    return findings


def check_privileges(
    role: Role, schemas: Sequence[Schema], relations: Sequence[Relation], tables: Sequence[Table]
) -> list[Finding]:
    """The role can read what the first copy reads."""
    findings = []
    name = identifier(role.name)
    for schema in (schema for schema in schemas if schema.exists):
        if schema.usable:
            found = f"role {role.name} may use schema {schema.name}"
            findings.append(Finding("usage", Status.OK, found, subject=schema.name))
        else:
            fix = Fix(
                f"{schema.owner}, the schema's owner,",
                (f"GRANT USAGE ON SCHEMA {identifier(schema.name)} TO {name}",),
            )
            found = f"role {role.name} may not use schema {schema.name}"
            findings.append(Finding("usage", Status.ERROR, found, fix, subject=schema.name))
    owners = {relation.oid: relation.owner for relation in relations}
    unreadable: dict[str, list[tuple[str, str]]] = {}
    for table in tables:
        parts = [part for part in table.parts if not part.readable]
        if not parts and not all(column.readable for column in table.columns):
            parts = list(table.parts)
        for part in parts:
            owner = owners.get(part.oid) or owners.get(table.oid) or "its owner"
            unreadable.setdefault(owner, []).append((part.schema, part.name))
    for owner, names in unreadable.items():
        fix = Fix(
            f"{owner}, the owner,", (f"GRANT SELECT ON {identifiers(sorted(names))} TO {name}",)
        )
        found = f"role {role.name} may not read {listed('.'.join(one) for one in sorted(names))}"
        findings.append(Finding("select", Status.ERROR, found, fix))
    if tables and not unreadable:
        found = f"role {role.name} may read all {counted(len(tables), 'published table')}"
        findings.append(Finding("select", Status.OK, found))
    hidden = [one.full_name for one in relations if one.is_published and one.has_row_security]
    if hidden:
        found = f"row-level security would hide rows of {listed(hidden)} from the first copy"
        fix = Fix("a superuser", (f"ALTER ROLE {name} BYPASSRLS",))
        findings.append(Finding("row_security", Status.ERROR, found, fix))
    elif tables:
        findings.append(Finding("row_security", Status.OK, "row-level security hides no rows"))
    return findings


def check_left_out(
    name: str, publication: PublicationFacts | None, relations: Sequence[Relation]
) -> list[Finding]:
    """Tables that one may think are captured, and why they are not."""
    findings = []
    for relation in relations:
        if relation.is_published or not relation.is_covered:
            continue
        if relation.kind == "f":
            found = f"{relation.full_name} is a foreign table: its rows are in another server's log"
            fix = Fix("you", do="capture it from the server that has it, with a block of its own")
        elif relation.persistence == "u" and not relation.is_partition:
            found = f"{relation.full_name} is unlogged: its changes are in no log"
            statement = f"ALTER TABLE {identifier(relation.schema, relation.name)} SET LOGGED"
            fix = Fix(f"{relation.owner}, the owner,", (statement,), note="it is written anew once")
        else:
            continue
        findings.append(Finding("left_out", Status.WARNING, found, fix, subject=relation.full_name))
    others = [
        relation.full_name
        for relation in relations
        if not relation.is_published and not relation.is_covered and _can_be_published(relation)
    ]
    if publication and others:
        found = f"not in publication {name}, so not captured: {listed(others)}"
        findings.append(Finding("unpublished", Status.OK, found))
    return findings


def check_copy_time(
    tables: Sequence[Table],
    sizes: Mapping[int, int],
    sample: Sample | None,
    most_rows: int | None,
) -> Finding:
    """How long the first copy will take.

    Args:
        tables: What it copies.
        sizes: Their bytes, by oid.
        sample: How fast a part of one was copied just now.
        most_rows: Setting `max_rows_per_second`.
    """
    rows = sum(max(part.rows, 0) for table in tables for part in table.parts)
    size = sum(sizes.get(table.oid, 0) for table in tables)
    found = f"the first copy reads {about_rows(rows)}, {data_size(size)}"
    if sample is None:
        return Finding("first_copy", Status.OK, found)
    limit = min(PIPE_ROWS, most_rows or PIPE_ROWS)
    seconds = max(size / sample.rate, rows / limit)
    found += f", in about {duration(max(seconds, 1))}: {sample.table} was just read at "
    found += f"{data_size(sample.rate)}/s"
    if rows / limit > size / sample.rate:
        who = "max_rows_per_second lets through" if limit == most_rows else "Meltano moves"
        found += f", but {who} no more than about {limit:,} rows/s"
    details = {"seconds": round(seconds, 1), "bytes_per_second": round(sample.rate)}
    return Finding("first_copy", Status.OK, found, details=details)


def check_copy_holds(
    tables: Sequence[Table],
    sizes: Mapping[int, int],
    sample: Sample | None,
    minutes: float,
) -> Finding:
    """What of the database the first copy holds, and for how long.

    Args:
        tables: What it copies.
        sizes: Their bytes, by oid.
        sample: How fast a part of one was copied just now.
        minutes: Setting `snapshot_minutes`.
    """
    found = (
        "the first copy reads each table in ranges of seconds, under ACCESS SHARE, which only "
        "ALTER TABLE and the like wait for; its snapshot keeps VACUUM from removing dead rows for "
        f"no more than {duration(60 * minutes)} at a time (snapshot_minutes)"
    )
    without_key = [table for table in tables if not table.key]
    if without_key:
        found += f", but while it copies {listed(table.full_name for table in without_key)}, "
        found += "without a key, as long as that takes"
        if sample:
            longest = max(sizes.get(table.oid, 0) for table in without_key) / sample.rate
            found += f": up to about {duration(max(longest, 1))} each"
    return Finding("first_copy_holds", Status.OK, found)


def _missing_publication(name: str, wanted: Sequence[Relation]) -> Finding:
    found = f"publication {name} does not exist"
    names = identifiers((relation.schema, relation.name) for relation in wanted)
    statement = (
        f"CREATE PUBLICATION {identifier(name)} FOR TABLE {names or '<tables>'}"
        " WITH (publish_via_partition_root = true)"
    )
    note = "without the tables that should not be captured" if wanted else ""
    fix = Fix(_owners(wanted), (statement,), note=note)
    return Finding("publication", Status.ERROR, found, fix)


def _add_tables(name: str, publication: PublicationFacts, wanted: Sequence[Relation]) -> Fix:
    if not wanted:
        return Fix("you", do="correct the setting airbyte_config.schemas, or create tables")
    names = identifiers((relation.schema, relation.name) for relation in wanted)
    statement = f"ALTER PUBLICATION {identifier(name)} ADD TABLE {names}"
    return Fix(f"{publication.owner}, the publication's owner,", (statement,))


def _check_operations(name: str, publication: PublicationFacts) -> Finding:
    published = {
        "insert": publication.inserts,
        "update": publication.updates,
        "delete": publication.deletes,
        "truncate": publication.truncates,
    }
    left_out = [operation for operation, yes in published.items() if not yes]
    if not left_out:
        found = f"publication {name} publishes every operation"
        return Finding("operations", Status.OK, found)
    found = (
        f"publication {name} leaves out {', '.join(left_out)}: rows changed that way stay as they "
        "are in the warehouse"
    )
    statement = (
        f"ALTER PUBLICATION {identifier(name)} SET (publish = 'insert, update, delete, truncate')"
    )
    fix = Fix(f"{publication.owner}, the publication's owner,", (statement,))
    return Finding("operations", Status.WARNING, found, fix)


def _can_be_published(relation: Relation) -> bool:
    return relation.kind != "f" and relation.persistence == "p" and not relation.is_partition


def _owners(relations: Sequence[Relation]) -> str:
    owners = sorted({relation.owner for relation in relations})
    if len(owners) == 1:
        return f"{owners[0]}, the tables' owner, with CREATE on the database,"
    return "a superuser"
