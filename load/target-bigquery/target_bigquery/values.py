"""From decoded JSON values to Arrow columns: exact, a column at a time.

Each function takes the values of one column and returns one array. A value that can't be held
raises; `refused` then finds it, so the fast path never looks at single values.
"""

import re
from array import array
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Context, Decimal
from itertools import accumulate, pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from target_bigquery.column_types import BigQueryType
from target_bigquery.repair import DEEPEST, is_too_deep, may_have_wide_numbers, spelt

NULL = msgspec.Raw(b"null")
# What BigQuery casts to a number; Python takes more, such as digits of other scripts.
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
NUMERIC_LIMIT = 1e29
NUMERIC_LARGEST = Decimal("99999999999999999999999999999.999999999")
NUMERIC_SCALE = 9
BIGNUMERIC_LIMIT = 1e38
BIGNUMERIC_LARGEST = Decimal(
    "5.7896044618658097711785492504343953926634992332820282019728792003956564819967E+38"
)
BIGNUMERIC_SCALE = 38
FIRST_DAY, LAST_DAY = ((day - date(1970, 1, 1)).days for day in (date.min, date.max))
FIRST_MOMENT = FIRST_DAY * 86_400_000_000  # microseconds
LAST_MOMENT = (LAST_DAY + 1) * 86_400_000_000 - 1
# What a number beyond the range of 64 bits has, where a number can be; strings have it as well.
_WIDE = r"(?:^|[\[:,\s])-?[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]{3}|[0-9]{200}"
_EXACT = Context(prec=1000)  # Python's own rounds to 28 digits

# What a staged column is in Parquet. BIGNUMERIC and JSON travel as text: a load job can't make
# either from Parquet.
# https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#type_conversions
ARROW_TYPES: dict[str, pa.DataType] = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.string(),
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "JSON": pa.string(),
}

Converter = Callable[[Sequence[Any]], pa.Array]
REFUSALS = (pa.ArrowException, OverflowError, ValueError)  # what a converter raises


def converter(
    column_type: BigQueryType, *, verbatim: bool, decimal: bool, document: bool = False
) -> Converter:
    """Return the function that turns a column's decoded values into Arrow.

    Args:
        column_type: type of the column in the table.
        verbatim: the property takes any JSON value, the column keeps its text.
        decimal: the property is a decimal, its digits come as text or as a number.
        document: the property is JSON, the column keeps its text, strings in their quotes.
    """
    name = column_type.name
    if name == "STRING" and document:
        return _raw_text
    if name == "STRING" and verbatim:
        return _verbatim
    if name == "FLOAT64" and decimal:
        return _float
    special: dict[str, Converter] = {
        "NUMERIC": _numeric,
        "BIGNUMERIC": _bignumeric(column_type),
        "JSON": _json,
        "DATE": _date,
        "TIME": _time,
        "DATETIME": _datetime,
        "TIMESTAMP": _timestamp,
    }
    if name in special:
        return special[name]
    arrow_type = ARROW_TYPES[name]
    return lambda values: pa.array(values, arrow_type)


def refused(convert: Converter, values: Sequence[Any]) -> list[int]:
    """Return the indexes of the values that `convert` refuses: it halves them until one is left."""
    if holds(convert, values):
        return []
    if len(values) == 1:
        return [0]
    half = len(values) // 2
    later = refused(convert, values[half:])
    return [*refused(convert, values[:half]), *(half + at for at in later)]


def holds(convert: Converter, values: Sequence[Any]) -> bool:
    """Tell if `convert` takes the values."""
    try:
        convert(values)
    except REFUSALS:
        return False
    return True


def _raw_text(values: Sequence[msgspec.Raw]) -> pa.StringArray:
    """Join raw JSON values into one buffer: no Python string is made. JSON null becomes null."""
    return _text(array("i", accumulate(map(len, values), initial=0)), b"".join(values))


def _text(offsets: "array[int]", joined: bytes) -> pa.StringArray:
    text = pa.StringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(joined)
    )
    text.validate(full=True)  # msgspec does not check that raw values are UTF-8
    return pc.if_else(pc.equal(text, "null"), None, text)


def _json(values: Sequence[msgspec.Raw]) -> pa.Array:
    offsets = array("i", accumulate(map(len, values), initial=0))
    joined = b"".join(values)
    if len(joined) > 2 * DEEPEST:
        for start, end in pairwise(offsets):
            if end - start > 2 * DEEPEST and is_too_deep(joined, start, end):
                raise ValueError("nested too deep")
    text = _text(offsets, joined)
    if may_have_wide_numbers(joined):
        for document in pc.filter(text, pc.match_substring_regex(text, _WIDE)).to_pylist():
            if spelt(document.encode()) != document.encode():
                raise ValueError("a number out of range")
    return text


