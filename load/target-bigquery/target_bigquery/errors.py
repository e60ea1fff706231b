"""Errors written for the person who reads them: one line, what is wrong and what to do."""


class TargetError(Exception):
    """The run ends here with exit code 1, and no STATE is emitted past this point."""


class RecordError(TargetError):
    """A value that can't be loaded: names stream, column and record, never the value."""

    def __init__(self, stream: str, column: str, kind: str, number: int, why: str = "") -> None:
        super().__init__(
            f"stream {stream!r}, column {column!r}: {kind} can't hold the value of "
            f"record {number:,} after the SCHEMA{f': {why}' if why else ''}"
        )


def one_line(error: BaseException) -> str:
    """Return an error's text on one line; of an answer of Google's, what its first detail says."""
    details = [
        detail for detail in getattr(error, "errors", None) or () if isinstance(detail, dict)
    ]
    text = details[0].get("message") if details else getattr(error, "message", None)
    if text is None and error.args and isinstance(error.args[0], str):
        text = error.args[0]  # Google's errors can have their cause behind it
    return " ".join(str(text or str(error) or type(error).__name__).split())
