"""What is right or wrong with one published table. Nothing here asks the server."""

from typing import Final, NamedTuple

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier, identifiers
from tap_postgres_cdc.commands.inspection import PublicationFacts, Relation
from tap_postgres_cdc.commands.wording import about_rows, listed
from tap_postgres_cdc.discovery import Table
from tap_postgres_cdc.progress import data_size

_FAILS: Final = "updates and deletes fail at the source"


def check_table(
    name: str, publication: PublicationFacts, relation: Relation, table: Table | None
) -> Finding:
    """Whether a published table's changes can be captured, with what else to know of it."""
    rows = sum(max(part.rows, 0) for part in table.parts) if table else 0
    described = f"{relation.full_name}: {about_rows(rows)}, {data_size(relation.size)}"
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
    names = identifiers(column for column in relation.columns if column in wanted)
    found = f"the column list lacks {', '.join(lacking)} of the replica identity: {_FAILS}"
    return Status.ERROR, found, _publish_again(case, f" ({names})")


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
    """Rows of a partitioned table should arrive as its rows."""
    if not case.relation.is_partition or case.publication.via_root:
        return None
    name = identifier(case.name)
    statement = f"ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"
    found = "a partition, which becomes a table of its own in the warehouse"
    return Status.WARNING, found, Fix(case.by_publisher, (statement,))


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
        note = "a deferrable key identifies no row"
        return Fix(by, (f"ALTER TABLE {table} {change}",), note=note)
    if relation.unique_index:
        index = identifier(relation.unique_index)
        return Fix(by, (f"ALTER TABLE {table} REPLICA IDENTITY USING INDEX {index}",))
    taken = {*relation.columns, *relation.generated_columns}
    column = next(name for name in ("id", "row_id", "oso_row_id") if name not in taken)
    statement = (
        f"ALTER TABLE {table} ADD COLUMN {identifier(column)} bigint GENERATED ALWAYS AS IDENTITY "
        "PRIMARY KEY"
    )
    note = (
        "it is written anew once; or make columns that identify a row the key; REPLICA IDENTITY "
        "FULL alone lets changes pass, but records are appended"
    )
    return Fix(by, (statement,), note=note)


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
            notes.append(f"the column list leaves out {listed(left_out)}")
    if generated := [one for one in relation.generated_columns if one not in published]:
        note = f"generated columns are not published: {listed(generated)}"
        if publication.generated_columns:
            note += " (publish_generated_columns = stored would)"
        notes.append(note)
    if relation.row_filter:
        notes.append(f"only rows where {relation.row_filter}")
    if relation.foreign_parts:
        # Such a table can't have a key either, which is what its line warns of.
        notes.append(f"partitions on another server are left out: {listed(relation.foreign_parts)}")
    if relation.large_columns:
        notes.append(f"can hold large values: {listed(relation.large_columns)}")
    return notes


def _quoted(relation: Relation) -> str:
    return identifier(relation.schema, relation.name)
