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
    "_sdc_staged_",  # what staging tables have beside the stream's columns
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


def possible_names(name: str) -> set[str]:
    """Return the columns that a property can have been given, in lower case."""
    plain = {valid_name(name), valid_name(snake_case(name))}
    return {column.lower() for column in plain | {with_digest(column, name) for column in plain}}


def column_names(
    properties: Iterable[str],
    *,
    snake: bool = False,
    existing: Iterable[str] = (),
    known: Mapping[str, str] | None = None,
    reserved: Iterable[str] = (),
) -> dict[str, str]:
    """Return the column of each property; names that differ in case only are one column.

    First come properties that are known to have a column, then those whose digest a column has,
    which was made for no other, then those with a column of their very name. What is left gets its
    name made valid, first where that changes nothing; with a digest as its suffix if that is taken.

    Args:
        properties: in the order of the schema.
        snake: make them snake_case.
        existing: names of the table's columns.
        known: properties and their columns.
        reserved: names that no property gets.
    """
    properties = list(properties)
    present = {name.lower(): name for name in existing}
    plain = {name: valid_name(snake_case(name) if snake else name) for name in properties}
    digest = {name: with_digest(plain[name], name) for name in properties}
    known = known or {}
    columns = {name: known[name] for name in properties if name in known}
    taken = {name.lower() for name in (*known.values(), *reserved)}

    def take(name: str, column: str) -> None:
        if name not in columns and column.lower() not in taken:
            taken.add(column.lower())
            columns[name] = present.get(column.lower(), column)

    for name in properties:
        if digest[name].lower() in present:
            take(name, digest[name])
    for name in properties:
        if present.get(name.lower()) == name:
            take(name, name)
    for name in properties:
        if name.lower() in present:
            take(name, name)
    for name in sorted(properties, key=lambda name: plain[name] != name):  # a stable sort
        take(name, plain[name])
        take(name, digest[name])
    return {name: columns[name] for name in properties}
