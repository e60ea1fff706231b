"""A column whose type can't be widened gets another one: the SQL and the schema of its table.

Every value becomes the new type's, or its text goes into a column of its own.
https://cloud.google.com/bigquery/docs/reference/standard-sql/conversion_rules
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from target_bigquery.column_types import BigQueryType
from target_bigquery.names import LONGEST_COLUMN, with_digest
from target_bigquery.partitions import ARRIVAL

KEPT_SUFFIX = "_text"
_NUMBERS = {"BIGNUMERIC", "FLOAT64", "INT64", "NUMERIC"}
_CASTS = {
    "BIGNUMERIC": _NUMBERS,
    "BOOL": {"INT64"},
    "DATE": {"DATETIME", "TIMESTAMP"},
    "DATETIME": {"DATE", "TIME", "TIMESTAMP"},
    "FLOAT64": _NUMBERS,
    "INT64": {*_NUMBERS, "BOOL"},
    "NUMERIC": _NUMBERS,
    "TIMESTAMP": {"DATE", "DATETIME", "TIME"},
}
_NOW = {
    "DATE": "CURRENT_DATE()",
    "DATETIME": "CURRENT_DATETIME()",
    "TIMESTAMP": "CURRENT_TIMESTAMP()",
}
_CONVERTIBLE = {*_CASTS, "BYTES", "JSON", "STRING", "TIME"}


class Conversion(NamedTuple):
    """A column whose values have to be rewritten; `mark`: a value says that its row is deleted."""

    name: str
    before: BigQueryType
    after: BigQueryType
    mark: bool = False

    @property
    def possible(self) -> bool:
        """Whether the old type is one whose values can be written as text."""
        return self.before.name in _CONVERTIBLE


class Kept(NamedTuple):
    """The column for texts that the new type can't hold; an earlier conversion may have made it."""

    name: str
    new: bool


def column_sql(name: str) -> str:
    """Return a column's name as SQL has it; a pseudo-column is none to be quoted."""
    return name if name == ARRIVAL else f"`{name}`"


def as_text(column: str, kind: BigQueryType) -> str:
    """Return the SQL of a value's text, as a tap writes it: of JSON strings what is in them."""
    name = f"`{column}`"
    match kind.name:
        case "STRING":
            return name
        case "BYTES":
            return f"TO_BASE64({name})"
        case "JSON":  # of no value TO_JSON_STRING makes the text null
            return f"IFNULL(JSON_VALUE({name}), NULLIF(TO_JSON_STRING({name}), 'null'))"
    return f"CAST({name} AS STRING)"


def converted(conversion: Conversion) -> str:
    """Return the SQL of a value in the new type, NULL where that can't hold it.

    The mark of a delete is never lost: no row comes alive because its mark is of another type.
    """
    now = _NOW.get(conversion.after.name)
    if not conversion.mark or now is None:
        return _cast(conversion)
    return f"IF(`{conversion.name}` IS NULL, NULL, IFNULL({_cast(conversion)}, {now}))"


def _cast(conversion: Conversion) -> str:
    column, before, after, _ = conversion
    text = as_text(column, before)
    if after.name == "STRING":
        return text
    if after.name == "JSON":
        if before.name in _NUMBERS:
            return f"SAFE.PARSE_JSON({text}, wide_number_mode=>'round')"
        value = text if before.name == "BYTES" else f"`{column}`"
        return f"IF(`{column}` IS NULL, NULL, TO_JSON({value}))"
    if after.name in _CASTS.get(before.name, ()):
        return f"SAFE_CAST(`{column}` AS {after})"
    if after.name == "BYTES":  # the function also takes what no function has written
        value = f"SAFE.FROM_BASE64({text})"
        return f"IF(TO_BASE64({value}) = {text}, {value}, NULL)"
    return f"SAFE_CAST({text} AS {after})"


