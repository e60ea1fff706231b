"""Values in forms beside the usual ones, as taps of many makers write them.

Each function is for what the fast path refused. What comes back is the same value, unless its
`change` says what was lost; a value that is none of its type stays as it is, and is refused again.
"""

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

from target_bigquery.repair import mended, spelt
from target_bigquery.values import NUMBER

NULLED = "became null, as the column can't hold them"
MENDED = "had broken characters, which became U+FFFD"
SPELT = "had numbers that JSON in BigQuery can't hold, which became text"
CUT = "had more than six digits of a second, of which six were kept"
MOVED = "had a time zone, and became the time in UTC"

_LONG = re.compile(
    r"(?P<kept>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6})(?P<cut>[0-9]+)"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})"
)
_LOST_DIGITS = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
_INT64_DIGITS = 19
_LONGEST = 100  # digits: more than BigQuery's widest number has
_TRUE = {"true", "t", "yes", "y", "on", "1"}
_FALSE = {"false", "f", "no", "n", "off", "0"}

Tidied = tuple[Any, str | None]


def from_json(kind: str, raw: bytes) -> Any:
    """Return the value for a column from JSON of another type, such as `"12"` or `12.0` for INT64.

    Args:
        kind: name of the column's type.
        raw: the JSON.

    Raises:
        ValueError: it is no value of that type.
    """
    match kind:
        case "INT64":
            return _integer(raw)
        case "FLOAT64":
            number = float(_number(raw))
            if number in {float("inf"), float("-inf")}:
                raise ValueError("out of range")
            return number
        case "BOOL":
            return _flag(raw)
        case "BYTES":
            return _bytes(msgspec.json.decode(raw, type=str))
        case "STRING":
            return raw.decode()
    raise ValueError("not a value of the column's type")


def tidied(kind: str, value: Any) -> Tidied:
    """Return a value as the fast path takes it, and what was changed, None if nothing was.

    Args:
        kind: name of the column's type.
        value: text, or JSON for the types that are decoded as such.
    """
    try:
        tidy = _TIDY.get(kind)
        return tidy(value) if tidy is not None and value is not None else (value, None)
    except (ValueError, ArithmeticError):
        return value, None


def _integer(raw: bytes) -> int:
    if raw in {b"true", b"false"}:
        return int(raw == b"true")
    number = _number(raw)
    if number.adjusted() >= _INT64_DIGITS or number != int(number):
        raise ValueError("not an integer of 64 bits")
    return int(number)


def _number(raw: bytes) -> Decimal:
    """Return the number that JSON, or the text in a string, is."""
    text = msgspec.json.decode(raw, type=str).strip() if raw[:1] == b'"' else raw.decode()
    if not NUMBER.fullmatch(text):
        raise ValueError("not a number")
    return Decimal(text)


def _flag(raw: bytes) -> bool:
    text = raw.strip(b'"').decode().strip().lower().removesuffix(".0")
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("neither true nor false")


def _bytes(text: str) -> bytes:
    """Decode base64 in lines, of the URL's alphabet, or without its padding."""
    digits = "".join(text.split()).rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _decimal(raw: msgspec.Raw) -> Tidied:
    number = _number(bytes(raw))
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or len(digits) + abs(exponent) > _LONGEST:
        return raw, None
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return msgspec.Raw(f'"{text}"'.encode()), None


def _json(raw: msgspec.Raw) -> Tidied:
    text = bytes(raw)
    whole = mended(text)
    tame = spelt(whole)
    if tame != whole:
        return msgspec.Raw(tame), SPELT
    return (msgspec.Raw(whole), MENDED) if whole != text else (raw, None)


def _verbatim(raw: Any) -> Tidied:
    if isinstance(raw, str):
        return raw, None
    text = mended(bytes(raw))
    return (msgspec.Raw(text), MENDED) if text != bytes(raw) else (raw, None)


def _moment(text: str) -> tuple[datetime, str | None]:
    """Parse a moment with a lower-case t or z, more digits, other separators or no zone."""
    upper = text.strip().upper()
    if upper.endswith(" UTC"):
        upper = upper.removesuffix(" UTC") + "Z"
    return datetime.fromisoformat(upper), CUT if _LOST_DIGITS.search(upper) else None


def _utc(text: str) -> tuple[str, str | None]:
    moment, change = _moment(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return moment.isoformat(), change


def _timestamp(text: str) -> Tidied:
    if usual := _LONG.fullmatch(text):  # as Go, Java and .NET write them: in a tenth of the time
        return f"{usual['kept']}{usual['zone']}", CUT if usual["cut"].strip("0") else None
    moment, change = _utc(text)
    return f"{moment}Z", change


def _date(text: str) -> Tidied:
    """Take the day of a midnight, wherever that is; no other moment is one."""
    moment, _ = _moment(text)
    midnight = moment.time() == time()
    return (moment.date().isoformat() if midnight else text), None


def _time(text: str) -> Tidied:
    upper = text.strip().upper()
    clock = time.fromisoformat(upper)
    change = CUT if _LOST_DIGITS.search(upper) else None
    if clock.utcoffset():
        moment = datetime(2000, 1, 2, tzinfo=clock.tzinfo)
        clock, change = datetime.combine(moment, clock).astimezone(UTC).timetz(), MOVED
    return clock.replace(tzinfo=None).isoformat(), change


_TIDY: dict[str, Callable[[Any], Tidied]] = {
    "NUMERIC": _decimal,
    "BIGNUMERIC": _decimal,
    "JSON": _json,
    "STRING": _verbatim,
    "DATE": _date,
    "TIME": _time,
    "DATETIME": _utc,
    "TIMESTAMP": _timestamp,
}
