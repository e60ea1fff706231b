"""What is right or wrong with a publication and its tables. Nothing here asks the server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier, identifiers
from tap_postgres_cdc.commands.inspection import PublicationFacts, Relation, Role, Schema
from tap_postgres_cdc.commands.sampling import PIPE_ROWS, Sample
from tap_postgres_cdc.discovery import Table
from tap_postgres_cdc.progress import data_size, duration

_MOST_NAMES: Final = 10


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
        found = f"publication {name} holds {_count(len(tables), 'table')}"
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
        found = f"role {role.name} may not read {_list('.'.join(one) for one in sorted(names))}"
        findings.append(Finding("select", Status.ERROR, found, fix))
    if tables and not unreadable:
        found = f"role {role.name} may read all {_count(len(tables), 'published table')}"
        findings.append(Finding("select", Status.OK, found))
    hidden = [one.full_name for one in relations if one.is_published and one.has_row_security]
    if hidden:
        found = f"row-level security would hide rows of {_list(hidden)} from the first copy"
        fix = Fix("a superuser", (f"ALTER ROLE {name} BYPASSRLS",))
        findings.append(Finding("row_security", Status.ERROR, found, fix))
    return findings


def check_table(
    name: str, publication: PublicationFacts, relation: Relation, table: Table | None
) -> Finding:
    """Whether a published table's changes can be captured, with what else to know of it."""
    rows = sum(max(part.rows, 0) for part in table.parts) if table else 0
    described = f"{relation.full_name}: {_about_rows(rows)}, {data_size(relation.size)}"
    details = {
        "rows": round(rows),
        "bytes": relation.size,
        "key": list(table.key) if table else relation.key,
        "large_columns": relation.large_columns,
        "row_filter": relation.row_filter,
        "generated_columns": relation.generated_columns,
    }
    case = _Case(name, publication, relation)
    verdict = next(filter(None, (rule(case) for rule in _RULES)), None)
    status, found, fix = verdict or (Status.OK, "", None)
    notes = [*filter(None, [found]), *_notes(publication, relation)]
    text = f"{described}; {'; '.join(notes)}" if notes else described
    return Finding("table", status, text, fix, subject=relation.full_name, details=details)


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
            statement = f"ALTER TABLE {_quoted(relation)} SET LOGGED"
            fix = Fix(f"{relation.owner}, the owner,", (statement,), "it is written anew once")
        else:
            continue
        findings.append(Finding("left_out", Status.WARNING, found, fix, subject=relation.full_name))
    others = [
        relation.full_name
        for relation in relations
        if not relation.is_published and not relation.is_covered and _can_be_published(relation)
    ]
    if publication and others:
        found = f"not in publication {name}, so not captured: {_list(others)}"
        findings.append(Finding("unpublished", Status.OK, found))
    return findings


def check_copy_time(
    tables: Sequence[Table], sizes: Mapping[int, int], sample: Sample | None
) -> Finding:
    """How long the first copy will take.

    Args:
        tables: What it copies.
        sizes: Their bytes, by oid.
        sample: How fast a part of one was copied just now.
    """
    rows = sum(max(part.rows, 0) for table in tables for part in table.parts)
    size = sum(sizes.get(table.oid, 0) for table in tables)
    found = f"the first copy reads {_about_rows(rows)}, {data_size(size)}"
    if sample is None:
        return Finding("first_copy", Status.OK, found)
    seconds = max(size / sample.rate, rows / PIPE_ROWS)
    found += (
        f", in about {duration(max(seconds, 1))} (measured on {sample.table}: "
        f"{data_size(sample.rate)}/s)"
    )
    details = {"seconds": round(seconds, 1), "bytes_per_second": round(sample.rate)}
    return Finding("first_copy", Status.OK, found, details=details)


def _missing_publication(name: str, wanted: Sequence[Relation]) -> Finding:
    found = f"publication {name} does not exist"
    names = identifiers((relation.schema, relation.name) for relation in wanted)
    statement = (
        f"CREATE PUBLICATION {identifier(name)} FOR TABLE {names or '<tables>'}"
        " WITH (publish_via_partition_root = true)"
    )
    do = "leave out the tables that should not be captured" if wanted else ""
    return Finding("publication", Status.ERROR, found, Fix(_owners(wanted), (statement,), do))


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


_FAILS: Final = "updates and deletes fail at the source"


class _Case(NamedTuple):
    """A table as part of a publication."""

    name: str
    publication: PublicationFacts
    relation: Relation

    @property
    def has_changes(self) -> bool:
        return self.publication.updates or self.publication.deletes

    @property
    def by_publisher(self) -> str:
        return f"{self.publication.owner}, the publication's owner,"

    @property
    def by_owner(self) -> str:
        return f"{self.relation.owner}, the owner,"

    @property
    def table(self) -> str:
        return _quoted(self.relation)


_Verdict = tuple[Status, str, Fix]


def _judge_identity(case: _Case) -> _Verdict | None:
    """Without a replica identity PostgreSQL refuses updates and deletes of a published table."""
    relation = case.relation
    if relation.identity == "n" and relation.primary_key and not relation.deferrable_key:
        fix = Fix(case.by_owner, (f"ALTER TABLE {case.table} REPLICA IDENTITY DEFAULT",))
        return Status.ERROR, f"REPLICA IDENTITY NOTHING: {_FAILS}", fix
    if relation.key or relation.identity == "f":
        return None
    if not case.has_changes:
        return Status.WARNING, "no usable key: records are appended", _give_key(relation)
    return Status.ERROR, f"no usable key: {_FAILS}", _give_key(relation)


