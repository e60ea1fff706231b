"""Singer messages as they come: https://hub.meltano.com/singer/spec#messages."""

import contextlib
from typing import Annotated, Any

import msgspec
from msgspec import Raw

from target_bigquery.errors import TargetError, one_line
from target_bigquery.repair import repaired

UNDECODABLE = (ValueError, RecursionError)  # what msgspec raises; its own errors are ValueErrors

Version = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class RecordEnvelope(msgspec.Struct, tag_field="type", tag="RECORD", gc=False):
    """A RECORD whose stream is not known yet."""

    stream: str
    record: Raw


class SchemaMessage(msgspec.Struct, tag_field="type", tag="SCHEMA"):
    """A SCHEMA."""

    stream: str
    schema: dict[str, Any]
    key_properties: list[str] | None = None
    bookmark_properties: list[str] | None = None


class StateMessage(msgspec.Struct, tag_field="type", tag="STATE"):
    """A STATE; its value goes out as the text it came in."""

    value: Raw


class ActivateVersionMessage(msgspec.Struct, tag_field="type", tag="ACTIVATE_VERSION"):
    """An ACTIVATE_VERSION: the stream's rows of older versions are to go."""

    stream: str
    version: Version


class BatchMessage(msgspec.Struct, tag_field="type", tag="BATCH"):
    """A BATCH of the Singer SDK: files instead of lines."""

    stream: str


Message = RecordEnvelope | SchemaMessage | StateMessage | ActivateVersionMessage | BatchMessage
_decode = msgspec.json.Decoder(Message).decode


def decode(line: bytes) -> Message:
    """Return the message of a line; a RECORD's values stay as they are.

    Broken characters are replaced, but for those of a STATE: it goes out as it came, or not at all.

    Raises:
        TargetError: it is none.
    """
    message: Message | None = None
    try:
        message = _decode(line)
    except UNDECODABLE as error:
        with contextlib.suppress(*UNDECODABLE):
            message = _decode(repaired(line))
        if message is None or isinstance(message, StateMessage):
            raise TargetError(f"not a Singer message: {one_line(error)}") from None
    if isinstance(message, StateMessage):
        try:
            bytes(message.value).decode()  # msgspec does not look into it
        except UnicodeDecodeError:
            raise TargetError("a STATE is not UTF-8, so the next run could not read it") from None
    return message
