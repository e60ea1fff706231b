"""The SQL that brings staged records into a table: pure text, no connection.

Sequence is the order of arrival; order is the value of the stream's bookmark column. A record
changes a row only if its order is at or above the row's, so what comes late or twice changes
nothing; a greater version of the stream counts whatever its order, as the source may be another
server. All statements can be run again.

https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement
"""

from collections.abc import Iterable
from dataclasses import dataclass

from target_bigquery.column_types import BigQueryType

SEQUENCE = "_sdc_staged_sequence"  # of every staging table: INT64, order of arrival
PRESENT = (
    "_sdc_staged_present"  # of partial records: STRING, a 0 or 1 for each of the stream's columns
)

_SO_FAR = f"ORDER BY {SEQUENCE} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


@dataclass(frozen=True)
class TargetColumn:
    """A column of the table, and the staged column that fills it: by default that of its name."""

    name: str
    type: BigQueryType
    source: str = ""
    position: int | None = None  # among the flags of PRESENT; None: always present


@dataclass(frozen=True)
class Load:
    """One staging table on its way into its table."""

    table: str
    staging: str  # the table, or a query for the rows in parentheses
    columns: tuple[TargetColumn, ...]
    keys: tuple[str, ...] = ()
    order: str | None = None
    version: str | None = None  # column of the version of the stream that a row is of
    deletes: tuple[str, ...] = ()  # columns of the stream that mark a delete
    metadata: frozenset[str] = frozenset()  # columns that a delete sets, beside order and deletes
    floor: int | None = None  # rows below this version have another key
    revived: tuple[str, ...] = ()  # columns of the table, not of the stream, that mark a delete
    hard: bool = False
    has_deletes: bool = False
    has_partial: bool = False
    has_null_order: bool = False


def quoted(*parts: str) -> str:
    """Return a path such as `project.dataset.table` as one quoted identifier."""
    return f"`{'.'.join(parts)}`"


def append(load: Load) -> str:
    """Return the statement that adds every staged record as a row."""
    names = _list(quoted(column.name) for column in load.columns)
    values = _list(_typed(column) for column in load.columns)
    return f"INSERT INTO {load.table} ({names})\nSELECT {values}\nFROM {load.staging}"


def merge(load: Load) -> str:
    """Return the statement that leaves one row per key: the newest record, or a newer row."""
    if load.has_deletes or load.has_partial or load.has_null_order:
        return _merge_combined(load)
    keys = _list(_comparable(column) for column in _keys(load))
    newest = f"{SEQUENCE} DESC"
    guard = ""
    if load.order:
        newest = f"{_typed(_column(load, load.order))} DESC, {newest}"
        order = quoted(load.order)
        guard = f" AND (T.{order} IS NULL OR S.{order} >= T.{order}{_or_newer_version(load)})"
    select = _list(f"{_typed(column)} AS {quoted(column.name)}" for column in load.columns)
    updates = [
        f"{quoted(c.name)} = S.{quoted(c.name)}" for c in load.columns if c.name not in load.keys
    ]
    return f"""MERGE {load.table} T
USING (
  SELECT {select}
  FROM (
    SELECT * FROM {load.staging} WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1
  )
) S
ON {_matches(load)}
{_matched(guard, updates, load)}WHEN NOT MATCHED THEN {_insert(load)}"""


