"""One form for a value of the source and a value of the warehouse, so that `==` compares them.

What the pipeline can't carry is null on both sides: NaN and infinities, 24:00, dates outside the
years 1 to 9999. JSON is compared by value: BigQuery keeps neither the order of members nor the way
a number was written. https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types
"""

import base64
import json
import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final, NamedTuple

Convert = Callable[[str], Any]

_ZONE: Final = re.compile(r"[+-]\d\d(:\d\d)?$")
_ZONE_WITH_SECONDS: Final = re.compile(r"[+-]\d\d:\d\d:\d\d$")


class Kind(NamedTuple):
    """What a column of the source holds: a built-in type below all domains, or an array of it.

    A type that is not built in counts as `text`, as what its output function gives.
    """

    name: str
    is_array: bool = False


def source_value(kind: Kind, field_type: str) -> Convert:
    """Return what makes a value of PostgreSQL's text; the text of an array is that of its JSON.

    Args:
        kind: Type of the column in the source.
        field_type: Type of the column in the warehouse, in SQL.
    """
    if field_type == "JSON":
        if kind.is_array:
            leaf = CONVERTED_LEAVES.get(kind.name, _as_it_is)
            number: Convert = Decimal if kind.name == "numeric" else json_number
            return lambda text: _array(text, leaf, number)
        return json_value
    if field_type == "STRING" and kind.name in _TEXTS:
        return _TEXTS[kind.name]
    return _BY_FIELD_TYPE.get(field_type, _as_it_is)


def warehouse_value(kind: Kind, field_type: str) -> Convert | None:
    """Return what makes a value of the warehouse's JSON text; None for the other types."""
    if field_type != "JSON":
        return None
    if kind.is_array:
        leaf = _WAREHOUSE_LEAVES.get(kind.name, _as_it_is)
        return lambda text: _array(text, leaf, json_number)
    return json_value


def json_value(text: str) -> str | None:
    """Return a JSON value as text that is the same for equal values; None for null."""
    return _canonical(json.loads(text, parse_int=json_number, parse_float=json_number))


def json_number(text: str) -> int | float:
    """Return a number as BigQuery keeps it: a whole one of 64 bits, or a double."""
    number = float(text)
    if text.lstrip("-").isdigit():
        whole = int(text)
        return whole if -(2**63) <= whole < 2**64 else number
    return int(number) if number.is_integer() and abs(number) < 2**63 else number


def _canonical(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True)


def _array(text: str, leaf: Callable[[Any], Any], number: Convert) -> str | None:
    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(item) for item in value]
        return None if value is None else leaf(value)

    return _canonical(convert(json.loads(text, parse_int=number, parse_float=number)))


def _as_it_is(value: Any) -> Any:
    return value


def _float(text: str) -> float | None:
    number = float(text)
    return number if abs(number) < float("inf") else None


def _decimal(text: str) -> Decimal | None:
    number = Decimal(text)
    return number if number.is_finite() else None


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("\\x"))


def _or_as_it_is(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A value that does not fit the type is given as it is: it will not equal the other side's."""

    def convert(value: Any) -> Any:
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            return value

    return convert


def _in_range(parse: Callable[[str], Any]) -> Convert:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError:
            return None

    return convert


def _text_in_range(parse: Callable[[str], Any]) -> Convert:
    convert = _in_range(parse)
    return lambda text: None if convert(text) is None else text


def _numeric_text(text: str) -> str | None:
    return None if _decimal(text) is None else text


def _zoned_time(text: str) -> str | None:
    """A time with the minutes of its zone, which PostgreSQL leaves out when they are none."""
    zone = _ZONE.search(text)
    if text.startswith("24") or zone is None or _ZONE_WITH_SECONDS.search(text):
        return None
    return text if zone[1] else f"{text}:00"


def _digits(value: str | Decimal) -> str | None:
    number = _decimal(str(value))
    # Adding zero turns -0 into 0.
    return None if number is None else f"{number.normalize() + 0:f}"


_BY_FIELD_TYPE: Final[dict[str, Convert]] = {
    "INT64": _or_as_it_is(int),
    "FLOAT64": _or_as_it_is(_float),
    "NUMERIC": _or_as_it_is(_decimal),
    "BIGNUMERIC": _or_as_it_is(_decimal),
    "BOOL": lambda text: text == "t",
    "BYTES": _or_as_it_is(_bytes),
    "DATE": _in_range(date.fromisoformat),
    "TIME": _in_range(time.fromisoformat),
    "DATETIME": _in_range(datetime.fromisoformat),
    "TIMESTAMP": _in_range(datetime.fromisoformat),
}
_TEXTS: Final[dict[str, Convert]] = {"timetz": _zoned_time, "numeric": _numeric_text}
# The elements of an array, which PostgreSQL's to_jsonb writes in another way than the tap.
CONVERTED_LEAVES: Final[dict[str, Callable[[Any], Any]]] = {
    "numeric": _digits,
    "float4": lambda value: None if isinstance(value, str) else value,
    "float8": lambda value: None if isinstance(value, str) else value,
    "bytea": lambda value: base64.b64encode(_bytes(value)).decode(),
    "date": _text_in_range(date.fromisoformat),
    "time": _text_in_range(time.fromisoformat),
    "timetz": _zoned_time,
    "timestamp": _text_in_range(datetime.fromisoformat),
    "timestamptz": _text_in_range(datetime.fromisoformat),
}
_WAREHOUSE_LEAVES: Final[dict[str, Callable[[Any], Any]]] = {"numeric": _or_as_it_is(_digits)}
