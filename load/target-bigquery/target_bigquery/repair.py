"""Lines that no decoder takes, because of the text of a value: made good in the line itself.

A lone UTF-16 surrogate and bytes that are not UTF-8 become U+FFFD; a value that is nested deeper
than BigQuery allows becomes null.
https://cloud.google.com/bigquery/quotas#all_tables
"""

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
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def repaired(line: bytes, character: str = "\ufffd", instead: bytes = b"null") -> bytes:
    """Return a RECORD with what can't be decoded replaced.

    Args:
        line: the message.
        character: instead of one that is broken.
        instead: JSON, instead of a value that is nested too deep.
    """
    return _flattened(mended(line, character), instead)


def mended(text: bytes, character: str = "\ufffd") -> bytes:
    """Return JSON with its broken characters replaced."""

    def whole(match: re.Match[str]) -> str:
        return character if match["lone"] or match["undecodable"] else match[0]

    return _CHARACTERS.sub(whole, text.decode(errors="surrogateescape")).encode()


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
