"""The MERGE that leaves one row per key: the newest record, or a newer row.

https://cloud.google.com/bigquery/docs/reference/standard-sql/dml-syntax#merge_statement
"""

from target_bigquery.bounds import Ranges
from target_bigquery.sql import PRESENT, SEQUENCE, Load, TargetColumn, any_partition, listed, quoted

_SO_FAR = f"ORDER BY {SEQUENCE} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def merge(load: Load) -> str:
    """Return the statement that leaves one row per key: the newest record, or a newer row."""
    clauses = _combined_clauses if _is_combined(load) else _newest_clauses
    return f"""MERGE {load.table} T
USING (
{source(load)}
) S
ON {_matches(load)}
{clauses(load)}"""


def source(load: Load) -> str:
    """Return the query for what a batch makes of each key: a row of the statement's `S`."""
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
    select = listed(f"{column.staged} AS {quoted(column.name)}" for column in load.columns)
    return f"""  SELECT {select}
  FROM (
    SELECT * FROM {load.staging} WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {newest}) = 1
  )"""


def _newest_clauses(load: Load) -> str:
    guard = ""
    if load.order:
        order = quoted(load.order)
        guard = f" AND (T.{order} IS NULL OR S.{order} >= T.{order}{_or_newer_version(load)})"
    updates = [
        f"{quoted(c.name)} = S.{quoted(c.name)}" for c in load.columns if c.name not in load.keys
    ]
    return f"{_matched(guard, updates, load)}WHEN NOT MATCHED THEN {_insert(load)}"


def _combined(load: Load) -> str:
    """Return the query for batches in which a row is made of several records.

    `fresh` leaves out what came after a newer record of its key. Of the rest, the newest record
    says if the row is deleted, and gives order and metadata; the values are from the newest records
    that have them.
    """
    key_names = [f"__key{index}" for index in range(len(load.keys))]
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
        newest_so_far = f"MAX(__order) OVER (PARTITION BY {keys}, __segment {_SO_FAR})"
        fresh = f" WHERE TRUE QUALIFY __order IS NULL OR __order >= {newest_so_far}"
    last_delete = f"MAX(IF(__deleted, {SEQUENCE}, NULL)) OVER (PARTITION BY {keys})"
    return f"""  WITH staged AS (
    SELECT *, {renamed}, {order} AS __order, ({deleted}) AS __deleted, {segment} AS __segment
    FROM {load.staging}
  ), fresh AS (
    SELECT * FROM staged{fresh}
  ), marked AS (
    SELECT *, {last_delete} AS __last_delete FROM fresh
  ), picked AS (
    SELECT {_picks(load)}
    FROM marked
    GROUP BY {keys}
  )
  SELECT {_picked(load)}
  FROM picked"""


def _picks(load: Load) -> str:
    picks = [
        _pick("__newest", _head(load), SEQUENCE),
        _pick("__erased", [], f"IF(__deleted, {SEQUENCE}, NULL)"),
    ]
    for index, group in enumerate(_groups(load)):
        picks.append(_pick(f"__group{index}", group, _present(load, group)))
    return listed(picks)


def _picked(load: Load) -> str:
    select = [f"__newest.{quoted(column.name)} AS {quoted(column.name)}" for column in _head(load)]
    select += ["__newest.__deleted AS __deleted", *_parts("__newest"), *_parts("__erased")]
    for index, group in enumerate(_groups(load)):
        name = f"__group{index}"
        select += [
            f"IF({name}_found, {name}.{quoted(c.name)}, NULL) AS {quoted(c.name)}" for c in group
        ]
        select += _parts(name)
    return listed(select)


def _combined_clauses(load: Load) -> str:
    guard = f" AND {_applies(load, '__newest')}"
    updates = [
        f"{quoted(c.name)} = S.{quoted(c.name)}" for c in _head(load) if c.name not in load.keys
    ]
    for index, group in enumerate(_groups(load)):
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


def _from_newest(load: Load, column: TargetColumn) -> bool:
    name = column.name
    return name in load.keys or name == load.order or name in load.deletes or name in load.metadata


def _head(load: Load) -> list[TargetColumn]:
    return [column for column in load.columns if _from_newest(load, column)]


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
    fields = [f"{column.staged} AS {quoted(column.name)}" for column in columns]
    fields += ["__order AS __order", "__segment AS __segment", "__deleted AS __deleted"]
    return (
        f"ANY_VALUE(STRUCT({listed(fields)}) HAVING MAX {newest}) AS {name}, "
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
    return f"WHEN MATCHED{guard} THEN UPDATE SET {listed(updates)}\n" if updates else ""


def _insert(load: Load) -> str:
    names = listed(quoted(column.name) for column in load.columns)
    values = listed(f"S.{quoted(column.name)}" for column in load.columns)
    return f"INSERT ({names}) VALUES ({values})"


def _matches(load: Load) -> str:
    matches = [
        f"{c.comparable(f'T.{quoted(c.name)}')} = {c.comparable(f'S.{quoted(c.name)}')}"
        for c in load.key_columns
    ]
    if load.version and load.floor is not None:
        matches.append(f"T.{quoted(load.version)} >= {load.floor}")
    matches += [_within(name, ranges) for name, ranges in load.bounds.items()]
    if load.filtered and load.filtered not in load.bounds:
        matches.append(any_partition(load.filtered, "T"))
    return " AND ".join(matches)


def _within(name: str, ranges: Ranges) -> str:
    column = f"T.{quoted(name)}"
    within = [
        f"{column} >= {low}" if high is None else f"{column} BETWEEN {low} AND {high}"
        for low, high in ranges
    ]
    return within[0] if len(within) == 1 else f"({' OR '.join(within)})"
