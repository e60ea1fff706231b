"""Names of tables and columns that BigQuery accepts, unique and the same in every run.

https://cloud.google.com/bigquery/docs/schemas#column_names
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

LONGEST_COLUMN = 300
LONGEST_TABLE = 900  # of 1,024 bytes: staging tables append to it
RESERVED_PREFIXES = (
    "_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier", "_change_",
    # What staging tables have beside the stream's columns, and what the loader's own SQL adds.
    "_sdc_staged_", "__deleted", "__erased", "__group", "__key", "__last_delete", "__newest",
    "__order", "__segment",
)  # fmt: skip

_INVALID = re.compile(r"[^A-Za-z0-9_]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def valid_name(name: str, longest: int = LONGEST_COLUMN) -> str:
    """Return `name` without what BigQuery refuses: most characters, some beginnings."""
    name = _INVALID.sub("_", name)
    if not name or name[0].isdigit() or name.lower().startswith(RESERVED_PREFIXES):
        name = f"x{name}" if name.startswith("_") else f"_{name}"
    return name[:longest]


def snake_case(name: str) -> str:
    """Return `userID` as `user_id`, `HTTPStatus` as `http_status`."""
    return _CAMEL.sub("_", name).lower()


def with_digest(name: str, original: str, longest: int = LONGEST_COLUMN) -> str:
    """Return `name` with a suffix computed from the original name, for a name that is taken."""
    digest = hashlib.sha256(original.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name[: longest - 9]}_{digest}"


def column_names(
    properties: Iterable[str], *, snake: bool = False, known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the column of each property.

    A property that has a column already keeps it (`known`, property → column). Then come names that
    are valid as they are, then the changed ones. Columns differ by more than case; a name that is
    taken gets a digest as its suffix.
    """
    properties = list(properties)
    wanted = {name: valid_name(snake_case(name) if snake else name) for name in properties}
    known = known or {}
    columns = {name: known[name] for name in properties if name in known}
    taken = {column.lower() for column in known.values()}
    rest = [name for name in properties if name not in columns]
    for name in sorted(rest, key=lambda name: wanted[name] != name):  # a stable sort
        column = wanted[name]
        if column.lower() in taken:
            column = with_digest(column, name)
        taken.add(column.lower())
        columns[name] = column
    return {name: columns[name] for name in properties}
