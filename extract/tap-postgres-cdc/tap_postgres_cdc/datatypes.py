"""PostgreSQL types: their JSON Schema, and the expression that turns the server's text into JSON.

The snapshot and the stream both start from the text that a type's output function gives, and both
use these expressions; so the same row gives the same bytes on either way.
"""

from typing import Any, Final, NamedTuple

JsonSchema = dict[str, Any]


class Datatype(NamedTuple):
    """How a column is written as JSON.

    Attributes:
        schema: JSON Schema of a value that is not null.
        expression: Python expression for the JSON of `v`, the server's text as bytes, with the
            names of the module `values` and with `lost()`, or `lost(reason, instead)`, for a value
            that can't be written.
        escapes: Whether the text can hold what COPY escapes with a backslash.
    """

    schema: JsonSchema
    expression: str
    escapes: bool = False

    @property
    def nullable(self) -> JsonSchema:
        """JSON Schema of a value that may be null."""
        return {**self.schema, "type": [*self.schema["type"], "null"]}


def _string(expression: str, **annotations: Any) -> Datatype:
    return Datatype({"type": ["string"], **annotations}, expression)


_QUOTED: Final = "b'\"%b\"' % v"
_FINITE: Final = "v[-1] < 58"
# A year of four digits has its dash at the fifth place, a date before our era ends in BC.
_IN_RANGE: Final = "v[4] == 45 and v[-1] != 67"

# What is that short has no more than 500 levels, and is not looked at any further.
_SHALLOW: Final = "len(v) <= 1000"

TEXT: Final = Datatype({"type": ["string"]}, "text(v.decode())", escapes=True)
_INTEGER: Final = Datatype({"type": ["integer"], "airbyte_type": "integer"}, "v")
_NUMBER: Final = Datatype({"type": ["number"]}, f"v if {_FINITE} else lost()")
_BOOLEAN: Final = Datatype({"type": ["boolean"]}, "b'true' if v == b't' else b'false'")
_PLAIN: Final = _string(_QUOTED)
_ANY_JSON: Final[JsonSchema] = {"type": ["object", "array", "string", "number", "boolean"]}

_BY_NAME: Final[dict[str, Datatype]] = {
    "int2": _INTEGER,
    "int4": _INTEGER,
    "int8": _INTEGER,
    "oid": _INTEGER,
    "float4": _NUMBER,
    "float8": _NUMBER,
    "bool": _BOOLEAN,
    "uuid": _PLAIN,
    "inet": _PLAIN,
    "cidr": _PLAIN,
    "macaddr": _PLAIN,
    "macaddr8": _PLAIN,
    "bit": _PLAIN,
    "varbit": _PLAIN,
    "pg_lsn": _PLAIN,
    "interval": _PLAIN,
    "bytea": Datatype({"type": ["string"], "contentEncoding": "base64"}, "base64(v)", escapes=True),
    "date": _string(f"{_QUOTED} if len(v) == 10 else lost()", format="date", airbyte_type="date"),
    "time": _string(
        f"{_QUOTED} if v[:2] != b'24' else lost()",
        format="time",
        airbyte_type="time_without_timezone",
    ),
    "timetz": _string("zoned_time(v) or lost()", format="time", airbyte_type="time_with_timezone"),
    "timestamp": _string(
        f"b'\"%b\"' % v.replace(b' ', b'T') if {_IN_RANGE} else lost()",
        format="date-time",
        airbyte_type="timestamp_without_timezone",
    ),
    "timestamptz": _string(
        f"b'\"%b:00\"' % v.replace(b' ', b'T') if {_IN_RANGE} else lost()",
        format="date-time",
        airbyte_type="timestamp_with_timezone",
    ),
    # The text of a json value is what was stored: it can hold line breaks between its tokens.
    "json": Datatype(
        _ANY_JSON,
        rf"v.translate(ONE_LINE) if {_SHALLOW} and b'\\u' not in v else json_text(v, lost)",
        escapes=True,
    ),
    "jsonb": Datatype(_ANY_JSON, f"v if {_SHALLOW} else json_value(v, lost)", escapes=True),
}


def scalar(name: str, typmod: int) -> Datatype:
    """Datatype of a type of `pg_catalog` that is neither array nor domain.

    Args:
        name: `pg_type.typname`; a type that is not known here gives its text.
        typmod: `pg_attribute.atttypmod`, -1 for none: of numeric, precision and scale.
    """
    if name == "numeric":
        return _numeric(typmod)
    return _BY_NAME.get(name, TEXT)


def without_encoding(datatype: Datatype) -> Datatype:
    """The same in a database whose encoding is SQL_ASCII: its text may not be UTF-8."""
    if not datatype.escapes:
        return datatype
    return datatype._replace(expression=f"(lambda v: {datatype.expression})(utf8(v, lost))")


def _numeric(typmod: int) -> Datatype:
    """See `make_numeric_typmod` in PostgreSQL for how precision and scale share the number."""
    schema: JsonSchema = {
        "type": ["string"],
        "format": "singer.decimal",
        "airbyte_type": "big_number",
    }
    if typmod >= 0:
        packed = typmod - 4
        precision, scale = packed >> 16 & 0xFFFF, (packed & 0x7FF ^ 0x400) - 0x400
        # numeric(2, -3) rounds to thousands and numeric(3, 5) is below a hundredth; elsewhere the
        # scale is neither negative nor above the precision.
        schema |= {"precision": max(precision - min(scale, 0), scale), "scale": max(scale, 0)}
    return Datatype(schema, f"{_QUOTED} if {_FINITE} else lost()")


def array(item: Datatype, dimensions: int, delimiter: str) -> Datatype:
    """Datatype of an array.

    Args:
        item: Datatype of its elements.
        dimensions: As declared, which the server does not enforce: only the schema depends on it.
        delimiter: `pg_type.typdelim`.
    """
    schema = item.nullable
    for _ in range(max(1, dimensions)):
        schema = {"type": ["array", "null"], "items": schema}
    convert = f"lambda v: {item.expression}"
    return Datatype(
        {**schema, "type": ["array"]}, f"array(v, {delimiter.encode()!r}, {convert})", escapes=True
    )
