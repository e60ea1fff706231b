"""From the lines of a stream to Arrow, with a msgspec decoder generated for each stream.

Messages: https://hub.meltano.com/singer/spec#messages
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import UNSET, Raw, UnsetType
from singer_sdk.exceptions import MissingKeyPropertiesError

from target_bigquery.column_types import JSON, BigQueryType, PropertyType
from target_bigquery.errors import RecordError, TargetError, shorten
from target_bigquery.values import ARROW_TYPES, NULL, Converter, converter, offender


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
    version: int


class BatchMessage(msgspec.Struct, tag_field="type", tag="BATCH"):
    """A BATCH of the Singer SDK: files instead of lines."""

    stream: str


Message = RecordEnvelope | SchemaMessage | StateMessage | ActivateVersionMessage | BatchMessage
decode_message = msgspec.json.Decoder(Message).decode


class Column(NamedTuple):
    """A property of a stream and the column that it fills."""

    source: str  # the property
    name: str
    type: BigQueryType
    declared: PropertyType

    @property
    def decimal(self) -> bool:
        """Whether its digits come as text, or as a number that must not become a float."""
        return self.declared.type.name in {"NUMERIC", "BIGNUMERIC"}

    @property
    def document(self) -> bool:
        """Whether it holds JSON text, in a column of type JSON or STRING."""
        return self.declared.type == JSON

    @property
    def raw(self) -> bool:
        """Whether the value is taken as JSON text."""
        is_decimal = self.decimal or self.type.name in {"NUMERIC", "BIGNUMERIC"}
        return is_decimal or self.document or self.declared.verbatim


_PYTHON_TYPES: dict[str, Any] = {"INT64": int, "FLOAT64": float, "BOOL": bool, "BYTES": bytes}


class RecordDecoder:
    """Decodes the RECORD lines of one stream under one schema.

    Args:
        stream: name of the stream, for errors.
        columns: what to keep of each record.
        keys: names of the key properties: a record without a value for each is refused.
        partial: tell a missing property from null (`missing_properties: keep`).
    """

    def __init__(
        self, stream: str, columns: Sequence[Column], keys: Sequence[str], *, partial: bool
    ) -> None:
        self.stream = stream
        self.columns = tuple(columns)
        self.keys = frozenset(keys)
        self.partial = partial
        self._converters: list[Converter] = [
            converter(
                JSON if column.document else column.type,
                verbatim=column.declared.verbatim,
                decimal=column.decimal,
            )
            for column in self.columns
        ]
        self._decoder = msgspec.json.Decoder(self._message_type())
        self.decode = self._decoder.decode

    def _message_type(self) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any, Any]] = []
        for index, column in enumerate(self.columns):
            kind: Any = Raw if column.raw else _PYTHON_TYPES.get(column.type.name, str) | None
            default: Any = NULL if column.raw else None
            if self.partial:
                kind, default = kind | UnsetType, UNSET
            fields.append((f"c{index}", kind, default))
        names = {f"c{index}": column.source for index, column in enumerate(self.columns)}
        record = msgspec.defstruct("Record", fields, rename=names, gc=False)
        return msgspec.defstruct(
            "RecordMessage",
            [
                ("record", record),
                ("version", int | None, None),
                ("time_extracted", str | None, None),
            ],
            gc=False,
        )

    def refusal(self, line: bytes, error: msgspec.DecodeError) -> TargetError:
        """Return the error to report for a line that `decode` refused."""
        _, found, path = str(error).partition(" - at `$.record.")
        if not found:
            return TargetError(f"stream {self.stream!r}: {error}; line {shorten(line)}")
        name = path.rstrip("`")
        value = msgspec.json.decode(line)["record"].get(name)
        return RecordError(
            self.stream, name, value, str(error).partition(" - at ")[0].replace("`", "")
        )

    def arrays(self, messages: Sequence[Any]) -> tuple[list[pa.Array], pa.Array | None]:
        """Return the records' columns.

        For partial records also which properties each has: a string of 0 or 1 per column.
        """
        rows = map(msgspec.structs.astuple, [message.record for message in messages])
        arrays: list[pa.Array] = []
        present: list[list[bool]] = []
        by_column = zip(*rows, strict=True)
        for index, (column, given) in enumerate(zip(self.columns, by_column, strict=True)):
            values: Sequence[Any] = given
            if self.partial:
                present.append([value is not UNSET for value in given])
                missing = NULL if column.raw else None
                values = [missing if value is UNSET else value for value in given]
            array = self._array(index, column, values)
            if column.source in self.keys and array.null_count:
                raise self._missing_key(column)
            arrays.append(array)
        if not self.partial:
            return arrays, None
        flags = ["".join("01"[flag] for flag in row) for row in zip(*present, strict=True)]
        return arrays, pa.array(flags, pa.string())

    def _array(self, index: int, column: Column, values: Sequence[Any]) -> pa.Array:
        convert = self._converters[index]
        try:
            return convert(values)
        except (pa.ArrowException, OverflowError, ValueError):
            value, why = offender(convert, values)
            raise RecordError(
                self.stream, column.source, value, f"not a {column.type}: {why}"
            ) from None

    def _missing_key(self, column: Column) -> MissingKeyPropertiesError:
        return MissingKeyPropertiesError(
            f"stream {self.stream!r}: a record has no value for the key property {column.source!r}"
        )

    def staged_fields(self) -> list[pa.Field]:
        """Return the Arrow fields that `arrays` fills, named as the table's columns."""
        return [pa.field(column.name, ARROW_TYPES[column.type.name]) for column in self.columns]
