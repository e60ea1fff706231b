"""Checksums that both databases can compute: SQL for the text of a value, and for a row's hash.

Where both sides write the same text, their values are equal. The reverse need not hold, such as for
JSON whose members were put in another order: the checksums then differ, and the values are read.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sandbox.diff.values import CONVERTED_LEAVES, Kind


class CommonText(NamedTuple):
    """How each side writes a value, as SQL with `{0}` for the column; null for null.

    Attributes:
        source: PostgreSQL, in a session as `sandbox.diff.source` sets it.
        warehouse: GoogleSQL.
        is_exact: Whether equal values always have equal texts, as far as BigQuery holds them.
    """

    source: str
    warehouse: str
    is_exact: bool


def common_text(kind: Kind, field_type: str) -> CommonText | None:
    """Return how both sides write the values of a column, if there is a way.

    Args:
        kind: Type of the column in the source.
        field_type: Type of the column in the warehouse, in SQL.
    """
    if field_type == "JSON":
        return _json(kind)
    if kind.is_array:
        return None
    return _BY_KIND.get((kind.name, field_type)) or _BY_FIELD_TYPE.get(field_type)


def source_checksum(texts: Sequence[str]) -> str:
    """Return SQL for a hash of a row of PostgreSQL, 60 bits, of the texts in it."""
    # BigQuery hashes the UTF-8 of a string. MD5 is faster, but servers in FIPS mode refuse it.
    return (
        f"('x' || substr(encode(sha256(convert_to({_joined(texts)}, 'UTF8')), 'hex'), 1, 15))"
        "::bit(60)::bigint"
    )


def warehouse_checksum(texts: Sequence[str]) -> str:
    """Return SQL for the same hash in BigQuery, as a number whose sum can't overflow."""
    digits = f"SUBSTR(TO_HEX(SHA256({_joined(texts)})), 1, 15)"
    return f"CAST(CAST(CONCAT('0x', {digits}) AS INT64) AS BIGNUMERIC)"


def _joined(texts: Sequence[str]) -> str:
    """Join so that no other values give the same: `!,` is between them, `!0` null, `!!` for `!`.

    Both databases understand this SQL.
    """
    escaped = (f"COALESCE(REPLACE({text}, '!', '!!'), '!0')" for text in texts)
    return f"ARRAY_TO_STRING(ARRAY[{', '.join(escaped)}], '!,')"


def _json(kind: Kind) -> CommonText | None:
    if kind.is_array and kind.name in CONVERTED_LEAVES:
        return None
    if not kind.is_array and kind.name not in _JSON_KINDS:
        return None
    text = "to_json({0})::text" if kind.is_array else "{0}::text"
    if kind.name in _JSON_KINDS:
        text = _COMPACT.format(text)
    return _inexact(f"COALESCE({text}, 'null')", "IFNULL(TO_JSON_STRING({0}), 'null')")


def _exact(source: str, warehouse: str) -> CommonText:
    return CommonText(source, warehouse, is_exact=True)


def _inexact(source: str, warehouse: str) -> CommonText:
    return CommonText(source, warehouse, is_exact=False)


_JSON_KINDS: Final = frozenset({"json", "jsonb"})
# Takes the blanks out that are not in a string.
_COMPACT: Final = r"""regexp_replace({}, '("(?:[^"\\]|\\.)*")|\s+', '\1', 'g')"""
# What the type's output function gives; a cast may give something else, of char(n) or inet. A row
# with a null in it would not be NOT NULL.
_OUTPUT: Final = "CASE WHEN {0} IS DISTINCT FROM NULL THEN concat({0}, '') END"
_NOT_FINITE: Final = "NULLIF(NULLIF(NULLIF({}, 'NaN'), 'Infinity'), '-Infinity')"
_CAST: Final = "CAST({0} AS STRING)"
_TRIMMED: Final = rf"REGEXP_REPLACE({_CAST}, r'(\.[0-9]*[1-9])0+$|\.0+$', r'\1')"
# The shortest digits that give the same double again, which is what PostgreSQL writes.
_SHORTEST: Final = (
    "CASE {0}"
    " WHEN CAST(FORMAT('%.15g', {0}) AS FLOAT64) THEN FORMAT('%.15g', {0})"
    " WHEN CAST(FORMAT('%.16g', {0}) AS FLOAT64) THEN FORMAT('%.16g', {0})"
    " ELSE FORMAT('%.17g', {0}) END"
)


def _micros(first: str, end: str) -> str:
    return (
        f"CASE WHEN {{0}} >= '{first}' AND {{0}} < '{end}'"
        " THEN (extract(epoch FROM {0}) * 1000000)::bigint::text END"
    )


_BY_FIELD_TYPE: Final = {
    "INT64": _exact(_OUTPUT, _CAST),
    "STRING": _exact(_OUTPUT, "{0}"),
    "BOOL": _exact(_OUTPUT, "CASE {0} WHEN TRUE THEN 't' WHEN FALSE THEN 'f' END"),
    "NUMERIC": _exact(_OUTPUT, _TRIMMED),
    "BIGNUMERIC": _exact(_OUTPUT, _TRIMMED),
}
_NUMERIC: Final = _exact(_NOT_FINITE.format("trim_scale({0})::text"), _TRIMMED)
_NUMBERS: Final = ("int2", "int4", "int8", "numeric", "float4", "float8")
_FLOAT: Final = _inexact(_NOT_FINITE.format(_OUTPUT), _SHORTEST)
# What the warehouse can't hold is null there, and so it is here.
_BY_KIND: Final = {
    ("numeric", "NUMERIC"): _NUMERIC,
    ("numeric", "BIGNUMERIC"): _NUMERIC,
    ("numeric", "STRING"): _exact(_NOT_FINITE.format(_OUTPUT), "{0}"),
    **{(name, "FLOAT64"): _FLOAT for name in _NUMBERS},
    ("bytea", "BYTES"): _exact(_OUTPUT, r"CONCAT(r'\x', TO_HEX({0}))"),
    ("date", "DATE"): _exact(
        "CASE WHEN {0} BETWEEN '0001-01-01' AND '9999-12-31' THEN {0}::text END", _CAST
    ),
    ("time", "TIME"): _exact(
        _micros("00:00", "24:00"), "CAST(TIME_DIFF({0}, TIME '00:00:00', MICROSECOND) AS STRING)"
    ),
    ("timestamp", "DATETIME"): _exact(
        _micros("0001-01-01", "10000-01-01"), "CAST(UNIX_MICROS(TIMESTAMP({0})) AS STRING)"
    ),
    ("timestamptz", "TIMESTAMP"): _exact(
        _micros("0001-01-01", "10000-01-01"), "CAST(UNIX_MICROS({0}) AS STRING)"
    ),
    # PostgreSQL leaves the minutes of the zone out when they are none, the warehouse has them.
    ("timetz", "STRING"): _exact(
        r"CASE WHEN {0}::text !~ '^24|[+-]\d\d:\d\d:\d\d$'"
        r" THEN regexp_replace({0}::text, '([+-]\d\d)$', '\1:00') END",
        "{0}",
    ),
}
