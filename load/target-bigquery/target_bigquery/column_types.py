"""BigQuery types: which one a JSON Schema property becomes, and which can be widened.

JSON Schema as Singer taps write it: https://hub.meltano.com/singer/spec#schemas, Airbyte's
annotations: https://docs.airbyte.com/platform/understanding-airbyte/supported-data-types
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

NUMERIC_INTEGER_DIGITS = 29
NUMERIC_SCALE = 9
BIGNUMERIC_DIGITS = 38  # on each side of the point


class BigQueryType(NamedTuple):
    """A column type, with the parameters that a BIGNUMERIC of known precision has."""

    name: str
    precision: int | None = None
    scale: int | None = None

    def __str__(self) -> str:
        if self.precision is None:
            return self.name
        return f"{self.name}({self.precision}, {self.scale or 0})"


class PropertyType(NamedTuple):
    """What a property becomes; `verbatim`: a STRING of any JSON value, not of strings only."""

    type: BigQueryType
    verbatim: bool = False


INT64 = BigQueryType("INT64")
FLOAT64 = BigQueryType("FLOAT64")
NUMERIC = BigQueryType("NUMERIC")
BIGNUMERIC = BigQueryType("BIGNUMERIC")
BOOL = BigQueryType("BOOL")
STRING = BigQueryType("STRING")
BYTES = BigQueryType("BYTES")
DATE = BigQueryType("DATE")
TIME = BigQueryType("TIME")
DATETIME = BigQueryType("DATETIME")
TIMESTAMP = BigQueryType("TIMESTAMP")
JSON = BigQueryType("JSON")

# https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types
CLUSTERABLE = {
    "BIGNUMERIC", "BOOL", "DATE", "DATETIME", "INT64", "NUMERIC", "STRING", "TIMESTAMP",
}  # fmt: skip
_WIDER = {
    "INT64": ("NUMERIC", "BIGNUMERIC", "FLOAT64"),
    "NUMERIC": ("BIGNUMERIC", "FLOAT64"),
}
_LEGACY_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_PLAIN = {"number": FLOAT64, "boolean": BOOL, "object": JSON, "array": JSON}
# Of integers, with the way from the bound to the last that is within it.
_BOUNDS = {"minimum": 0, "exclusiveMinimum": 1, "maximum": 0, "exclusiveMaximum": -1}
_DECIMAL_FORMATS = ("singer.decimal", "x-singer.decimal")


def standard_name(name: str) -> str:
    """Return the SQL name of a type that the REST API may spell the old way (`INTEGER`)."""
    return _LEGACY_NAMES.get(name.upper(), name.upper())


def property_type(schema: Any) -> PropertyType:
    """Return the column type of one property of a stream's JSON Schema."""
    if not isinstance(schema, Mapping):
        return PropertyType(STRING, verbatim=True)
    if "$ref" in schema:
        return PropertyType(JSON)
    alternatives = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if alternatives:
        shared = {
            key: value for key, value in schema.items() if key not in ("anyOf", "oneOf", "type")
        }
        return _union([{**shared, **part} for part in alternatives if isinstance(part, Mapping)])
    for part in schema.get("allOf", ()):
        schema = {**schema, **part}
    types = schema.get("type", ())
    names = [name for name in ([types] if isinstance(types, str) else types) if name != "null"]
    if not names:
        return PropertyType(STRING, verbatim=True)
    if len(names) == 1:
        return _single(names[0], schema)
    return _union([{**schema, "type": name} for name in names])


def _union(alternatives: list[dict[str, Any]]) -> PropertyType:
    found = {
        property_type(part)
        for part in alternatives
        if part.get("type") != "null" and part.get("type") != ["null"]
    }
    if len(found) == 1:
        return found.pop()
    types = {part.type for part in found}
    if types == {INT64, FLOAT64}:
        return PropertyType(FLOAT64)
    strings = {STRING, DATE, TIME, DATETIME, TIMESTAMP}
    if types and types <= strings and not any(part.verbatim for part in found):
        return PropertyType(STRING)
    return PropertyType(JSON)


