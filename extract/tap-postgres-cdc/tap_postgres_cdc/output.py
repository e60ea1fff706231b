"""Where messages go: straight to standard output, or record by record through the SDK."""

import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

import msgspec
from singer_sdk.contrib.msgspec import MsgSpecWriter
from singer_sdk.singerlib.encoding.simple import Message

from tap_postgres_cdc.datatypes import JsonSchema
from tap_postgres_cdc.streams import PostgresStream

_encode = msgspec.json.Encoder().encode


def write_all(data: bytes | bytearray) -> None:
    """Write to standard output, all of it.

    A signal that comes while the loader keeps a large write waiting cuts that short: Python's
    buffered writer then returns how much it took, instead of going on.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[sys.stdout.buffer.write(rest) :]


class WholeWriter(MsgSpecWriter):
    """The SDK's writer of messages, with whole lines also when there are signals."""

    def write_message(self, message: Message) -> None:
        """Write a message."""
        # The SDK's buffer is used again for the next message.
        write_all(bytes(self.format_message(message)))
        sys.stdout.flush()


class Output(Protocol):
    """Takes messages in their order."""

    def records(self, lines: bytes) -> None:
        """Write RECORD lines, each with its line break."""

    def schema(self, stream: str, schema: JsonSchema, key: tuple[str, ...]) -> None:
        """Write the SCHEMA of a stream."""

    def activate_version(self, stream: str, version: int) -> None:
        """Write ACTIVATE_VERSION: records of earlier versions are gone at the source."""

    def state(self, state: Mapping[str, Any]) -> int:
        """Write STATE, see to it that it and all before it is out; gives its bytes."""


class DirectOutput:
    """Writes to standard output what it is given, as it is."""

    def __init__(self, bookmark_property: str) -> None:
        """Take the property that orders the records of a key."""
        self._bookmark_properties = [bookmark_property]

    def records(self, lines: bytes) -> None:
        """Write RECORD lines."""
        write_all(lines)

    def schema(self, stream: str, schema: JsonSchema, key: tuple[str, ...]) -> None:
        """Write a SCHEMA message."""
        self._message(
            type="SCHEMA",
            stream=stream,
            schema=schema,
            key_properties=key,
            bookmark_properties=self._bookmark_properties,
        )

    def activate_version(self, stream: str, version: int) -> None:
        """Write an ACTIVATE_VERSION message."""
        self._message(type="ACTIVATE_VERSION", stream=stream, version=version)

    def state(self, state: Mapping[str, Any]) -> int:
        """Write a STATE message."""
        size = self._message(type="STATE", value=state)
        sys.stdout.flush()
        return size

    def _message(self, **message: Any) -> int:
        line = _encode(message) + b"\n"
        write_all(line)
        return len(line)


class SdkOutput(DirectOutput):
    """Takes every record through the SDK, so that stream maps and flattening apply to it."""

    def __init__(self, streams: Mapping[str, PostgresStream]) -> None:
        """Take the SDK's streams by name."""
        super().__init__("")
        self._streams = streams

    def records(self, lines: bytes) -> None:
        """Write records as the stream's maps change them."""
        for line in lines.split(b"\n")[:-1]:
            message = json.loads(line, parse_float=Decimal)
            stream = self._streams[message["stream"]]
            stream.write_record(message["record"], message["version"])

    def schema(self, stream: str, schema: JsonSchema, key: tuple[str, ...]) -> None:
        """Write the SCHEMA messages of a stream."""
        self._streams[stream].write_schema(schema, key)

    def activate_version(self, stream: str, version: int) -> None:
        """Write the ACTIVATE_VERSION messages of a stream."""
        self._streams[stream].write_version(version)