def _merge_combined(load: Load) -> str:
    """Return the script for batches in which a row is made of several records.

    `fresh` leaves out what came after a newer record of its key. Of the rest, the newest record
    says if the row is deleted, and gives order and metadata; the values are from the newest records
    that have them.
    """
    key_names = [f"__key{index}" for index in range(len(load.keys))]
    keys = _list(key_names)
    order = _typed(_column(load, load.order)) if load.order else "NULL"
    deleted = " OR ".join(f"{quoted(name)} IS NOT NULL" for name in load.deletes) or "FALSE"
    comparable = [_comparable(column) for column in _keys(load)]
    segment = "0"
    # A record without an order always counts, and what follows it is compared anew.
    if load.has_null_order:
        segment = (
            f"SUM(IF({order} IS NULL, 1, 0)) OVER (PARTITION BY {_list(comparable)} {_SO_FAR})"
        )
    renamed = _list(f"{value} AS {name}" for value, name in zip(comparable, key_names, strict=True))
    fresh = ""
    if load.order:
        newest_so_far = f"MAX(__order) OVER (PARTITION BY {keys}, __segment {_SO_FAR})"
        fresh = f" WHERE TRUE QUALIFY __order IS NULL OR __order >= {newest_so_far}"
    last_delete = f"MAX(IF(__deleted, {SEQUENCE}, NULL)) OVER (PARTITION BY {keys})"
    head = [column for column in load.columns if _from_newest(load, column)]
    groups = _groups(load)
    picks = [
        _pick("__newest", head, SEQUENCE),
        _pick("__erased", [], f"IF(__deleted, {SEQUENCE}, NULL)"),
    ]
    picks += [_pick(f"__group{i}", group, _present(load, group)) for i, group in enumerate(groups)]
    select = [f"__newest.{quoted(column.name)} AS {quoted(column.name)}" for column in head]
    select += ["__newest.__deleted AS __deleted", *_parts("__newest"), *_parts("__erased")]
    for index, group in enumerate(groups):
        name = f"__group{index}"
        select += [
            f"IF({name}_found, {name}.{quoted(c.name)}, NULL) AS {quoted(c.name)}" for c in group
        ]
        select += _parts(name)
    return f"""MERGE {load.table} T
USING (
  WITH staged AS (
    SELECT *, {renamed}, {order} AS __order, ({deleted}) AS __deleted, {segment} AS __segment
    FROM {load.staging}
  ), fresh AS (
    SELECT * FROM staged{fresh}
  ), marked AS (
    SELECT *, {last_delete} AS __last_delete FROM fresh
  ), picked AS (
    SELECT {_list(picks)}
    FROM marked
    GROUP BY {keys}
  )
  SELECT {_list(select)}
  FROM picked
) S
ON {_matches(load)}
{_combined_clauses(load, head, groups)}"""


def _combined_clauses(
    load: Load, head: list[TargetColumn], groups: list[list[TargetColumn]]
) -> str:
    guard = f" AND {_applies(load, '__newest')}"
    updates = [f"{quoted(c.name)} = S.{quoted(c.name)}" for c in head if c.name not in load.keys]
    for index, group in enumerate(groups):
        name = f"__group{index}"
        for column in group:
            kept = f"T.{quoted(column.name)}"
            if load.hard:
                kept = f"IF(S.__erased_found AND {_applies(load, '__erased')}, NULL, {kept})"
            found = f"S.{name}_found AND {_applies(load, name)}"
            updates.append(f"{quoted(column.name)} = IF({found}, S.{quoted(column.name)}, {kept})")
    if not load.hard:
        return f"{_matched(guard, updates, load)}WHEN NOT MATCHED THEN {_insert(load)}"
    return (
        f"WHEN MATCHED{guard} AND S.__deleted THEN DELETE\n"
        f"{_matched(guard, updates, load)}"
        f"WHEN NOT MATCHED AND NOT S.__deleted THEN {_insert(load)}"
    )


def remove_older_versions(
    table: str, version_column: str, version: int, *, deleted: str | None, text: bool = False
) -> str:
    """Return the statement that deletes the rows of older versions.

    Args:
        table: quoted path.
        version_column: has the version of each row.
        version: the one that stays.
        deleted: the column that marks deleted rows; None removes them.
        text: the marking column is a STRING.
    """
    older = f"({version_column} IS NULL OR {version_column} < {version})"
    if deleted is None:
        return f"DELETE FROM {table} WHERE {older}"
    now = "CAST(CURRENT_TIMESTAMP() AS STRING)" if text else "CURRENT_TIMESTAMP()"
    mark = quoted(deleted)
    return f"UPDATE {table} SET {mark} = {now} WHERE {older} AND {mark} IS NULL"


def least_version(table: str, version_column: str) -> str:
    """Return the query for the least version of a table's rows: none counts as -1."""
    return f"SELECT MIN(IFNULL({version_column}, -1)) AS version FROM {table}"


def next_version(table: str, version_column: str) -> str:
    """Return the query for the version above those of a table's rows, NULL without rows."""
    return f"SELECT MAX(IFNULL({version_column}, -1)) + 1 AS version FROM {table}"


