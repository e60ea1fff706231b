"""From decoded JSON values to Arrow columns: exact, a column at a time.

Each function takes the values of one column and returns one array. A value that can't be held
raises; `offender` then finds it, so the fast path never looks at single values.
"""

from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from itertools import accumulate
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from target_bigquery.column_types import BigQueryType

NULL = msgspec.Raw(b"null")
NUMERIC_LIMIT = 1e29
NUMERIC_LARGEST = Decimal("99999999999999999999999999999.999999999")
NUMERIC_SCALE = 9
BIGNUMERIC_LIMIT = 1e38
BIGNUMERIC_LARGEST = Decimal(
    "5.7896044618658097711785492504343953926634992332820282019728792003956564819967E+38"
)
BIGNUMERIC_SCALE = 38
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


def converter(column_type: BigQueryType, *, verbatim: bool, decimal: bool) -> Converter:
    """Return the function that turns a column's decoded values into Arrow.

    Args:
        column_type: type of the column in the table.
        verbatim: the property takes any JSON value, the column keeps its text.
        decimal: the property is a decimal, its digits come as text or as a number.
    """
    name = column_type.name
    if name == "STRING" and verbatim:
        return _verbatim
    if name == "FLOAT64" and decimal:
        return lambda values: _digits(values).cast(pa.float64())
    special: dict[str, Converter] = {
        "NUMERIC": _numeric,
        "BIGNUMERIC": _bignumeric,
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


def offender(convert: Converter, values: Sequence[Any]) -> tuple[Any, str]:
    """Return the first value that `convert` refuses, and why.

    Halves the values until one is left.
    """
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        if _refusal(convert, values[low:middle]) is not None:
            high = middle
        else:
            low = middle
    value = values[low]
    why = _refusal(convert, [value]) or "can't be loaded"
    if isinstance(value, msgspec.Raw):
        value = bytes(value).decode(errors="replace")
    return value, why


def _refusal(convert: Converter, values: Sequence[Any]) -> str | None:
    try:
        convert(values)
    except (pa.ArrowException, OverflowError, ValueError) as error:
        return " ".join(str(error).split())
    return None


def _raw_text(values: Sequence[msgspec.Raw]) -> pa.StringArray:
    """Join raw JSON values into one buffer: no Python string is made. JSON null becomes null."""
    offsets = array("i", accumulate(map(len, values), initial=0))
    text = pa.StringArray.from_buffers(
        len(values), pa.py_buffer(offsets), pa.py_buffer(b"".join(values))
    )
    text.validate(full=True)  # msgspec does not check that raw values are UTF-8
    return pc.if_else(pc.equal(text, "null"), None, text)


def _json(values: Sequence[msgspec.Raw]) -> pa.Array:
    return _raw_text(values)


def _digits(values: Sequence[msgspec.Raw]) -> pa.Array:
    return pc.utf8_trim(_raw_text(values), '"')


def _numeric(values: Sequence[msgspec.Raw]) -> pa.Array:
    digits = _digits(values)
    if not _below(digits, NUMERIC_LIMIT):
        for value in digits.to_pylist():
            _check_decimal(
                value,
                NUMERIC_LARGEST,
                NUMERIC_SCALE,
                "NUMERIC (29 digits before the point, 9 after it)",
            )
    return digits.cast(ARROW_TYPES["NUMERIC"])


def _bignumeric(values: Sequence[msgspec.Raw]) -> pa.Array:
    digits = _digits(values)
    try:
        if _below(digits, BIGNUMERIC_LIMIT):
            digits.cast(pa.decimal256(76, BIGNUMERIC_SCALE))
            return digits
    except pa.ArrowException:
        pass  # the check below says what is wrong
    for value in digits.to_pylist():
        _check_decimal(
            value,
            BIGNUMERIC_LARGEST,
            BIGNUMERIC_SCALE,
            "BIGNUMERIC (38 digits on each side of the point)",
        )
    return digits


def _below(digits: pa.Array, limit: float) -> bool:
    """Tell if every number is surely below `limit`.

    Arrow's cast to a decimal overflows without an error.
    """
    bounds = pc.min_max(digits.cast(pa.float64())).as_py()
    return bounds["max"] is None or (bounds["max"] < limit and bounds["min"] > -limit)


def _check_decimal(value: str | None, largest: Decimal, scale: int, holder: str) -> None:
    if value is None:
        return
    try:
        number = _EXACT.normalize(Decimal(value))
    except ArithmeticError:
        raise ValueError("not a number") from None
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"a decimal column can't hold {value}")  # noqa: TRY004  # the value is wrong
    if number.copy_abs() > largest or -exponent > scale:
        raise ValueError(f"does not fit into {holder}")


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
    try:
        return pa.array(values, pa.string()).cast(pa.date32())
    except pa.ArrowInvalid:
        return pa.array(
            [None if value is None else _parse_date(value) for value in values], pa.date32()
        )


def _parse_date(value: str) -> date:
    moment = _parse_moment(value)
    if moment.timetz().replace(tzinfo=None) != time():
        raise ValueError("a DATE column can't keep the time of day")
    return moment.date()


def _time(values: Sequence[str | None]) -> pa.Array:
    texts = pa.array(values, pa.string())
    try:
        moments = pc.binary_join_element_wise("1970-01-01T", texts, "").cast(pa.timestamp("us"))
        return moments.cast(pa.time64("us"))
    except pa.ArrowInvalid:
        return pa.array(
            [None if value is None else _parse_time(value) for value in values], pa.time64("us")
        )


def _parse_time(value: str) -> time:
    parsed = time.fromisoformat(value)
    if parsed.tzinfo is not None and parsed.utcoffset():
        raise ValueError("a TIME column can't keep a time zone")
    return parsed.replace(tzinfo=None)


def _timestamp(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string()).cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return _moments(values).cast(pa.timestamp("us", "UTC"))


def _datetime(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string()).cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return _moments(values).cast(pa.timestamp("us"))


def _moments(values: Sequence[str | None]) -> pa.Array:
    """Parse one by one what Arrow does not read, such as a moment without zone: it is UTC."""
    return pa.array(
        [None if value is None else _parse_moment(value) for value in values],
        pa.timestamp("us", "UTC"),
    )


def _parse_moment(value: str) -> datetime:
    moment = datetime.fromisoformat(value.strip())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