def _digits(values: Sequence[msgspec.Raw]) -> pa.Array:
    return pc.utf8_trim(_raw_text(values), '"')


def _float(values: Sequence[msgspec.Raw]) -> pa.Array:
    digits = _digits(values)
    numbers = digits.cast(pa.float64())
    infinite = pc.filter(digits, pc.is_inf(numbers)).to_pylist()
    if any(text.strip("+-").lower() not in {"inf", "infinity"} for text in infinite):
        raise ValueError("a number out of range")  # Arrow makes infinity of 1e999
    return numbers


def _numeric(values: Sequence[msgspec.Raw]) -> pa.Array:
    digits = _digits(values)
    if not _below(digits, NUMERIC_LIMIT):
        for value in digits.to_pylist():
            _check_decimal(value, NUMERIC_LARGEST, NUMERIC_SCALE)
    return digits.cast(ARROW_TYPES["NUMERIC"])


def _bignumeric(column_type: BigQueryType) -> Converter:
    """Return the function for a BIGNUMERIC, with the limits of its precision if it has one."""
    limit, largest, scale = BIGNUMERIC_LIMIT, BIGNUMERIC_LARGEST, BIGNUMERIC_SCALE
    if column_type.precision is not None:
        scale = column_type.scale or 0
        largest = Decimal(10**column_type.precision - 1).scaleb(-scale, _EXACT)
        limit = float(largest) * (1 - 1e-9)

    def convert(values: Sequence[msgspec.Raw]) -> pa.Array:
        digits = _digits(values)
        try:
            if _below(digits, limit):
                digits.cast(pa.decimal256(76, scale))
                return digits
        except pa.ArrowException:
            pass  # such as 1.500 of scale 1: the check below takes it
        for value in digits.to_pylist():
            _check_decimal(value, largest, scale)
        return digits

    return convert


def _below(digits: pa.Array, limit: float) -> bool:
    """Tell if every number is surely below `limit`.

    Arrow's cast to a decimal overflows without an error.
    """
    bounds = pc.min_max(digits.cast(pa.float64())).as_py()
    return bounds["max"] is None or (bounds["max"] < limit and bounds["min"] > -limit)


def _check_decimal(value: str | None, largest: Decimal, scale: int) -> None:
    if value is None:
        return
    if not NUMBER.fullmatch(value):
        raise ValueError("not a number")
    number = _EXACT.normalize(Decimal(value))
    exponent = number.as_tuple().exponent
    if number.copy_abs() > largest or not isinstance(exponent, int) or -exponent > scale:
        raise ValueError("too many digits")


def _verbatim(values: Sequence[msgspec.Raw]) -> pa.Array:
    texts: list[str | None] = []
    for raw in values:
        text = bytes(raw)
        if text.startswith(b'"'):
            texts.append(msgspec.json.decode(text, type=str))
        else:
            texts.append(None if text == b"null" else text.decode())
    return pa.array(texts, pa.string())


def _date(values: Sequence[str | None]) -> pa.Array:
    days = pa.array(values, pa.string()).cast(pa.date32())
    return _within(days, pa.int32(), FIRST_DAY, LAST_DAY)


def _within(moments: pa.Array, integer: pa.DataType, first: int, last: int) -> pa.Array:
    """Return what BigQuery holds, years 1 to 9999; Arrow reads year 0, and a zone can add a day."""
    bounds = pc.min_max(moments.view(integer)).as_py()
    if bounds["min"] is not None and not first <= bounds["min"] <= bounds["max"] <= last:
        raise ValueError("not of a year from 1 to 9999")
    return moments


def _time(values: Sequence[str | None]) -> pa.Array:
    texts = pa.array(values, pa.string())
    moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp("us"))
    return moments.cast(pa.time64("us"))


def _timestamp(values: Sequence[str | None]) -> pa.Array:
    return _moments(values, pa.timestamp("us", "UTC"))


def _datetime(values: Sequence[str | None]) -> pa.Array:
    return _moments(values, pa.timestamp("us"))


def _moments(values: Sequence[str | None], kind: pa.DataType) -> pa.Array:
    texts = pa.array(values, pa.string())
    try:
        moments = texts.cast(kind)
    except pa.ArrowInvalid:
        # Without a zone it is UTC, and a column without zones has UTC.
        moments = texts.cast(_OTHER[kind]).cast(kind)
    return _within(moments, pa.int64(), FIRST_MOMENT, LAST_MOMENT)


_OTHER = {
    pa.timestamp("us"): pa.timestamp("us", "UTC"),
    pa.timestamp("us", "UTC"): pa.timestamp("us"),
}