def _from_newest(load: Load, column: TargetColumn) -> bool:
    name = column.name
    return name in load.keys or name == load.order or name in load.deletes or name in load.metadata


def _groups(load: Load) -> list[list[TargetColumn]]:
    """Return the value columns in groups that come from one record: all, or each by itself."""
    values = [column for column in load.columns if not _from_newest(load, column)]
    if load.has_partial:
        return [[column] for column in values]
    return [values] if values else []


def _present(load: Load, group: list[TargetColumn]) -> str:
    """Return the sequence of a record that gives values to a group, NULL for others."""
    given = "NOT __deleted"
    if load.has_partial:
        position = group[0].position
        if position is not None:
            given += f" AND SUBSTR({PRESENT}, {position + 1}, 1) = '1'"
        if load.hard:  # the row is gone with the delete; what came before it is gone too
            given += f" AND {SEQUENCE} > IFNULL(__last_delete, -1)"
    return f"IF({given}, {SEQUENCE}, NULL)"


def _pick(name: str, columns: list[TargetColumn], newest: str) -> str:
    fields = [f"{_typed(column)} AS {quoted(column.name)}" for column in columns]
    fields += ["__order AS __order", "__segment AS __segment", "__deleted AS __deleted"]
    return (
        f"ANY_VALUE(STRUCT({_list(fields)}) HAVING MAX {newest}) AS {name}, "
        f"MAX({newest}) IS NOT NULL AS {name}_found"
    )


def _parts(name: str) -> list[str]:
    return [
        f"{name}_found AS {name}_found",
        f"{name}.__order AS {name}__order",
        f"{name}.__segment > 0 OR {name}.__order IS NULL AS {name}_free",
    ]


def _applies(load: Load, name: str) -> str:
    if not load.order:
        return "TRUE"
    order = f"T.{quoted(load.order)}"
    newer = _or_newer_version(load)
    return f"(S.{name}_free OR {order} IS NULL OR S.{name}__order >= {order}{newer})"


def _or_newer_version(load: Load) -> str:
    if not load.version:
        return ""
    version = quoted(load.version)
    return f" OR S.{version} > IFNULL(T.{version}, -1)"


def _matched(guard: str, updates: list[str], load: Load) -> str:
    updates = [*updates, *(f"{quoted(name)} = NULL" for name in load.revived)]
    return f"WHEN MATCHED{guard} THEN UPDATE SET {_list(updates)}\n" if updates else ""


def _insert(load: Load) -> str:
    names = _list(quoted(column.name) for column in load.columns)
    values = _list(f"S.{quoted(column.name)}" for column in load.columns)
    return f"INSERT ({names}) VALUES ({values})"


def _matches(load: Load) -> str:
    def same(column: TargetColumn) -> str:
        ours, theirs = f"T.{quoted(column.name)}", f"S.{quoted(column.name)}"
        if column.type.name == "JSON":
            return f"TO_JSON_STRING({ours}) = TO_JSON_STRING({theirs})"
        return f"{ours} = {theirs}"

    matches = [same(column) for column in _keys(load)]
    if load.version and load.floor is not None:
        matches.append(f"T.{quoted(load.version)} >= {load.floor}")
    return " AND ".join(matches)


def _keys(load: Load) -> list[TargetColumn]:
    return [_column(load, name) for name in load.keys]


def _column(load: Load, name: str) -> TargetColumn:
    return next(column for column in load.columns if column.name == name)


def _typed(column: TargetColumn) -> str:
    """Return the staged value in the column's own type: JSON and BIGNUMERIC are staged as text."""
    staged = quoted(column.source or column.name)
    match column.type.name:
        case "JSON":
            return f"PARSE_JSON({staged}, wide_number_mode=>'round')"
        case "BIGNUMERIC":
            return f"CAST({staged} AS {column.type})"
    return staged


def _comparable(column: TargetColumn) -> str:
    """Return a key in a form that can partition: FLOAT64 and JSON can't."""
    typed = _typed(column)
    return f"TO_JSON_STRING({typed})" if column.type.name in {"FLOAT64", "JSON"} else typed


def _list(parts: Iterable[str]) -> str:
    return ", ".join(parts)
