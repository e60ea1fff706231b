"""Conversions that take more than an expression; text of the server in, JSON out, both as bytes."""

import re
from binascii import b2a_base64, unhexlify
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple

import msgspec


class Loss(NamedTuple):
    """Why some values can't be written as they are, and what becomes of them; both go on "they"."""

    why: str
    became: str

    def of_row(self, key: str) -> "Loss":
        """The same, in the row with a key."""
        return self._replace(why=f"{self.why}, in the row with key {key}")


UNREPRESENTABLE: Final = Loss(
    "JSON has no form for them (NaN, infinity, 24:00, or a year outside 1 to 9999)", "became null"
)
NESTED: Final = Loss("they are nested deeper than 500 levels", "became null")
SURROGATE: Final = Loss(
    r"they hold half of a pair of surrogates, such as \ud83d alone", r"got \ufffd in its place"
)

NOT_UTF8: Final = Loss(
    "they are not UTF-8 and the database's encoding is SQL_ASCII (those written in LATIN1 become "
    "right with UPDATE … SET c = convert_from(convert(convert_to(c, 'SQL_ASCII'), 'LATIN1', "
    "'UTF8'), 'SQL_ASCII') WHERE …)",
    "got U+FFFD in some places",
)

# Counts a value that can't be written, and gives what is written instead.
Lost = Callable[[Loss, bytes], bytes]

text: Final[Callable[[str], bytes]] = msgspec.json.Encoder().encode

# Line breaks between the tokens of a JSON text become spaces; inside its strings there are none.
ONE_LINE: Final = bytes.maketrans(b"\n\r", b"  ")

_SURROGATE: Final = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL
)
# See https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#json_type.
_MOST_LEVELS: Final = 500
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_STRUCTURE: Final = bytes({*range(256)} - {*b'{}[]"'})
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_TIME_ZONE: Final = re.compile(rb"([+-]\d\d)(:\d\d)?")


def utf8(v: bytes, lost: Lost) -> bytes:
    """The same, with U+FFFD for what is not UTF-8."""
    try:
        v.decode()
    except UnicodeDecodeError:
        return lost(NOT_UTF8, v.decode(errors="replace").encode())
    return v


def base64(v: bytes) -> bytes:
    r"""JSON of a bytea, whose text is `\x` and hexadecimal digits."""
    return b'"%b"' % b2a_base64(unhexlify(v[2:]), newline=False)


def zoned_time(v: bytes) -> bytes | None:
    """JSON of a timetz; None where RFC 3339 has no form for it: 24:00 or seconds in the offset."""
    cut = max(v.rfind(b"+"), v.rfind(b"-"))
    offset = _TIME_ZONE.fullmatch(v, cut)
    if offset is None or v[:2] == b"24":
        return None
    return b'"%b%b"' % (v, b"" if offset[2] else b":00")


def json_text(v: bytes, lost: Lost) -> bytes:
    """JSON of a json, which the server stores as it was written."""
    v = v.translate(ONE_LINE)
    if b"\\u" in v:
        mended = _SURROGATE.sub(lambda match: rb"\ufffd" if match[1] else match[0], v)
        if mended != v:
            v = lost(SURROGATE, mended)
    return json_value(v, lost)


def json_value(v: bytes, lost: Lost) -> bytes:
    """JSON of a jsonb, unless BigQuery could not read it."""
    # Each level takes two characters.
    if len(v) > 2 * _MOST_LEVELS and v.count(b"[") + v.count(b"{") > _MOST_LEVELS and _is_deep(v):
        return lost(NESTED, b"null")
    return v


def _is_deep(v: bytes) -> bool:
    """Whether a JSON text has too many levels: each round takes the innermost away."""
    unescaped = v.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = unescaped.translate(_SQUARE, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in brackets:  # some are within strings
        brackets = b"".join(brackets.split(b'"')[::2])
    for _ in range(_MOST_LEVELS):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def array(v: bytes, delimiter: bytes, item: Callable[[bytes], bytes]) -> bytes:
    """JSON of an array, whose text is in braces, with quotes where elements need them.

    See https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO.
    """
    if v.startswith(b"["):  # bounds other than 1 come first, as in [0:1]={…}
        v = v[v.index(b"=") + 1 :]
    levels: list[list[bytes]] = [[]]
    for match in _array_token(delimiter).finditer(v):
        quoted, bare, brace = match.groups()
        if brace == b"{":
            levels.append([])
        elif brace == b"}":
            inner = levels.pop()
            levels[-1].append(b"[%b]" % b",".join(inner))
        elif bare is not None:
            levels[-1].append(b"null" if bare == b"NULL" else item(bare))
        else:
            levels[-1].append(item(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted))
    return levels[0][0]


@cache
def _array_token(delimiter: bytes) -> re.Pattern[bytes]:
    bare = rb'[^{}"%b]+' % re.escape(delimiter)
    return re.compile(rb'"((?:[^"\\]|\\.)*)"|(%b)|([{}])' % bare, re.DOTALL)
