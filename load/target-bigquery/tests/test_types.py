"""Which column a property becomes, and that values arrive exactly."""

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from sandbox.singer import INTEGER, NUMBER, OBJECT, TEXT, decimal, record, schema, state
from target_bigquery.column_types import BigQueryType, combined, property_type
from target_bigquery.values import NULL, converter, offender

AIRBYTE_LOCAL = {"airbyte_type": "timestamp_without_timezone"}


def text(**more: Any) -> dict[str, Any]:
    return {"type": ["string", "null"], **more}


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (INTEGER, "INT64"),
        (NUMBER, "FLOAT64"),
        ({"type": ["integer", "number"]}, "FLOAT64"),
        ({"type": "boolean"}, "BOOL"),
        (TEXT, "STRING"),
        (text(format="uuid"), "STRING"),
        ({}, "STRING"),
        ({"enum": ["a", 1]}, "STRING"),
        (True, "STRING"),
        ({"type": ["null"]}, "STRING"),
        (text(format="date-time"), "TIMESTAMP"),
        (text(format="date-time", airbyte_type="timestamp_with_timezone"), "TIMESTAMP"),
        (text(format="date-time", **AIRBYTE_LOCAL), "DATETIME"),
        (text(format="date"), "DATE"),
        (text(format="time"), "TIME"),
        (text(format="time", airbyte_type="time_with_timezone"), "STRING"),
        (text(contentEncoding="base64"), "BYTES"),
        (OBJECT, "JSON"),
        ({"type": "array", "items": TEXT}, "JSON"),
        ({"type": ["string", "integer"]}, "JSON"),
        ({"type": ["string", "object", "null"]}, "JSON"),
        ({"$ref": "#/definitions/x"}, "JSON"),
        ({"anyOf": [text(format="date-time"), {"type": "null"}]}, "TIMESTAMP"),
        ({"anyOf": [text(format="date-time"), {"type": "string"}]}, "STRING"),
        ({"oneOf": [{"type": "integer"}, {"type": "object"}]}, "JSON"),
        ({"allOf": [{"type": "integer"}, {"minimum": 0}]}, "INT64"),
        (decimal(), "BIGNUMERIC"),
        (decimal(38, 9), "NUMERIC"),
        (decimal(29, 0), "NUMERIC"),
        (decimal(30, 0), "BIGNUMERIC(30, 0)"),
        (decimal(20, 12), "BIGNUMERIC(20, 12)"),
        (decimal(76, 38), "BIGNUMERIC"),
        (decimal(77, 38), "STRING"),
        (decimal(50, 39), "STRING"),
        (decimal(3, -2), "NUMERIC"),
        ({"type": "number", "multipleOf": 1e-10}, "BIGNUMERIC"),
        ({"type": "number", "multipleOf": 0.01, "minimum": -1e6, "maximum": 1e6}, "NUMERIC"),
        ({"type": ["number", "null"], "format": "singer.decimal"}, "BIGNUMERIC"),
    ],
)
def test_the_column_type_of_a_property(declared: Any, expected: str) -> None:
    assert str(property_type(declared).type) == expected


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ("INT64", "INT64", "INT64"),
        ("INT64", "NUMERIC", "NUMERIC"),
        ("INT64", "BIGNUMERIC", "BIGNUMERIC"),
        ("INT64", "FLOAT64", "FLOAT64"),
        ("NUMERIC", "BIGNUMERIC", "BIGNUMERIC"),
        ("NUMERIC", "FLOAT64", "FLOAT64"),
        ("NUMERIC", "INT64", "NUMERIC"),
        ("FLOAT64", "INT64", "FLOAT64"),
        ("BIGNUMERIC", "FLOAT64", None),
        ("FLOAT64", "BIGNUMERIC", None),
        ("INT64", "STRING", None),
        ("STRING", "INT64", None),
        ("TIMESTAMP", "DATETIME", None),
        ("JSON", "STRING", None),
    ],
)
def test_which_types_can_be_widened(stored: str, wanted: str, expected: str | None) -> None:
    found = combined(BigQueryType(stored), BigQueryType(wanted))
    assert (found and str(found)) == expected


def test_a_bignumeric_of_known_precision_loses_it_when_that_is_too_small() -> None:
    narrow, wide = BigQueryType("BIGNUMERIC", 20, 12), BigQueryType("BIGNUMERIC", 22, 14)
    assert str(combined(wide, narrow)) == "BIGNUMERIC(22, 14)"
    assert str(combined(narrow, wide)) == "BIGNUMERIC"
    assert str(combined(narrow, BigQueryType("NUMERIC"))) == "BIGNUMERIC"


def raw(value: str | None) -> msgspec.Raw:
    return NULL if value is None else msgspec.Raw(value.encode())


