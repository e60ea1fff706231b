"""Which column a property becomes, and that values arrive exactly."""

import io
import json
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from sandbox.singer import INTEGER, NUMBER, OBJECT, TEXT, decimal, record, schema, state
from target_bigquery.column_types import BigQueryType, combined, property_type
from target_bigquery.decoding import Column, RecordDecoder
from target_bigquery.errors import TargetError
from target_bigquery.forms import CUT, MOVED, NULLED, SPELT
from target_bigquery.messages import UNDECODABLE
from target_bigquery.target import TargetBigQuery
from target_bigquery.values import NULL, converter, refused

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
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, "INT64"),
        ({"type": "integer", "maximum": 2**63}, "NUMERIC"),
        ({"type": "integer", "exclusiveMaximum": 2**63}, "INT64"),
        ({"type": "integer", "exclusiveMaximum": True}, "INT64"),
        ({"type": "integer", "minimum": -(2**63) - 1}, "NUMERIC"),
        ({"type": "integer", "maximum": 1e30}, "BIGNUMERIC(31, 0)"),
        ({"type": "integer", "maximum": 10**38}, "STRING"),
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
        ("TIMESTAMP", "0000-12-31T23:59:59Z"),
        ("TIMESTAMP", "0001-01-01T00:00:00+02:00"),
        ("TIMESTAMP", "9999-12-31T23:59:59-05:00"),
        ("DATETIME", "0000-01-01T00:00:00"),
        ("DATE", "0000-12-31"),
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
        ("BIGNUMERIC", raw('"1_0"')),
        ("BIGNUMERIC", raw('"\u0661"')),
        ("BIGNUMERIC(20, 12)", raw('"100000000.5"')),
        ("BIGNUMERIC(20, 12)", raw('"0.0000000000001"')),
        ("JSON", msgspec.Raw(b'"\xff"')),
        ("JSON", raw("[" * 501 + "]" * 501)),
    ],
)
def test_a_value_that_does_not_fit_is_found_among_others(kind: str, value: Any) -> None:
    name, *digits = re.findall(r"\w+", kind)
    column_type = BigQueryType(name, *map(int, digits))
    takes = converter(column_type, verbatim=False, decimal=False)
    good: Any = NULL if isinstance(value, msgspec.Raw) else None
    values = [good] * 7 + [value] + [good] * 12
    with pytest.raises((pa.ArrowException, OverflowError, ValueError)):
        takes(values)
    assert refused(takes, values) == [7]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("TIMESTAMP", "9999-12-31T23:59:59.999999Z"),
        ("TIMESTAMP", "0001-01-01T00:00:00Z"),
        ("DATETIME", "9999-12-31T23:59:59.999999"),
        ("DATE", "9999-12-31"),
        ("JSON", raw("[" * 500 + "]" * 500)),
        ("JSON", raw('["' + "[" * 1000 + '", ' + "[],{}," * 900 + "1]")),
        ("BIGNUMERIC", raw('"' + "9" * 38 + "." + "9" * 38 + '"')),
    ],
)
def test_the_last_value_that_fits_is_taken(kind: str, value: Any) -> None:
    assert convert(kind, [value])[0] is not None


def decoded(declared: Any, *values: str) -> tuple[list[Any], dict[str, int]]:
    """Decode JSON values of a property; return them, and how many were changed in which way."""
    known = property_type(declared)
    decoder = RecordDecoder("s", [Column("v", "v", known.type, known)], (), partial=False)
    messages: list[Any] = []
    for value in values:
        line = f'{{"type":"RECORD","stream":"s","record":{{"v":{value}}}}}'
        try:
            messages.append(decoder.decode(line.encode()))
        except UNDECODABLE:
            messages.append(decoder.repair(line.encode(), len(messages)))
    arrays, _ = decoder.arrays(messages)
    return arrays[0].to_pylist(), {change: n for (_, change), n in decoder.changes.items()}


