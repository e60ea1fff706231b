"""What the loader keeps with a table, where nobody edits it by accident.

Labels say whose rows these are and by which key they differ: digests, as a label takes neither
capitals nor more than 63 characters. Which column a renamed property fills is told by the names
alone, save where two properties want one name; so renamed ones are a line of the table's
description, which people may read, and which counts only as far as the names allow it.
https://cloud.google.com/bigquery/docs/labels-intro#requirements
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from target_bigquery.names import possible_names

STREAM_LABEL = "singer_stream"
KEY_LABEL = "singer_key"
FLOOR_LABEL = "singer_floor"
COLUMNS_LABEL = "singer_columns"
DESCRIBED = "described"
LONGEST_DESCRIPTION = 16_384  # characters
_COLUMNS = "Columns of Singer properties: "


@dataclass(frozen=True)
class Mark:
    """Whose rows a table has, and by which columns they differ.

    Args:
        stream: digest of the name of the stream that fills it.
        key: digest of the key's columns.
        floor: the key was another below this version of the stream, until one is activated.
    """

    stream: str
    key: str | None = None
    floor: int | None = None


def mark_of(stream: str, key: Iterable[str], floor: int | None = None) -> Mark:
    """Return the mark of a stream with a key, whatever the order and case of its columns."""
    return Mark(_digest(stream), _digest(json.dumps(sorted(name.lower() for name in key))), floor)


def with_mark(labels: Mapping[str, str], mark: Mark) -> dict[str, str]:
    """Return a table's labels with those of a mark; a floor that is over stays as an empty one."""
    marked = {**labels, STREAM_LABEL: mark.stream, KEY_LABEL: mark.key or ""}
    if mark.floor is not None or FLOOR_LABEL in marked:
        marked[FLOOR_LABEL] = "" if mark.floor is None else str(mark.floor)
    return marked


def labelled_mark(labels: Mapping[str, str]) -> Mark | None:
    """Return the mark in a table's labels; None if it has none, or somebody has removed it."""
    if not labels.get(STREAM_LABEL):
        return None
    try:
        floor = int(labels.get(FLOOR_LABEL, ""))
    except ValueError:
        floor = None
    return Mark(labels[STREAM_LABEL], labels.get(KEY_LABEL) or None, floor)


def with_columns_label(labels: Mapping[str, str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Return a table's labels with the one that says if its description has renamed properties."""
    if not renamed and COLUMNS_LABEL not in labels:
        return dict(labels)
    return {**labels, COLUMNS_LABEL: DESCRIBED if renamed else ""}


def with_columns(description: str | None, renamed: Mapping[str, str]) -> str | None:
    """Return a table's description with the renamed properties as its last line, if they fit."""
    others = [line for line in (description or "").split("\n") if not line.startswith(_COLUMNS)]
    if not renamed:
        return "\n".join(others) or None
    known = _COLUMNS + json.dumps(renamed, ensure_ascii=False)
    text = "\n".join([*others, known] if any(others) else [known])
    return text if len(text) <= LONGEST_DESCRIPTION else "\n".join([*others, f"{_COLUMNS}{{}}"])


def described_columns(description: str | None) -> str | None:
    """Return the JSON text of renamed properties in a table's description."""
    for line in (description or "").split("\n"):
        if line.startswith(_COLUMNS):
            return line.removeprefix(_COLUMNS)
    return None


def trusted_columns(text: str | None, existing: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return which property fills which column, and what of the text does not hold.

    Args:
        text: JSON, as `described_columns` returned it.
        existing: names of the table's columns.
    """
    if text is None:
        return {}, []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return {}, ["it is not a JSON object"]
    names = {name.lower() for name in existing}
    columns: dict[str, str] = {}
    wrong: list[str] = []
    for name, column in found.items():
        taken = {other.lower() for other in columns.values()}
        if not isinstance(column, str) or column.lower() not in names & possible_names(name):
            wrong.append(f"{name!r} has no such column")
        elif column.lower() in taken:
            wrong.append(f"column {column!r} is there twice")
        else:
            columns[name] = column
    return columns, wrong


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