def convert(kind: str, values: list[Any]) -> list[Any]:
    takes = converter(BigQueryType(kind), verbatim=False, decimal=False)
    result: list[Any] = takes(values).to_pylist()
    return result


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT64", 2**63),
        ("TIMESTAMP", "infinity"),
        ("TIMESTAMP", "10000-01-01T00:00:00Z"),
        ("TIMESTAMP", "0044-03-15 BC"),
        ("DATE", "2024-02-30"),
        ("DATE", "2024-01-01T00:00:01"),
        ("TIME", "24:00:00"),
        ("TIME", "12:00:00+02:00"),
        ("NUMERIC", raw('"NaN"')),
        ("NUMERIC", raw('"0.0000000001"')),
        ("NUMERIC", raw('"100000000000000000000000000000"')),
        ("NUMERIC", raw("1e40")),
        ("NUMERIC", raw("true")),
        ("BIGNUMERIC", raw('"Infinity"')),
        ("BIGNUMERIC", raw("6e38")),
        ("BIGNUMERIC", raw('"-1e100"')),
        ("BIGNUMERIC", raw('"1e-39"')),
        ("JSON", msgspec.Raw(b'"\xff"')),
    ],
)
def test_a_value_that_does_not_fit_is_found_among_others(kind: str, value: Any) -> None:
    takes = converter(BigQueryType(kind), verbatim=False, decimal=False)
    good: Any = NULL if isinstance(value, msgspec.Raw) else None
    values = [good] * 7 + [value] + [good] * 12
    with pytest.raises((pa.ArrowException, OverflowError, ValueError)):
        takes(values)
    found, why = offender(takes, values)
    shown = bytes(value).decode(errors="replace") if isinstance(value, msgspec.Raw) else value
    assert found == shown
    assert why


def test_moments_are_understood_in_the_forms_that_taps_write() -> None:
    noon = datetime(2024, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
    for written in (
        "2024-01-02T12:00:00.123456Z",
        "2024-01-02 12:00:00.123456+00",
        "2024-01-02T14:00:00.123456+02:00",
        "2024-01-02T12:00:00.123456",
        "2024-01-02T12:00:00.123456789Z",
    ):
        assert convert("TIMESTAMP", [written, None]) == [noon, None]
        assert convert("DATETIME", [written, None]) == [noon.replace(tzinfo=None), None]
    assert convert("TIMESTAMP", ["2024-01-02"]) == [datetime(2024, 1, 2, tzinfo=UTC)]
    assert convert("DATE", ["2024-01-02", "2024-01-02T00:00:00Z"]) == [date(2024, 1, 2)] * 2
    assert convert("TIME", ["12:00:00.5", "12:00:00.5Z"]) == [time(12, 0, 0, 500000)] * 2


def test_decimals_keep_their_digits() -> None:
    largest = "99999999999999999999999999999.999999999"
    assert convert("NUMERIC", [raw(f'"{largest}"'), raw("-1.50"), raw("1E+3"), NULL]) == [
        Decimal(largest),
        Decimal("-1.5"),
        Decimal(1000),
        None,
    ]
    big = "12345678901234567890123456789012345678.12345678901234567890123456789012345678"
    assert convert("BIGNUMERIC", [raw(f'"{big}"'), raw("5e38")]) == [big, "5e38"]


def test_values_of_every_type_arrive_exactly(dataset: Any) -> None:
    properties = {
        "id": INTEGER,
        "int": INTEGER,
        "float": NUMBER,
        "numeric": decimal(38, 9),
        "big": decimal(30, 12),
        "huge": decimal(90, 45),
        "flag": {"type": "boolean"},
        "text": TEXT,
        "anything": {},
        "moment": text(format="date-time"),
        "local": text(format="date-time", **AIRBYTE_LOCAL),
        "day": text(format="date"),
        "clock": text(format="time"),
        "bytes": text(contentEncoding="base64"),
    }
    digits = "9" * 44 + "." + "1" * 44
    row = {
        "id": 1,
        "int": -(2**63),
        "float": 0.1,
        "numeric": "12345678901234567890123456789.123456789",
        "big": "-123456789012345678.123456789012",
        "huge": digits,
        "flag": True,
        "text": 'ü😀\u0000\u0001\t\n"\\ ',
        "anything": {"a": [1, 1.50]},
        "moment": "1970-01-01T00:00:00.000001Z",
        "local": "9999-12-31T23:59:59.999999",
        "day": "0001-01-01",
        "clock": "23:59:59.999999",
        "bytes": "AP+A",
    }
    dataset.load([schema("s", properties), record("s", row), record("s", {"id": 2})])
    first, second = dataset.rows("s", ", ".join(f"`{name}`" for name in properties))
    assert second == (2, *[None] * 13)
    assert first == (
        1,
        -(2**63),
        0.1,
        Decimal("12345678901234567890123456789.123456789"),
        Decimal("-123456789012345678.123456789012"),
        digits,
        True,
        row["text"],
        '{"a": [1, 1.5]}',
        datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC).replace(tzinfo=None),
        date(1, 1, 1),
        time(23, 59, 59, 999999),
        b"\x00\xff\x80",
    )


