"""From the lines of a stream to Arrow, with a msgspec decoder generated for each stream."""

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from msgspec import UNSET, Raw, UnsetType
from singer_sdk.exceptions import MissingKeyPropertiesError

from target_bigquery.column_types import JSON, TIMESTAMP, BigQueryType, PropertyType
from target_bigquery.errors import RecordError, TargetError
from target_bigquery.forms import CUT, MENDED, NULLED, SPELT, from_json, tidied
from target_bigquery.messages import UNDECODABLE, Version
from target_bigquery.repair import repaired
from target_bigquery.values import ARROW_TYPES, NULL, REFUSALS, Converter, converter, refused


class _LooseMessage(msgspec.Struct, gc=False):
    """A RECORD whose values are looked at one by one."""

    record: dict[str, Raw]
    version: Version | None = None
    time_extracted: Raw = NULL


logger = logging.getLogger(__name__)
_decode_text = msgspec.json.Decoder(str | None).decode
_decode_loosely = msgspec.json.Decoder(_LooseMessage).decode


def record_of(line: bytes) -> dict[str, Raw]:
    """Return the values of a RECORD, whatever they are.

    Raises:
        ValueError: it is none.
    """
    return _decode_loosely(repaired(line)).record


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
    def cast_type(self) -> BigQueryType:
        """The type to cast staged text to: as declared, which may be more precise."""
        return self.declared.type if self.declared.type.name == self.type.name else self.type

    @property
    def raw(self) -> bool:
        """Whether the value is taken as JSON text."""
        is_decimal = self.decimal or self.type.name in {"NUMERIC", "BIGNUMERIC"}
        return is_decimal or self.document or self.declared.verbatim


# How a line is repaired otherwise, to find the values in which that was changed.
_OTHERWISE: tuple[tuple[str, dict[str, Any], str], ...] = (
    (MENDED, {"character": "\ufffe"}, "it has broken characters"),
    (NULLED, {"deep": b"0"}, "it is nested too deep"),
    (SPELT, {"word": b'"%s "'}, "it has NaN or Infinity"),
)
_EXTRACTED_AT = Column("_sdc_extracted_at", "_sdc_extracted_at", TIMESTAMP, PropertyType(TIMESTAMP))
# What the names of msgspec's fields can't have, and what stands for broken characters in a name.
_NOT_A_FIELD = re.compile(r'[\x00-\x1f"\\\ufffd]')
_PYTHON_TYPES: dict[str, Any] = {"INT64": int, "FLOAT64": float, "BOOL": bool, "BYTES": bytes}