def loses(conversion: Conversion) -> str | None:
    """Return the SQL of whether a value is lost, None if none can be."""
    column, before, after, _ = conversion
    if after.name == "STRING" or (after.name == "JSON" and before.name != "FLOAT64"):
        return None
    cast = _cast(conversion)
    value = as_text(column, before) if before.name == "JSON" else f"`{column}`"
    lost = f"{value} IS NOT NULL AND {cast} IS NULL"
    if before.name in {"DATETIME", "TIMESTAMP"}:
        if after.name == "TIME":
            return f"`{column}` IS NOT NULL"  # its day
        if after.name == "DATE":  # its time of day
            return f"IFNULL({lost} OR CAST({cast} AS {before}) != `{column}`, FALSE)"
    return lost


def kept_column(conversion: Conversion, columns: Iterable[str], claimed: Iterable[str]) -> Kept:
    """Return the column that takes the texts of lost values: `a_text` for column `a`.

    Args:
        conversion: what loses them.
        columns: names of the table's columns.
        claimed: names that the stream has for its columns.
    """
    taken = {name.lower() for name in (*columns, *claimed)}
    name = conversion.name[: LONGEST_COLUMN - len(KEPT_SUFFIX)] + KEPT_SUFFIX
    if name.lower() not in taken:
        return Kept(name, new=True)
    name = with_digest(name, conversion.name)
    return Kept(name, new=name.lower() not in taken)


def count(table: str, conversions: Iterable[Conversion], condition: str) -> str:
    """Return the query for the number of rows, and of those that lose a value, by conversion."""
    counts = ["COUNT(*)"]
    for conversion in conversions:
        lost = loses(conversion)
        counts.append(f"COUNTIF({lost})" if lost else "0")
    named = ", ".join(f"{value} AS n{index}" for index, value in enumerate(counts))
    return f"SELECT {named} FROM {table}{condition}"


def select(
    table: str,
    columns: Sequence[str],
    conversions: Iterable[Conversion],
    kept: Mapping[str, Kept],
    condition: str,
) -> str:
    """Return the query for a table's rows with other types.

    Args:
        table: quoted path.
        columns: of the table, in their order; the pseudo-column of the ingestion time too.
        conversions: of some of them.
        kept: where the texts of lost values go, by column.
        condition: of a table that can't be read without one.
    """
    values = {name: column_sql(name) for name in columns}
    for conversion in conversions:
        values[conversion.name] = f"{converted(conversion)} AS `{conversion.name}`"
        if conversion.name in kept:
            name, new = kept[conversion.name]
            text = as_text(conversion.name, conversion.before)
            other = "NULL" if new else f"`{name}`"
            values[name] = f"IF({loses(conversion)}, {text}, {other}) AS `{name}`"
    return f"SELECT {', '.join(values.values())} FROM {table}{condition}"


def schema(
    fields: Iterable[Mapping[str, Any]],
    conversions: Iterable[Conversion],
    kept: Mapping[str, Kept],
) -> list[dict[str, Any]]:
    """Return a table's columns with other types, as the API writes them.

    A column keeps its description and who may read it; what was of its type goes, such as a
    default. So do texts that are kept: nobody may read them who may not read the column.

    https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema

    Args:
        fields: the columns as the API gave them.
        conversions: of some of them.
        kept: where the texts of lost values go, by column; it can't be REQUIRED any longer.
    """
    after = {conversion.name: conversion for conversion in conversions}
    result: list[dict[str, Any]] = []
    texts: list[dict[str, Any]] = []
    for field in fields:
        conversion = after.get(field["name"])
        if conversion is None:
            result.append(dict(field))
            continue
        access = {name: field[name] for name in ("policyTags", "dataPolicies") if name in field}
        new = {"name": field["name"], "mode": field.get("mode", "NULLABLE"), **access}
        new |= {"type": conversion.after.name}
        if field.get("description"):
            new["description"] = field["description"]
        if conversion.after.precision is not None:
            new |= {
                "precision": str(conversion.after.precision),
                "scale": str(conversion.after.scale or 0),
            }
        result.append(new)
        if conversion.name not in kept:
            continue
        new["mode"] = "NULLABLE"
        if kept[conversion.name].new:
            why = f"Text of `{conversion.name}` that {conversion.after} can't hold"
            text = {"name": kept[conversion.name].name, "type": "STRING", "mode": "NULLABLE"}
            texts.append({**text, "description": why, **access})
    return [*result, *texts]