def _single(name: str, schema: Mapping[str, Any]) -> PropertyType:
    text_format = schema.get("format")
    if text_format in _DECIMAL_FORMATS or (name == "number" and schema.get("multipleOf")):
        return _decimal(schema)
    if name == "string":
        return PropertyType(_text(schema, text_format))
    if name == "integer":
        return _integer(schema)
    if name in _PLAIN:
        return PropertyType(_PLAIN[name])
    return PropertyType(STRING, verbatim=True)


def _text(schema: Mapping[str, Any], text_format: Any) -> BigQueryType:
    airbyte = schema.get("airbyte_type")
    if schema.get("contentEncoding") == "base64":
        return BYTES
    if text_format == "date-time":
        return DATETIME if airbyte == "timestamp_without_timezone" else TIMESTAMP
    if text_format == "date":
        return DATE
    if text_format == "time" and airbyte != "time_with_timezone":
        return TIME
    return STRING


def _integer(schema: Mapping[str, Any]) -> PropertyType:
    """Choose a type for integers that may be beyond 64 bits, such as MySQL's `bigint unsigned`."""
    largest = 0
    for bound, inside in _BOUNDS.items():
        value = schema.get(bound)
        if isinstance(value, int | float) and not isinstance(
            value, bool
        ):  # exclusive ones may be flags
            number = int(value) + inside
            largest = max(largest, -number - 1 if number < 0 else number)
    if largest < 2**63:
        return PropertyType(INT64)
    return _decimal({"precision": len(str(largest)), "scale": 0})


def _decimal(schema: Mapping[str, Any]) -> PropertyType:
    """Choose the narrowest type that holds every value of the declared precision and scale."""
    precision, scale = schema.get("precision"), schema.get("scale")
    step = schema.get("multipleOf")
    if scale is None and step:
        exponent = Decimal(str(step)).normalize().as_tuple().exponent
        scale = max(0, -exponent) if isinstance(exponent, int) else 0
        bounds = [abs(Decimal(str(schema[key]))) for key in ("minimum", "maximum") if key in schema]
        if precision is None and len(bounds) == 2:  # noqa: PLR2004  # both ends are known
            precision = scale + max(1, max(bounds).adjusted() + 1)
    if precision is None:
        return PropertyType(BIGNUMERIC)
    scale = scale or 0
    digits = precision - scale
    if scale <= NUMERIC_SCALE and digits <= NUMERIC_INTEGER_DIGITS:
        return PropertyType(NUMERIC)
    if scale > BIGNUMERIC_DIGITS or digits > BIGNUMERIC_DIGITS:
        return PropertyType(STRING, verbatim=True)
    if precision > BIGNUMERIC_DIGITS or scale < 0:
        return PropertyType(BIGNUMERIC)
    return PropertyType(BigQueryType("BIGNUMERIC", precision, scale))


def combined(stored: BigQueryType, wanted: BigQueryType) -> BigQueryType | None:
    """Return the type that holds what a column stores and what a stream now sends, or None.

    Only changes that BigQuery makes in place count:
    https://cloud.google.com/bigquery/docs/managing-table-schemas#change_column_data_type
    """
    if stored.name == wanted.name:
        return stored if _covers(stored, wanted) else BigQueryType(stored.name)
    if wanted.name in _WIDER.get(stored.name, ()):
        return BigQueryType(wanted.name)
    if (stored, wanted) == (STRING, JSON):
        return STRING  # it keeps the text, which the type JSON does not
    if stored.name in _WIDER.get(wanted.name, ()):
        return stored if stored.precision is None else BigQueryType(stored.name)
    return None


def _covers(stored: BigQueryType, wanted: BigQueryType) -> bool:
    if stored.precision is None:
        return True
    if wanted.precision is None:
        return False
    stored_scale, wanted_scale = stored.scale or 0, wanted.scale or 0
    return (
        stored_scale >= wanted_scale
        and stored.precision - stored_scale >= wanted.precision - wanted_scale
    )