class RecordDecoder:
    """Decodes the RECORD lines of one stream under one schema.

    Args:
        stream: name of the stream, for errors.
        columns: what to keep of each record.
        keys: names of the key properties: a record without a value for each is refused.
        partial: tell a missing property from null (`missing_properties: keep`).
        fixed: names of properties whose values must not be changed: a record that has one which
            the column can't hold is refused.
        marks: the same for all but digits of a second: whether there is a value is what counts.

    Attributes:
        changes: how many values were changed, by property and change (of `forms`).
    """

    def __init__(
        self,
        stream: str,
        columns: Sequence[Column],
        keys: Sequence[str],
        *,
        partial: bool,
        fixed: Collection[str] = (),
        marks: Collection[str] = (),
    ) -> None:
        self.stream = stream
        self.columns = tuple(columns)
        self.keys = frozenset(keys)
        self.partial = partial
        self.changes: Counter[tuple[str, str]] = Counter()
        self._fixed = frozenset(fixed)
        self._marks = frozenset(marks)
        self._converted = 0
        self._extracted_at = converter(TIMESTAMP, verbatim=False, decimal=False)
        self._converters: list[Converter] = [
            converter(
                column.cast_type,
                verbatim=column.declared.verbatim,
                decimal=column.decimal,
                document=column.document,
            )
            for column in self.columns
        ]
        self._kinds = [
            Raw if column.raw else _PYTHON_TYPES.get(column.type.name, str) | None
            for column in self.columns
        ]
        self._decoders = [msgspec.json.Decoder(kind).decode for kind in self._kinds]
        self._record = self._record_type()
        self._message = msgspec.defstruct(
            "RecordMessage",
            [
                ("record", self._record),
                ("version", Version | None, None),
                ("time_extracted", str | None, None),
            ],
            gc=False,
        )
        self.decode: Callable[[bytes], Any] = (
            msgspec.json.Decoder(self._message).decode
            if self._names_are_fields()
            else _refuse  # every record goes to `repair`, which takes any name
        )

    def _record_type(self) -> type[msgspec.Struct]:
        fields: list[tuple[str, Any, Any]] = []
        for index, (column, known) in enumerate(zip(self.columns, self._kinds, strict=True)):
            kind: Any = known
            default: Any = NULL if column.raw else None
            if self.partial:
                kind, default = kind | UnsetType, UNSET
            fields.append((f"c{index}", kind, default))
        names = {f"c{index}": column.source for index, column in enumerate(self.columns)}
        rename = names if self._names_are_fields() else None
        return msgspec.defstruct("Record", fields, rename=rename, gc=False)

    def _names_are_fields(self) -> bool:
        """Tell if msgspec can find the properties by their names."""
        return not any(_NOT_A_FIELD.search(column.source) for column in self.columns)

    def repair(self, line: bytes, waiting: int) -> Any:
        """Return what `decode` refused, without the values that are at fault.

        Args:
            line: the message.
            waiting: how many decoded records are before it that `arrays` has not had.

        Raises:
            TargetError: there is more wrong, or the value must not be changed.
        """
        number = self._converted + waiting + 1
        try:
            message = _decode_loosely(whole := repaired(line))
            # Where the values of these differ, something was replaced.
            others = []
            if whole != line:
                others = [
                    (change, why, _decode_loosely(repaired(line, **other)).record)
                    for change, other, why in _OTHERWISE
                ]
        except UNDECODABLE as error:
            raise TargetError(
                f"stream {self.stream!r}: record {number:,} after the SCHEMA is none: {error}"
            ) from None
        values: dict[str, Any] = {}
        for index, column in enumerate(self.columns):
            raw = message.record.get(column.source)
            if raw is None:
                continue
            for change, why, other in others:
                differs = bytes(raw) != bytes(other.get(column.source, raw))
                if differs and (column.document or change != SPELT):
                    self._count(change, column, number, why)
            values[f"c{index}"] = self._value(column, self._decoders[index], raw, number)
        extracted = self._value(_EXTRACTED_AT, _decode_text, message.time_extracted, number)
        return self._message(self._record(**values), message.version, extracted)

    def _value(self, column: Column, decode: Callable[[bytes], Any], raw: Raw, number: int) -> Any:
        """Decode a value by itself, in whatever form it is."""
        try:
            return decode(raw)
        except UNDECODABLE as error:
            try:
                return from_json(column.type.name, bytes(raw))
            except ValueError:
                self._count(NULLED, column, number, str(error).replace("`", ""))
        return NULL if column.raw else None

    def warn_of_changes(self) -> None:
        """Tell how many values were changed since the last time, and in which columns."""
        for (name, change), count in self.changes.items():
            logger.warning(
                "stream %r, column %r: %s values %s", self.stream, name, f"{count:,}", change
            )
        self.changes.clear()

    def _count(self, change: str, column: Column, number: int, why: str = "") -> None:
        name = column.source
        if name in self._fixed or (name in self._marks and change != CUT):
            raise RecordError(self.stream, name, str(column.type), number, why)
        self.changes[name, change] += 1

    def arrays(self, messages: Sequence[Any]) -> tuple[list[pa.Array], pa.Array | None]:
        """Return the records' columns.

        For partial records also which properties each has: a string of 0 or 1 per column.
        """
        rows = map(msgspec.structs.astuple, [message.record for message in messages])
        arrays: list[pa.Array] = []
        present: list[list[bool]] = []
        by_column = zip(*rows, strict=True)
        for column, convert, given in zip(self.columns, self._converters, by_column, strict=True):
            values: Sequence[Any] = given
            if self.partial:
                present.append([value is not UNSET for value in given])
                missing = NULL if column.raw else None
                values = [missing if value is UNSET else value for value in given]
            array = self._array(column, convert, values)
            if column.source in self.keys and array.null_count:
                raise self._missing_key(column)
            arrays.append(array)
        self._converted += len(messages)
        if not self.partial:
            return arrays, None
        flags = ["".join("01"[flag] for flag in row) for row in zip(*present, strict=True)]
        return arrays, pa.array(flags, pa.string())

    def moments(self, texts: Sequence[str | None]) -> pa.Array:
        """Return when the records were extracted, as the tap says."""
        return self._array(_EXTRACTED_AT, self._extracted_at, texts)

    def _array(self, column: Column, convert: Converter, values: Sequence[Any]) -> pa.Array:
        """Convert a column, value by value if it has some that can't be held."""
        try:
            return convert(values)
        except REFUSALS:
            held = list(values)
            for at, value in enumerate(values):
                held[at], change = tidied(column.type.name, value)
                if change is not None:
                    why = f"it {change.partition(',')[0]}"
                    self._count(change, column, self._converted + at + 1, why)
            for at in refused(convert, held):
                self._count(NULLED, column, self._converted + at + 1)
                held[at] = NULL if column.raw else None
            return convert(held)

    def _missing_key(self, column: Column) -> MissingKeyPropertiesError:
        return MissingKeyPropertiesError(
            f"stream {self.stream!r}: a record has no value for the key property {column.source!r}"
        )

    def staged_fields(self) -> list[pa.Field]:
        """Return the Arrow fields that `arrays` fills, named as the table's columns."""
        return [pa.field(column.name, ARROW_TYPES[column.type.name]) for column in self.columns]


def _refuse(line: bytes) -> Any:  # noqa: ARG001
    raise ValueError("the stream has properties whose names msgspec does not take")
