"""Singer messages, for tests and benchmarks: https://hub.meltano.com/singer/spec#messages."""

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]

INTEGER = {"type": ["integer", "null"]}
NUMBER = {"type": ["number", "null"]}
TEXT = {"type": ["string", "null"]}
MOMENT = {"type": ["string", "null"], "format": "date-time"}
OBJECT = {"type": ["object", "null"]}


def decimal(precision: int | None = None, scale: int | None = None) -> Message:
    """Return the JSON Schema of an exact decimal."""
    schema: Message = {"type": ["string", "null"], "format": "singer.decimal"}
    return schema if precision is None else {**schema, "precision": precision, "scale": scale}


def schema(
    stream: str,
    properties: Mapping[str, Any],
    keys: Sequence[str] = ("id",),
    order: str | None = None,
) -> Message:
    """Return a SCHEMA message."""
    message: Message = {
        "type": "SCHEMA",
        "stream": stream,
        "schema": {"type": "object", "properties": dict(properties)},
        "key_properties": list(keys),
    }
    return message | ({"bookmark_properties": [order]} if order else {})


def record(stream: str, values: Mapping[str, Any], version: int | None = None) -> Message:
    """Return a RECORD message."""
    message: Message = {"type": "RECORD", "stream": stream, "record": dict(values)}
    return message if version is None else {**message, "version": version}


def state(value: Any) -> Message:
    """Return a STATE message."""
    return {"type": "STATE", "value": value}


def activate(stream: str, version: int) -> Message:
    """Return an ACTIVATE_VERSION message."""
    return {"type": "ACTIVATE_VERSION", "stream": stream, "version": version}
