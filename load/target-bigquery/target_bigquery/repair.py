"""JSON that no decoder takes, because of the text of a value: made good in the text itself.

A lone UTF-16 surrogate and bytes that are not UTF-8 become U+FFFD; a value that is nested deeper
than BigQuery allows becomes null; NaN and Infinity, which Python writes without quotes, become
strings. So do numbers beyond the range of 64 bits, which `PARSE_JSON` refuses.
https://cloud.google.com/bigquery/quotas#all_tables
https://cloud.google.com/bigquery/docs/reference/standard-sql/json_functions#parse_json
"""

import math
import re

DEEPEST = 500  # levels of JSON
_AROUND = 2  # levels that a value of a record is in: the message and the record

# `undecodable` are bytes that are not UTF-8, in the form of Python's `surrogateescape`.
_CHARACTERS = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|\\."
    "|(?P<undecodable>[\udc80-\udcff])",
    re.DOTALL,
)
_SURROGATES = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_STRING = rb'"(?:[^"\\]|\\.)*"'
_WORDS = re.compile(_STRING + rb"|(?P<word>-?\b(?:NaN|Infinity)\b)", re.DOTALL)
_NUMBERS = re.compile(_STRING + rb"|(?P<number>-?[0-9][0-9.eE+-]*)", re.DOTALL)
_CONTROLS = re.compile(rb"[\x00-\x1f]")
_ALIKE = bytes.maketrans(b"123456789E", b"000000000e")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def repaired(
    line: bytes, character: str = "\ufffd", deep: bytes = b"null", word: bytes = b'"%s"'
) -> bytes:
    """Return a RECORD with what can't be decoded replaced.

    Args:
        line: the message.
        character: instead of one that is broken.
        deep: JSON, instead of a value that is nested too deep.
        word: form of the JSON instead of NaN or Infinity.
    """
    whole = _flattened(mended(line, character), deep)
    if not (_CONTROLS.search(whole) or b"NaN" in whole or b"Infinity" in whole):
        return whole

    def quoted(match: re.Match[bytes]) -> bytes:
        if match["word"]:
            return word % match["word"]
        return _CONTROLS.sub(lambda control: b"\\u%04x" % control[0][0], match[0])

    return _WORDS.sub(quoted, whole)


def spelt(text: bytes) -> bytes:
    """Return JSON with the numbers beyond the range of 64 bits in quotes."""

    def quoted(match: re.Match[bytes]) -> bytes:
        number = match["number"]
        return b'"%s"' % number if number and math.isinf(float(number)) else match[0]

    return _NUMBERS.sub(quoted, text)


def may_have_wide_numbers(text: bytes) -> bool:
    """Tell if JSON could have a number beyond the range of 64 bits: quick, and never wrongly no.

    Such a one has an exponent of three digits, or 200 digits in a row.
    """
    alike = text.translate(_ALIKE)
    return b"0e000" in alike or b"0e+000" in alike or b"0" * 200 in alike


def mended(text: bytes, character: str = "\ufffd") -> bytes:
    """Return JSON with its broken characters replaced."""
    if not _SURROGATES.search(text) and _is_utf8(text):
        return text

    def whole(match: re.Match[str]) -> str:
        return character if match["lone"] or match["undecodable"] else match[0]

    return _CHARACTERS.sub(whole, text.decode(errors="surrogateescape")).encode()


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_too_deep(texts: bytes, start: int, end: int) -> bool:
    """Tell if a JSON value has more levels than BigQuery takes; fast for those that have not."""
    if texts.count(b"[", start, end) + texts.count(b"{", start, end) <= DEEPEST:
        return False
    text = texts[start:end]
    brackets = text.translate(None, _NO_BRACKETS)
    for left in range(DEEPEST, 0, -1):  # levels; each pass takes the innermost ones away
        if len(brackets) <= 2 * left:
            return False
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    return bool(brackets) and _depth(text) > DEEPEST  # brackets in strings count no more


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for match in _TOKENS.finditer(text):
        token = match[0]
        depth += (token in b"[{") - (token in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _flattened(line: bytes, instead: bytes) -> bytes:
    """Replace the values of the record that are nested too deep."""
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return line
    parts: list[bytes] = []
    depth = deepest = start = copied = 0
    for match in _TOKENS.finditer(line):
        token = match[0]
        if token in b"[{":
            depth += 1
            if depth == _AROUND + 1:
                start, deepest = match.start(), depth
            deepest = max(deepest, depth)
        elif token in b"]}":
            if depth == _AROUND + 1 and deepest > _AROUND + DEEPEST:
                parts += [line[copied:start], instead]
                copied = match.end()
            depth -= 1
    return b"".join([*parts, line[copied:]])