NOON = datetime(2024, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
LOCAL = text(format="date-time", **AIRBYTE_LOCAL)


@pytest.mark.parametrize("declared", [text(format="date-time"), LOCAL])
@pytest.mark.parametrize(
    "written",
    [
        "2024-01-02T12:00:00.123456Z",
        "2024-01-02 12:00:00.123456+00",
        "2024-01-02T14:00:00.123456+02:00",
        "2024-01-02T14:00:00.123456 +0200",
        "2024-01-02T12:00:00.123456",
        "2024-01-02t12:00:00.123456z",
        "2024-01-02 12:00:00.123456 UTC",
        "2024-01-02T12:00:00.123456000Z",
        " 2024-01-02T12:00:00,123456Z",
    ],
)
def test_moments_are_understood_in_the_forms_that_taps_write(declared: Any, written: str) -> None:
    moment = NOON if declared is not LOCAL else NOON.replace(tzinfo=None)
    assert decoded(declared, f'"{written}"', "null") == ([moment, None], {})


@pytest.mark.parametrize(
    ("declared", "values", "expected"),
    [
        (INTEGER, ["1.0", "1e3", '"12"', '" 12.0 "', "true", "9007199254740993.0"],
         [1, 1000, 12, 12, 1, 9007199254740993]),
        (NUMBER, ['"1.5"', '"-1E3"', '".5"'], [1.5, -1000, 0.5]),
        ({"type": "boolean"}, ["0", "1", '"true"', '"F"', '"0"', "1.0"],
         [False, True, True, False, False, True]),
        (TEXT, ["7", "1.50", "true", '{"a": 1.0}', "1e400", "NaN"],
         ["7", "1.50", "true", '{"a": 1.0}', "1e400", "NaN"]),
        (text(contentEncoding="base64"), ['"AP-_"', '"AQ"', '"AP8A\\n"'],
         [b"\0\xff\xbf", b"\1", b"\0\xff\0"]),
        (text(format="date"), ['"2024-01-02T00:00:00Z"', '"2024-01-02t00:00:00+05:00"'],
         [date(2024, 1, 2)] * 2),
        (text(format="time"), ['"12:00:00.5"', '"12:00:00.5Z"', '"12:00:00.500+00"'],
         [time(12, 0, 0, 500000)] * 3),
        (decimal(20, 2), ['" 1.5 "', '"1.50000000000"'], [Decimal("1.5")] * 2),
        (decimal(), ['" 1.5 "', '"1E2"'], ["1.5", "100"]),
        (OBJECT, ['{"a":"\x01"}'], ['{"a":"\\u0001"}']),
        ({"type": "integer", "maximum": 2**64}, ["18446744073709551615", "1.0"],
         [Decimal(2**64 - 1), 1]),
    ],
)  # fmt: skip
def test_other_forms_of_a_value_are_taken_as_it(
    declared: Any, values: list[str], expected: list[Any]
) -> None:
    assert decoded(declared, *values, "null") == ([*expected, None], {})


@pytest.mark.parametrize(
    ("declared", "values", "expected", "change"),
    [
        (text(format="date-time"), ["2024-01-02T12:00:00.1234567Z"], [NOON], CUT),
        (text(format="time"), ["12:00:00+02"], [time(10)], MOVED),
        (text(format="date-time"), ["", "0000-00-00 00:00:00", "infinity"], [None] * 3, NULLED),
        (text(format="date-time"), ["2016-12-31T23:59:60Z"], [None], NULLED),
        (text(format="date"), ["", "0000-00-00", "0044-03-15 BC"], [None] * 3, NULLED),
        (text(format="time"), ["", "24:00:00", "838:59:59", "23:59:60"], [None] * 4, NULLED),
        (INTEGER, ["", "1.5", "1_000", "1e30"], [None] * 4, NULLED),
        (NUMBER, ["", "NaN", "1e999", "1_0"], [None] * 4, NULLED),
        (decimal(), ["", "1_0", "1e999999999"], [None] * 3, NULLED),
    ],
)
def test_a_value_that_is_not_held_exactly_is_counted(
    declared: Any, values: list[str], expected: list[Any], change: str
) -> None:
    quoted = [json.dumps(value) for value in values]
    assert decoded(declared, *quoted, "null") == ([*expected, None], {change: len(values)})


WIDE = ["1e400", "-1e309", "9" * 400, "1" + "0" * 300 + "e9", "1.5E+0400", "NaN", "-Infinity"]


@pytest.mark.parametrize("number", WIDE)
def test_a_number_that_bigquery_refuses_becomes_text_within_its_document(number: str) -> None:
    """It would keep its table from ever being loaded again: "number overflow"."""
    harmless = '{"a":["1e400",1.7976931348623157e308,1e-400,"550e8400-e29b"]}'
    documents = [harmless, number, f'{{"a": [1,{number}]}}', '"x"', f"[{number}]", harmless]
    expected = [
        harmless,
        f'"{number}"',
        f'{{"a": [1,"{number}"]}}',
        '"x"',
        f'["{number}"]',
        harmless,
    ]
    anything = {"type": ["object", "array", "string", "number"]}
    assert decoded(anything, *documents) == (expected, {SPELT: 3})
    assert decoded({}, number)[0] == [number]


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
        3: "[1e400]",
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


BAD = [
    (INTEGER, "1.5", "got float"),
    (INTEGER, str(2**70), "INT64"),
    (INTEGER, '"secret"', "got str"),
    (NUMBER, "1e999", "out of range"),
    (text(format="date-time"), '"secret"', "TIMESTAMP"),
    (text(format="date-time"), '"10000-01-01T00:00:00Z"', "TIMESTAMP"),
    (text(format="date"), '"0000-01-01"', "DATE"),
    (decimal(10, 2), '"12.3456789012"', "NUMERIC"),
    (decimal(30, 12), f'"{10**18}"', "BIGNUMERIC(30, 12)"),
    (decimal(), '"1e99"', "BIGNUMERIC"),
    (decimal(), '"NaN"', "BIGNUMERIC"),
    (text(contentEncoding="base64"), '"%%"', "base64"),
    (OBJECT, "[" * 501 + "]" * 501, "JSON"),
    (OBJECT, "[" * 3000 + '{"secret":"\\ud83d]"}' + "]" * 3000, "nested too deep"),
]
RECORD = '{"type":"RECORD","stream":"s","record":{"id":%d,"v%d":%s}}'


def test_a_bad_value_becomes_null_and_is_counted(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    properties = {f"v{n}": declared for n, (declared, _, _) in enumerate(BAD)}
    bad = [RECORD % (n, n, value) for n, (_, value, _) in enumerate(BAD)]
    good = [record("s", {"id": 100 + n}) for n in range(3)]
    messages = [schema("s", {"id": INTEGER, **properties}), *bad, *good, *bad, state(1)]
    assert dataset.load(messages) == [1]
    names = ", ".join(f"v{n}" for n in range(len(BAD)))
    assert dataset.rows("s", f"id, {names}") == [
        (n, *[None] * len(BAD)) for n in (*range(len(BAD)), 100, 101, 102)
    ]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert sorted(warnings) == sorted(
        f"stream 's', column 'v{n}': 2 values became null, as the column can't hold them"
        for n in range(len(BAD))
    )


@pytest.mark.parametrize(("declared", "value", "says"), BAD)
def test_a_bad_value_ends_the_run_if_asked_for_and_is_not_told(
    dataset: Any, declared: Any, value: str, says: str
) -> None:
    messages = [
        schema("s", {"id": INTEGER, "v0": declared}),
        record("s", {"id": 1}),
        RECORD % (2, 0, value),
        state(1),
    ]
    place = r"stream 's', column 'v0': .* can't hold the value of record 2 after the SCHEMA"
    with pytest.raises(TargetError, match=place) as caught:
        dataset.load(messages, on_bad_value="fail")
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert dataset.capsys.readouterr().out == ""


def test_a_bad_time_of_extraction_stops_no_run(dataset: Any) -> None:
    bad = ["2020-02-30", 1704067200, ""]
    stamped = [{**record("s", {"id": n}), "time_extracted": at} for n, at in enumerate(bad)]
    assert dataset.load([schema("s", {"id": INTEGER}), *stamped, state(1)]) == [1]
    assert dataset.rows("s", "id, _sdc_extracted_at") == [(n, None) for n in range(3)]


@pytest.mark.parametrize("name", ["id", "_ab_cdc_deleted_at"])
def test_a_key_or_the_mark_of_a_delete_is_never_changed(dataset: Any, name: str) -> None:
    properties = {"id": TEXT, "_ab_cdc_deleted_at": text(format="date-time")}
    bad = {"id": '"a"', "_ab_cdc_deleted_at": "null", name: '"se\\ud83dcret"'}
    line = ",".join(f'"{key}":{value}' for key, value in bad.items())
    messages = [
        schema("s", properties),
        f'{{"type":"RECORD","stream":"s","record":{{{line}}}}}',
        state(1),
    ]
    with pytest.raises(TargetError, match=f"stream 's', column '{name}': ") as caught:
        dataset.load(messages)
    assert "cret" not in str(caught.value)


def test_the_mark_of_a_delete_may_lose_digits_of_a_second(dataset: Any) -> None:
    moment = text(format="date-time")
    gone = {"id": 1, "_sdc_deleted_at": "2024-01-01T00:00:00.123456789Z"}
    messages = [schema("s", {"id": INTEGER, "_sdc_deleted_at": moment}), record("s", gone)]
    dataset.load(messages)
    assert dataset.rows("s", "id, _sdc_deleted_at IS NULL") == [(1, False)]


def test_broken_characters_are_replaced_and_counted(
    dataset: Any, caplog: pytest.LogCaptureFixture
) -> None:
    columns = {"id": INTEGER, "t": TEXT, "a": {}, "j": OBJECT, "whole": TEXT}
    lines = [json.dumps(schema("s", columns)).encode(), json.dumps(record("s", {"id": 0})).encode()]
    for number, broken in enumerate(
        (rb"\ud83d", rb"\udE00x", rb"\ud83d\ud83d", rb"\uD83D\u0041", b"\xff", b"\xe4\xb8"), 1
    ):
        whole = rb"\ud83d\ude00 \\ud83d " + "\ufffd".encode()
        lines.append(
            b'{"type":"RECORD","stream":"s","record":{"id":%d,"t":"<%s>","a":"<%s>",'
            b'"j":{"k":["<%s>"]},"whole":"%s","unknown":"%s"}}'
            % (number, broken, broken, broken, whole, broken)
        )
    target = TargetBigQuery(config=dataset.config())
    target.listen(io.BytesIO(b"\n".join(lines)))  # type: ignore[arg-type]
    rows = dataset.rows("s", "id, t, a, JSON_VALUE(j, '$.k[0]'), whole")[1:]
    for _, plain, anything, nested, whole in rows:
        assert plain == anything == nested
        assert plain[:2] == "<\ufffd"
        assert whole == "😀 \\ud83d \ufffd"
    assert [plain for _, plain, *_ in rows][1:4] == ["<\ufffdx>", "<\ufffd\ufffd>", "<\ufffdA>"]
    said = [r.getMessage() for r in caplog.records if "broken" in r.getMessage()]
    assert said == [
        f"stream 's', column '{name}': 6 values had broken characters, which became U+FFFD"
        for name in "taj"
    ]


@pytest.mark.parametrize("broken", [b"\\ud83d", b"\xff"])
def test_a_name_with_broken_characters_is_a_name(dataset: Any, broken: bytes) -> None:
    lines = [
        b'{"type":"SCHEMA","stream":"s%s","schema":{"properties":{"id":{"type":"integer"},"v%s":{}}}}',
        b'{"type":"RECORD","stream":"s%s","record":{"id":1,"v%s":"x"}}',
        b'{"type":"ACTIVATE_VERSION","stream":"s%s","version":1,"v%s":1}',
    ]
    target = TargetBigQuery(config=dataset.config())
    target.listen(io.BytesIO(b"\n".join(line % (broken, broken) for line in lines)))  # type: ignore[arg-type]
    (row,) = dataset.query("SELECT * FROM `{d}.s_`")
    assert (row["id"], row["v_"]) == (1, "x")


def test_a_broken_state_is_not_changed_but_refused(dataset: Any) -> None:
    with pytest.raises(TargetError, match="not a Singer message"):
        dataset.load(['{"type":"STATE","value":"\\ud83d"}'])
    target = TargetBigQuery(config=dataset.config())
    with pytest.raises(TargetError, match="a STATE is not UTF-8"):
        target.listen(io.BytesIO(b'{"type":"STATE","value":"\xff"}'))  # type: ignore[arg-type]
    assert dataset.capsys.readouterr().out == ""


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
