"""Conversions that take more than an expression; text of the server in, JSON out, both as bytes."""

import re
from binascii import b2a_base64, unhexlify
from collections.abc import Callable
from functools import cache
from typing import Final

import msgspec

text: Final[Callable[[str], bytes]] = msgspec.json.Encoder().encode

# Line breaks between the tokens of a JSON text become spaces; inside its strings there are none.
ONE_LINE: Final = bytes.maketrans(b"\n\r", b"  ")

_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_TIME_ZONE: Final = re.compile(rb"([+-]\d\d)(:\d\d)?")


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