def _judge_column_list(case: _Case) -> _Verdict | None:
    """A column list has to hold the replica identity."""
    relation = case.relation
    if not relation.has_column_list:
        return None
    if relation.identity == "f":
        found = f"a column list does not go with REPLICA IDENTITY FULL: {_FAILS}"
        return Status.ERROR, found, _reconcile_column_list(case)
    lacking = [column for column in relation.key if column not in relation.published_columns]
    if not lacking:
        return None
    wanted = {*relation.published_columns, *lacking}
    listed = identifiers(column for column in relation.columns if column in wanted)
    found = f"the column list lacks {', '.join(lacking)} of the replica identity: {_FAILS}"
    return Status.ERROR, found, _publish_again(case, f" ({listed})")


def _judge_row_filter(case: _Case) -> _Verdict | None:
    """A row filter may read columns of the replica identity only."""
    relation = case.relation
    stray = [column for column in relation.filter_columns if column not in relation.key]
    if not stray or not case.has_changes or relation.identity == "f":
        return None
    found = f"the row filter reads {', '.join(stray)}, not in the replica identity: {_FAILS}"
    statement = f"ALTER TABLE {case.table} REPLICA IDENTITY FULL"
    return Status.ERROR, found, Fix(case.by_owner, (statement,))


def _judge_key(case: _Case) -> _Verdict | None:
    """With REPLICA IDENTITY FULL alone, a loader can't tell rows apart."""
    if case.relation.key:
        return None
    return Status.WARNING, "no usable key: records are appended", _give_key(case.relation)


def _judge_partitions(case: _Case) -> _Verdict | None:
    """Rows of a partitioned table should arrive as its rows, and all of them."""
    relation = case.relation
    if relation.is_partition and not case.publication.via_root:
        name = identifier(case.name)
        statement = f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"
        found = "a partition, which becomes a table of its own in the warehouse"
        return Status.WARNING, found, Fix(case.by_publisher, (statement,))
    if relation.foreign_parts:
        fix = Fix("you", do="capture them from the server that has them")
        found = f"partitions on another server are left out: {_list(relation.foreign_parts)}"
        return Status.WARNING, found, fix
    return None


_RULES: Final = (
    _judge_identity,
    _judge_column_list,
    _judge_row_filter,
    _judge_key,
    _judge_partitions,
)


def _give_key(relation: Relation) -> Fix:
    """What gives a table a key, as far as one can tell from here."""
    by, table = f"{relation.owner}, the owner,", _quoted(relation)
    if relation.deferrable_key:
        key = identifiers(relation.primary_key)
        name = identifier(relation.deferrable_key)
        change = f"DROP CONSTRAINT {name}, ADD CONSTRAINT {name} PRIMARY KEY ({key})"
        return Fix(by, (f"ALTER TABLE {table} {change}",), "a deferrable key identifies no row")
    if relation.unique_index:
        index = identifier(relation.unique_index)
        return Fix(by, (f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}",))
    taken = {*relation.columns, *relation.generated_columns}
    column = next(name for name in ("id", "row_id", "oso_row_id") if name not in taken)
    statement = (
        f"ALTER TABLE {table} ADD COLUMN {identifier(column)} bigint GENERATED ALWAYS AS IDENTITY "
        "PRIMARY KEY"
    )
    do = (
        "or make columns that identify a row the key; REPLICA IDENTITY FULL alone lets changes "
        "pass, and records are appended"
    )
    return Fix(by, (statement,), do)


def _reconcile_column_list(case: _Case) -> Fix:
    """What makes a table with REPLICA IDENTITY FULL and a column list work."""
    relation = case.relation
    if relation.key and set(relation.key) <= set(relation.published_columns):
        statement = f"ALTER TABLE {case.table} REPLICA IDENTITY DEFAULT"
        return Fix(case.by_owner, (statement,))
    return _publish_again(case, "")


def _publish_again(case: _Case, columns: str) -> Fix:
    name, condition = identifier(case.name), case.relation.row_filter
    where = f" WHERE ({condition})" if condition else ""
    return Fix(
        case.by_publisher,
        (
            f"ALTER PUBLICATION {name} DROP TABLE {case.table}",
            f"ALTER PUBLICATION {name} ADD TABLE {case.table}{columns}{where}",
        ),
    )


def _notes(publication: PublicationFacts, relation: Relation) -> list[str]:
    """What one may want to know of a table, though nothing is wrong."""
    notes = []
    published = set(relation.published_columns)
    if relation.has_column_list:
        left_out = [column for column in relation.columns if column not in published]
        if left_out:
            notes.append(f"the column list leaves out {_list(left_out)}")
    if generated := [one for one in relation.generated_columns if one not in published]:
        note = f"generated columns are not published: {_list(generated)}"
        if publication.generated_columns:
            note += " (publish_generated_columns = stored would)"
        notes.append(note)
    if relation.row_filter:
        notes.append(f"only rows where {relation.row_filter}")
    if relation.large_columns:
        notes.append(f"can hold large values: {_list(relation.large_columns)}")
    return notes


def _can_be_published(relation: Relation) -> bool:
    return relation.kind != "f" and relation.persistence == "p" and not relation.is_partition


def _owners(relations: Sequence[Relation]) -> str:
    owners = sorted({relation.owner for relation in relations})
    if len(owners) == 1:
        return f"{owners[0]}, the tables' owner, with CREATE on the database,"
    return "a superuser"


def _quoted(relation: Relation) -> str:
    return identifier(relation.schema, relation.name)


def _about_rows(rows: float) -> str:
    return f"about {rows:,.0f} rows"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _list(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - _MOST_NAMES
    return ", ".join(listed[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")
