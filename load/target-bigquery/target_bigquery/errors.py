"""Errors written for the person who reads them: one line, what is wrong and what to do."""

from typing import Any

LONGEST_VALUE = 120


class TargetError(Exception):
    """The run ends here with exit code 1, and no STATE is emitted past this point."""


class RecordError(TargetError):
    """A record that can't be loaded: names the stream, the column and the value, shortened."""

    def __init__(self, stream: str, column: str, value: Any, why: str) -> None:
        super().__init__(f"stream {stream!r}, column {column!r}: {why}; value {shorten(value)}")


def shorten(value: Any) -> str:
    """Return the `repr` of a value, cut to a length that fits a log line."""
    text = repr(value[: LONGEST_VALUE + 1] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def one_line(error: BaseException) -> str:
    """Return an error's text on one line; of an answer of Google's, what its first detail says."""
    details = [
        detail for detail in getattr(error, "errors", None) or () if isinstance(detail, dict)
    ]
    text = details[0].get("message") if details else getattr(error, "message", None)
    if text is None and error.args and isinstance(error.args[0], str):
        text = error.args[0]  # Google's errors can have their cause behind it
    return " ".join(str(text or str(error) or type(error).__name__).split())