def test_json_keeps_key_order_digits_and_unicode(dataset: Any, emulator: Any) -> None:
    documents = {
        1: '{"z":1,"a":{"é":"😀","b":[null,true,"\\u0001"]}}',
        2: "[12345678901234567890,-1,0]",
        3: '"text"',
        4: "{}",
    }
    messages: list[Any] = [
        schema("s", {"id": INTEGER, "j": {"type": ["object", "array", "string"]}})
    ]
    for key, document in documents.items():
        messages.append(f'{{"type":"RECORD","stream":"s","record":{{"id":{key},"j":{document}}}}}')
    messages.append(record("s", {"id": 5, "j": None}))
    dataset.load(messages)
    stored = dict(dataset.rows("s", "id, TO_JSON_STRING(j)"))
    assert {key: json.loads(v) for key, v in stored.items() if v} == {
        key: json.loads(document) for key, document in documents.items()
    }
    if emulator is not None:  # the real service does not keep the order of an object's members
        assert stored[1].index('"z"') < stored[1].index('"a"')
    assert "12345678901234567890" in stored[2]
    assert dataset.rows("s", "id, j IS NULL")[4] == (5, True)


def test_a_string_column_keeps_the_text_of_json(dataset: Any) -> None:
    """BigQuery's type JSON keeps values, but not how they were written."""
    documents = {
        1: '{"z": 1.10,"a":{"é":"😀 \\u00e9"},  "a2":[1e2,-0.0,12345678901234567890.12345678901]}',
        2: '"text"',
        3: "[]",
    }
    dataset.load([schema("other", {"id": INTEGER})])  # makes the dataset
    dataset.query("CREATE TABLE `{d}.s` (id INT64, j STRING)")
    messages: list[Any] = [
        schema("s", {"id": INTEGER, "j": {"type": ["object", "array", "string"]}})
    ]
    for key, document in documents.items():
        messages.append(f'{{"type":"RECORD","stream":"s","record":{{"id":{key},"j":{document}}}}}')
    messages.append(record("s", {"id": 4, "j": None}))
    dataset.load(messages)
    assert dict(dataset.rows("s", "id, j")) == {**documents, 4: None}


@pytest.mark.parametrize(
    ("declared", "value", "says"),
    [
        (INTEGER, 1.5, "Expected int | null, got float; value 1.5"),
        (INTEGER, 2**70, f"not a INT64: {'Python int too large'}"),
        (TEXT, 7, "Expected str | null, got int; value 7"),
        (text(format="date-time"), "soon", "not a TIMESTAMP"),
        (decimal(10, 2), "12.3456789012", "not a NUMERIC"),
        (decimal(), "1e99", "does not fit into BIGNUMERIC"),
        (text(contentEncoding="base64"), "%%", "Invalid base64"),
    ],
)
def test_a_value_of_the_wrong_type_names_stream_column_and_value(
    dataset: Any, declared: Any, value: Any, says: str
) -> None:
    messages = [
        schema("s", {"id": INTEGER, "v": declared}),
        record("s", {"id": 1, "v": value}),
        state(1),
    ]
    with pytest.raises(Exception, match="stream 's', column 'v'") as caught:
        dataset.load(messages)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dataset.capsys.readouterr().out == ""


def test_long_values_are_shortened_in_errors(dataset: Any) -> None:
    messages = [
        schema("s", {"id": INTEGER, "v": INTEGER}),
        record("s", {"id": 1, "v": "x" * 10_000}),
    ]
    with pytest.raises(Exception, match="value 'xxx") as caught:
        dataset.load(messages)
    assert len(str(caught.value)) < 400


def test_lines_of_fifty_megabytes(dataset: Any) -> None:
    long = "é" * 25_000_000
    dataset.load([schema("s", {"id": INTEGER, "v": TEXT}), record("s", {"id": 1, "v": long})])
    assert dataset.rows("s", "CHAR_LENGTH(v), BYTE_LENGTH(v)") == [(25_000_000, 50_000_000)]


def test_a_thousand_columns(dataset: Any) -> None:
    names = [f"c{n}" for n in range(1000)]
    stream = schema("s", {"id": INTEGER, **dict.fromkeys(names, TEXT)})
    for values in ("1", "2"):
        dataset.load(
            [stream, *(record("s", {"id": n, **dict.fromkeys(names, values)}) for n in range(5))]
        )
    assert dataset.rows("s", "id, c0, c999") == [(n, "2", "2") for n in range(5)]
