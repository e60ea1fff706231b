"""The MERGE that leaves one row per key: the newest record, or a newer row.

https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement
"""

from target_bigquery.bounds import Ranges
from target_bigquery.sql import (
    PRESENT,
    SEQUENCE,
    Load,
    TargetColumn,
    any_partition,
    lines,
    listed,
    quoted,
)

_SO_FAR = f"ORDER BY {SEQUENCE} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def merge(load: Load) -> str:
    """Return the statement that leaves one row per key: the newest record, or a newer row."""
    clauses = _combined_clauses if _is_combined(load) else _newest_clauses
    return f"""MERGE {load.table} {load.own}T
USING (
{source(load)}
) {load.own}S
ON {_matches(load)}
{clauses(load)}"""


def source(load: Load) -> str:
    """Return the query for what a batch makes of each key: the rows of the statement's source."""
    query = _combined(load) if _is_combined(load) else _newest(load)
    return f"SELECT * FROM (\n{query}\n) WHERE {load.part}" if load.part else query


def _is_combined(load: Load) -> bool:
    """Tell if a row can be made of several records, or of none of those that a key has."""
    return load.has_deletes or load.has_partial or load.has_null_order


def _newest(load: Load) -> str:
    keys = listed(column.comparable() for column in load.key_columns)
    newest = f"{SEQUENCE} DESC"
    if load.order:
        newest = f"{load.column(load.order).staged} DESC, {newest}"
    select = [f"{column.staged} AS {quoted(column.name)}" for column in load.columns]
    return f"""  SELECT{lines(select, 4)}
  FROM (
    SELECT * FROM {load.staging} WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1
  )"""


def _newest_clauses(load: Load) -> str:
    guard = ""
    if load.order:
        ours, theirs = _ours(load, load.order), _theirs(load, load.order)
        guard = f" AND ({ours} IS NULL OR {theirs} >= {ours}{_or_newer_version(load)})"
    updates = [
        f"{quoted(c.name)} = {_theirs(load, c.name)}"
        for c in load.columns
        if c.name not in load.keys
    ]
    return f"{_matched(guard, updates, load)}WHEN NOT MATCHED THEN {_insert(load)}"


def _combined(load: Load) -> str:
    """Return the query for batches in which a row is made of several records.

    `fresh` leaves out what came after a newer record of its key. Of the rest, the newest record
    says if the row is deleted, and gives order and metadata; the values are from the newest records
    that have them.
    """
    own = load.own
    key_names = [f"{own}key{index}" for index in range(len(load.keys))]
    keys = listed(key_names)
    order = load.column(load.order).staged if load.order else "NULL"
    deleted = " OR ".join(f"{quoted(name)} IS NOT NULL" for name in load.deletes) or "FALSE"
    comparable = [column.comparable() for column in load.key_columns]
    segment = "0"
    # A record without an order always counts, and what follows it is compared anew.
    if load.has_null_order:
        segment = (
            f"SUM(IF({order} IS NULL, 1, 0)) OVER (PARTITION BY {listed(comparable)} {_SO_FAR})"
        )
    renamed = listed(
        f"{value} AS {name}" for value, name in zip(comparable, key_names, strict=True)
    )
    fresh = ""
    if load.order:
        newest_so_far = f"MAX({own}order) OVER (PARTITION BY {keys}, {own}segment {_SO_FAR})"
        fresh = f" WHERE TRUE\n    QUALIFY {own}order IS NULL OR {own}order >= {newest_so_far}"
    last_delete = f"MAX(IF({own}deleted, {SEQUENCE}, NULL)) OVER (PARTITION BY {keys})"
    return f"""  WITH {own}staged AS (
    SELECT *,
      {renamed},
      {order} AS {own}order,
      ({deleted}) AS {own}deleted,
      {segment} AS {own}segment
    FROM {load.staging}
  ), {own}fresh AS (
    SELECT * FROM {own}staged{fresh}
  ), {own}marked AS (
    SELECT *, {last_delete} AS {own}last_delete
    FROM {own}fresh
  ), {own}picked AS (
    SELECT{lines(_picks(load), 6)}
    FROM {own}marked
    GROUP BY {keys}
  )
  SELECT{lines(_picked(load), 4)}
  FROM {own}picked"""


def _picks(load: Load) -> list[str]:
    own = load.own
    picks = [
        *_pick(load, "newest", _head(load), SEQUENCE),
        *_pick(load, "erased", [], f"IF({own}deleted, {SEQUENCE}, NULL)"),
    ]
    for index, group in enumerate(_groups(load)):
        picks += _pick(load, f"group{index}", group, _present(load, group))
    return picks


def _pick(load: Load, name: str, columns: list[TargetColumn], newest: str) -> list[str]:
    own = load.own
    fields = [f"{column.staged} AS {quoted(column.name)}" for column in columns]
    fields += [f"{own}{part} AS {own}{part}" for part in ("order", "segment", "deleted")]
    return [
        f"ANY_VALUE(STRUCT({listed(fields)}) HAVING MAX {newest}) AS {own}{name}",
        f"MAX({newest}) IS NOT NULL AS {own}{name}_found",
    ]


def _picked(load: Load) -> list[str]:
    own = load.own
    select = [f"{own}newest.{quoted(c.name)} AS {quoted(c.name)}" for c in _head(load)]
    select.append(f"{own}newest.{own}deleted AS {own}deleted")
    select += [*_parts(load, "newest"), *_parts(load, "erased")]
    for index, group in enumerate(_groups(load)):
        name = f"{own}group{index}"
        select += [
            f"IF({name}_found, {name}.{quoted(c.name)}, NULL) AS {quoted(c.name)}" for c in group
        ]
        select += _parts(load, f"group{index}")
    return select


def _parts(load: Load, pick: str) -> list[str]:
    own, name = load.own, f"{load.own}{pick}"
    return [
        f"{name}_found AS {name}_found",
        f"{name}.{own}order AS {name}_order",
        f"{name}.{own}segment > 0 OR {name}.{own}order IS NULL AS {name}_free",
    ]


def _combined_clauses(load: Load) -> str:
    source = f"{load.own}S.{load.own}"
    guard = f" AND {_applies(load, 'newest')}"
    updates = [
        f"{quoted(c.name)} = {_theirs(load, c.name)}"
        for c in _head(load)
        if c.name not in load.keys
    ]
    for index, group in enumerate(_groups(load)):
        found = f"{source}group{index}_found AND {_applies(load, f'group{index}')}"
        for column in group:
            kept = _ours(load, column.name)
            if load.hard:
                kept = f"IF({source}erased_found AND {_applies(load, 'erased')}, NULL, {kept})"
            new = _theirs(load, column.name)
            updates.append(f"{quoted(column.name)} = IF({found}, {new}, {kept})")
    if not load.hard:
        return f"{_matched(guard, updates, load)}WHEN NOT MATCHED THEN {_insert(load)}"
    return (
        f"WHEN MATCHED{guard} AND {source}deleted THEN DELETE\n"
        f"{_matched(guard, updates, load)}"
        f"WHEN NOT MATCHED AND NOT {source}deleted THEN {_insert(load)}"
    )


def _head(load: Load) -> list[TargetColumn]:
    """Return the columns that are from the newest record, whatever it is."""
    names = {*load.keys, load.order, *load.deletes, *load.metadata}
    return [column for column in load.columns if column.name in names]


def _groups(load: Load) -> list[list[TargetColumn]]:
    """Return the value columns in groups that come from one record: all, or each by itself."""
    head = _head(load)
    values = [column for column in load.columns if column not in head]
    if load.has_partial:
        return [[column] for column in values]
    return [values] if values else []


def _present(load: Load, group: list[TargetColumn]) -> str:
    """Return the sequence of a record that gives values to a group, NULL for others."""
    given = f"NOT {load.own}deleted"
    if load.has_partial:
        position = group[0].position
        if position is not None:
            given += f" AND SUBSTR({PRESENT}, {position + 1}, 1) = '1'"
        if load.hard:  # the row is gone with the delete; what came before it is gone too
            given += f" AND {SEQUENCE} > IFNULL({load.own}last_delete, -1)"
    return f"IF({given}, {SEQUENCE}, NULL)"


def _applies(load: Load, pick: str) -> str:
    """Return the condition that a pick of the source is not older than the row."""
    if not load.order:
        return "TRUE"
    order, name = _ours(load, load.order), f"{load.own}S.{load.own}{pick}"
    newer = _or_newer_version(load)
    return f"({name}_free OR {order} IS NULL OR {name}_order >= {order}{newer})"


def _or_newer_version(load: Load) -> str:
    if not load.version:
        return ""
    return f" OR {_theirs(load, load.version)} > IFNULL({_ours(load, load.version)}, -1)"


def _matched(guard: str, updates: list[str], load: Load) -> str:
    updates = [*updates, *(f"{quoted(name)} = NULL" for name in load.revived)]
    return f"WHEN MATCHED{guard} THEN UPDATE SET{lines(updates, 2)}\n" if updates else ""


def _insert(load: Load) -> str:
    names = listed(quoted(column.name) for column in load.columns)
    values = listed(_theirs(load, column.name) for column in load.columns)
    return f"INSERT ({names})\n  VALUES ({values})"


def _matches(load: Load) -> str:
    matches = [
        f"{c.comparable(_ours(load, c.name))} = {c.comparable(_theirs(load, c.name))}"
        for c in load.key_columns
    ]
    if load.version and load.floor is not None:
        matches.append(f"{_ours(load, load.version)} >= {load.floor}")
    matches += [_within(_ours(load, name), ranges) for name, ranges in load.bounds.items()]
    if load.filtered and load.filtered not in load.bounds:
        matches.append(any_partition(_ours(load, load.filtered)))
    return "\n  AND ".join(matches)


def _within(column: str, ranges: Ranges) -> str:
    within = [
        f"{column} >= {low}" if high is None else f"{column} BETWEEN {low} AND {high}"
        for low, high in ranges
    ]
    return within[0] if len(within) == 1 else f"({' OR '.join(within)})"


def _ours(load: Load, column: str) -> str:
    return f"{load.own}T.{quoted(column)}"


def _theirs(load: Load, column: str) -> str:
    return f"{load.own}S.{quoted(column)}"
