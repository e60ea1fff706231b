"""Values: the same from the snapshot and from the stream, to the byte, and as documented."""

from __future__ import annotations

import json
import pickle
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.rows import KeyLossError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Source

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'very "happy"');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(8, 3) CHECK (VALUE >= 0);
CREATE DOMAIN prices AS price[];
"""

# Type, value as SQL, value as JSON.
CASES: list[tuple[str, str, Any]] = [
    ("smallint", "-32768", -32768),
    ("integer", "2147483647", 2147483647),
    ("bigint", "-9223372036854775808", -9223372036854775808),
    ("oid", "4294967295", 4294967295),
    ("numeric", "12345678901234567890123456.123456789", "12345678901234567890123456.123456789"),
    ("numeric(10, 2)", "1.5", "1.50"),
    ("numeric(20, 0)", "-0", "0"),
    ("numeric", "'NaN'", None),
    ("numeric", "'-Infinity'", None),
    ("real", "1.1", 1.1),
    ("real", "'-Infinity'", None),
    ("double precision", "1e300", 1e300),
    ("double precision", "0.1::float8 + 0.2", 0.30000000000000004),
    ("double precision", "'-0'", -0.0),
    ("double precision", "'NaN'", None),
    ("double precision", "'Infinity'", None),
    ("boolean", "true", True),
    ("boolean", "false", False),
    ("char(5)", "'ab'", "ab   "),
    ("varchar(10)", "'ü\U0001f600'", "ü\U0001f600"),
    ("text", "''", ""),
    ("text", "'\\N'", "\\N"),
    ("text", r"""E'tab\tline\nreturn\rquote"back\\slash\x01\b\f\x0b\x7f/é'""",
     'tab\tline\nreturn\rquote"back\\slash\x01\b\f\v\x7f/é'),
    ("text", "'{\"json\": \"in text\"}'", '{"json": "in text"}'),
    ("text", "repeat('x', 20000)", "x" * 20000),
    ("name", "'a name'", "a name"),
    ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    ("mood", "'very \"happy\"'", 'very "happy"'),
    ("inet", "'192.168.0.1/24'", "192.168.0.1/24"),
    ("cidr", "'10.0.0.0/8'", "10.0.0.0/8"),
    ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("macaddr8", "'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05"),
    ("money", "'12.34'", "$12.34"),
    ("bit(4)", "B'0101'", "0101"),
    ("varbit", "B'1'", "1"),
    ("tsvector", "to_tsvector('simple', 'a ''fat'' cat')", "'a':1 'cat':3 'fat':2"),
    ("tsquery", "'fat & rat'", "'fat' & 'rat'"),
    ("int4range", "'[1,5)'", "[1,5)"),
    ("tstzrange", "'[2020-01-01 00:00+00,)'", '["2020-01-01 00:00:00+00",)'),
    ("int4multirange", "'{[1,2),[5,6)}'", "{[1,2),[5,6)}"),
    ("point", "'(1.5,2)'", "(1.5,2)"),
    ("polygon", "'((0,0),(1,1),(1,0))'", "((0,0),(1,1),(1,0))"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("pair", "ROW(1, 'a \"b\"')", '(1,"a ""b""")'),
    ("regclass", "'pg_class'", "pg_class"),
    ("int2vector", "'1 2'", "1 2"),
    ("bytea", "'\\x00ff5c6e'", "AP9cbg=="),
    ("bytea", "''", ""),
    ("date", "'2024-02-29'", "2024-02-29"),
    ("date", "'0001-01-01'", "0001-01-01"),
    ("date", "'9999-12-31'", "9999-12-31"),
    ("date", "'0044-03-15 BC'", None),
    ("date", "'10000-01-01'", None),
    ("date", "'infinity'", None),
    ("date", "'-infinity'", None),
    ("time", "'12:34:56.123456'", "12:34:56.123456"),
    ("time(0)", "'00:00'", "00:00:00"),
    ("time", "'24:00'", None),
    ("timetz", "'12:34:56.5+02'", "12:34:56.5+02:00"),
    ("timetz", "'12:34:56-05:30'", "12:34:56-05:30"),
    ("timetz", "'12:34:56+00:00:30'", None),
    ("timestamp", "'2024-02-29 12:34:56.123456'", "2024-02-29T12:34:56.123456"),
    ("timestamp", "'0001-01-01'", "0001-01-01T00:00:00"),
    ("timestamp", "'infinity'", None),
    ("timestamp", "'0044-03-15 10:00 BC'", None),
    ("timestamp", "'12024-01-01'", None),
    ("timestamptz", "'2024-02-29 12:34:56.123456+02'", "2024-02-29T10:34:56.123456+00:00"),
    ("timestamptz", "'-infinity'", None),
    ("timestamptz", "'9999-12-31 23:59:59-12'", None),
    ("timestamptz", "'0001-01-01 00:00:00+12'", None),
    ("interval", "'1 year 2 days 03:04:05.6'", "P1Y2DT3H4M5.6S"),
    ("interval", "'-1 month'", "P-1M"),
    ("json", "E'{\"a\": 1,\\n  \"a\": [1.50, null]}'", {"a": [Decimal("1.50"), None]}),
    ("json", r"""'"line\nbreak"'""", "line\nbreak"),
    ("jsonb", "'{\"b\": {\"c\": \"ü\\\"\\\\\"}, \"a\": 12345678901234567890.10}'",
     {"a": Decimal("12345678901234567890.10"), "b": {"c": 'ü"\\'}}),
    ("jsonb", "'null'", None),
    ("jsonb", "'\"text\"'", "text"),
    ("jsonb", "'[1, 2]'", [1, 2]),
    ("xml", "'<a>1</a>'", "<a>1</a>"),
    ("price", "1.5", "1.500"),
    ("int[]", "'{1,NULL,-3}'", [1, None, -3]),
    ("int[]", "'{}'", []),
    ("int[]", "'[0:1]={7,8}'", [7, 8]),
    ("int[][]", "'{{1,2},{3,NULL}}'", [[1, 2], [3, None]]),
    ("int[][][]", "'{{{1},{2}},{{3},{4}}}'", [[[1], [2]], [[3], [4]]]),
    ("text[]", r"""ARRAY['a b', 'NULL', NULL, '', 'x"y\z', '{},', E'l\n']""",
     ["a b", "NULL", None, "", 'x"y\\z', "{},", "l\n"]),
    ("numeric(5, 1)[]", "'{1.25,NaN}'", ["1.3", None]),
    ("double precision[]", "'{1.5,Infinity}'", [1.5, None]),
    ("boolean[]", "'{t,f}'", [True, False]),
    ("timestamptz[]", "'{2024-01-01 00:00+01}'", ["2023-12-31T23:00:00+00:00"]),
    ("jsonb[]", "ARRAY['{\"a\": \"b c\"}'::jsonb]", [{"a": "b c"}]),
    ("bytea[]", "ARRAY['\\x00'::bytea]", ["AA=="]),
    ("box[]", "'{(1,1),(0,0);(2,2),(1,1)}'", ["(1,1),(0,0)", "(2,2),(1,1)"]),
    ("mood[]", "ARRAY['sad', 'very \"happy\"']::mood[]", ["sad", 'very "happy"']),
    ("prices", "ARRAY[1, 2.5]::price[]", ["1.000", "2.500"]),
]  # fmt: skip
CONTRIB_CASES: list[tuple[str, str, Any]] = [
    ("citext", "'Mixed'", "Mixed"),
    ("hstore", "'a=>\"1 2\", b=>NULL'", '"a"=>"1 2", "b"=>NULL'),
    ("ltree", "'Top.Science'", "Top.Science"),
    ("citext[]", "'{Ab,c d}'", ["Ab", "c d"]),
]


def columns_of(lines: list[bytes]) -> list[bytes]:
    """What the records say of the row, without its id and the columns of change data capture."""
    return [re.sub(rb'"id":\d+,|,?"_ab_cdc_.*', b"", line) for line in lines if b'"RECORD"' in line]


def test_snapshot_and_stream_write_every_type_alike(source: Source) -> None:
    source.sql(TYPES)
    cases = list(CASES)
    if "citext" in {n for (n,) in source.sql("SELECT name FROM pg_available_extensions")}:
        source.sql("CREATE EXTENSION citext", "CREATE EXTENSION hstore", "CREATE EXTENSION ltree")
        cases += CONTRIB_CASES
    if not has_xml(source):
        cases = [case for case in cases if case[0] != "xml"]
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _, _) in enumerate(cases))
    values = ", ".join(sql for _, sql, _ in cases)
    source.sql(f"CREATE TABLE types (id int PRIMARY KEY, {columns})")
    source.publish()
    source.sql(f"INSERT INTO types VALUES (1, {values})", "INSERT INTO types VALUES (2)")
    snapshot = source.run()
    source.sql(f"INSERT INTO types VALUES (11, {values})", "INSERT INTO types VALUES (12)")
    stream = source.run()

    assert columns_of(snapshot.lines) == columns_of(stream.lines)
    line = next(line for line in stream.lines if b'"id":11' in line)
    record = json.loads(line, parse_float=Decimal)["record"]
    for i, (kind, sql, expected) in enumerate(cases):
        value = record[f"c{i}"]
        if isinstance(expected, float):
            value = float(value)
        elif isinstance(expected, list) and any(isinstance(item, Decimal) for item in value):
            value = [None if item is None else float(item) for item in value]
        assert value == expected, f"{kind} {sql}"
    assert snapshot.records("types")[1] | {"id": 2} == snapshot.records("types")[1]
    assert {snapshot.records("types")[1][f"c{i}"] for i in range(len(cases))} == {None}


def has_xml(source: Source) -> bool:
    try:
        source.sql("SELECT '<a/>'::xml")
    except Exception:  # noqa: BLE001
        return False
    return True


def test_schema_has_the_annotations_of_airbyte(embedded: Source) -> None:
    embedded.sql(
        TYPES,
        """CREATE TABLE t (id bigint PRIMARY KEY, n numeric(12, 3), plain numeric, day date,
        moment timestamptz, local timestamp, zoned timetz, clock time, bin bytea, doc jsonb,
        matrix int[][], cost price, negative numeric(2, -3), tiny numeric(3, 5), ok bool,
        f real)""",
    )
    embedded.publish()
    (stream,) = embedded.catalog()["streams"]
    properties = stream["schema"]["properties"]
    assert stream["schema"]["required"] == ["id"]
    assert properties["id"] == {"type": ["integer"], "airbyte_type": "integer"}
    decimal = {"type": ["string", "null"], "format": "singer.decimal", "airbyte_type": "big_number"}
    assert properties["plain"] == decimal
    assert properties["n"] == {**decimal, "precision": 12, "scale": 3}
    assert properties["cost"] == {**decimal, "precision": 8, "scale": 3}
    assert properties["negative"] == {**decimal, "precision": 5, "scale": 0}
    assert properties["tiny"] == {**decimal, "precision": 5, "scale": 5}
    assert properties["day"]["format"] == "date"
    assert properties["moment"]["airbyte_type"] == "timestamp_with_timezone"
    assert properties["local"]["airbyte_type"] == "timestamp_without_timezone"
    assert properties["local"]["format"] == properties["moment"]["format"] == "date-time"
    assert properties["zoned"]["airbyte_type"] == "time_with_timezone"
    assert properties["clock"]["airbyte_type"] == "time_without_timezone"
    assert properties["bin"] == {"type": ["string", "null"], "contentEncoding": "base64"}
    assert "object" in properties["doc"]["type"]
    assert "null" in properties["doc"]["type"]
    inner = properties["matrix"]["items"]
    assert properties["matrix"]["type"] == inner["type"] == ["array", "null"]
    assert inner["items"]["type"] == ["integer", "null"]
    assert properties["ok"] == {"type": ["boolean", "null"]}
    assert properties["f"] == {"type": ["number", "null"]}


def test_values_that_json_cannot_hold_are_counted(
    embedded: Source, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, f float8)",
        "INSERT INTO t SELECT i, CASE WHEN i % 2 = 0 THEN 'NaN'::float8 END"
        " FROM generate_series(1, 5000) i",
    )
    embedded.publish()
    embedded.run()
    assert "Stream t, column f: values that became null" in caplog.text
    assert ": 2,500" in caplog.text


BAD_JSON = (
    ("json", r"""'{"a": "\ud83d", "b": "\ud83d\ude00 \\ud83d", "c": "\ude00x"}'""",
     {"a": "\ufffd", "b": "\U0001f600 \\ud83d", "c": "\ufffdx"}, True),
    ("json", "repeat('[', 500) || '1' || repeat(']', 500)", ..., False),
    ("json", "repeat('[', 501) || '1' || repeat(']', 501)", None, True),
    ("jsonb", """repeat('{"\\\\\\"[":', 501) || '1' || repeat('}', 501)""", None, True),
    ("jsonb", """'["' || repeat('[\\"', 600) || '"' || repeat(', {}', 600) || ']'""", ..., False),
)  # fmt: skip


def test_json_that_bigquery_cannot_read_is_mended_and_counted(
    embedded: Source, caplog: pytest.LogCaptureFixture
) -> None:
    columns = ", ".join(f"c{i} {kind}" for i, (kind, *_) in enumerate(BAD_JSON))
    values = ", ".join(f"({sql})::{kind}" for kind, sql, *_ in BAD_JSON)
    embedded.sql(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    embedded.publish()
    embedded.sql(f"INSERT INTO t VALUES (1, {values})")
    copied = embedded.run()
    embedded.sql(f"INSERT INTO t VALUES (2, {values})")
    streamed = embedded.run()
    for run in (copied, streamed):
        (record,) = run.records("t")
        for i, (_, _, expected, is_bad) in enumerate(BAD_JSON):
            assert record[f"c{i}"] == expected or (expected is ... and record[f"c{i}"])
            counted = [line for line in caplog.messages if f"column c{i}:" in line]
            assert len(counted) == 2 * is_bad
            assert all(line.endswith(": 1") for line in counted)
    assert any("got \\ufffd in its place, as they hold half" in line for line in caplog.messages)
    assert any("nested deeper than 500 levels" in line for line in caplog.messages)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_value_ends_the_run_if_it_is_to(embedded: Source, workers: int) -> None:
    """Also when another process meets it; nothing of what comes after it is in the state."""
    embedded.options |= {"on_bad_value": "fail", "snapshot_workers": workers}
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, f float8, padding text)",
        "INSERT INTO t SELECT i, 0, repeat('x', 1000) FROM generate_series(1, 20000) i",
        "INSERT INTO t VALUES (0, 'NaN')",
    )
    embedded.publish()
    refused = "stream t: column f holds values that can't be written, .*NaN.* on_bad_value to null"
    with pytest.raises(CaptureError, match=refused):
        embedded.run()
    embedded.sql("DELETE FROM t WHERE id = 0")
    embedded.run()
    embedded.sql("INSERT INTO t VALUES (0, 'NaN')")
    with pytest.raises(CaptureError, match=refused):
        embedded.run()
    embedded.options["on_bad_value"] = "null"
    assert [record["id"] for record in embedded.run().records("t")] == [0]


def test_a_table_whose_key_json_cannot_hold_waits(embedded: Source) -> None:
    embedded.sql(
        "CREATE TABLE t (id int, until date, PRIMARY KEY (id, until))",
        "INSERT INTO t VALUES (1, 'infinity'), (1, '2020-01-01')",
    )
    embedded.publish()
    with pytest.raises(
        CaptureError, match=r"stream t: key column until .* everything else is loaded"
    ):
        embedded.run()


@pytest.mark.parametrize("show", [False, True])
def test_rows_of_values_that_are_lost_are_named_only_if_that_is_wanted(
    embedded: Source, caplog: pytest.LogCaptureFixture, show: bool
) -> None:
    embedded.sql(
        "CREATE TABLE t (n float8, name text PRIMARY KEY)",
        "INSERT INTO t VALUES ('NaN', 'Alice'), (1, 'Bob')",
    )
    embedded.publish()
    embedded.options["show_values"] = show
    embedded.run()
    embedded.sql("INSERT INTO t VALUES ('Infinity', 'Carol')")
    embedded.run()
    assert caplog.text.count("Stream t, column n: values that became null") == 2
    for name in ("Alice", "Carol"):
        assert (f'in the row with key "{name}": 1' in caplog.text) == show
        assert (name in caplog.text) == show
    assert "Bob" not in caplog.text


def test_an_error_of_a_value_comes_from_another_process_as_it_was() -> None:
    error = KeyLossError("a key can't be written", "t", "until")
    again = pickle.loads(pickle.dumps(type(error)(*error.args)))
    assert (str(again), again.stream, again.column) == (str(error), "t", "until")


@pytest.fixture
def ascii_source(source: Source) -> Iterator[Source]:
    """A source whose database has no encoding."""
    source.sql(
        "CREATE DATABASE bytes ENCODING SQL_ASCII TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    source.database = "bytes"
    yield source
    source.database = "postgres"
    source.sql(
        f"SELECT pg_drop_replication_slot('{source.slot}')", "DROP DATABASE bytes WITH (FORCE)"
    )


def test_text_without_an_encoding_is_mended_and_counted(
    ascii_source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    source = ascii_source
    with source.connect(client_encoding="SQL_ASCII") as connection:

        def execute(statements: bytes) -> None:
            connection.execute(statements)

        execute(
            'CREATE TABLE "té" (id int PRIMARY KEY, "ü" text, list text[], doc json, large text);'
            'ALTER TABLE "té" ALTER large SET STORAGE EXTERNAL; CREATE SCHEMA other;'.encode()
            + b'CREATE TABLE other."t\xe9" ("\xe9" int)'
        )
        source.publish()
        row = b"'caf\xe9', ARRAY['\xe9', '\xc3\xa9'], '{\"a\": \"\xe9\"}', repeat('\xe9', 9000)"
        execute('INSERT INTO "té" VALUES (1, '.encode() + row + b")")
        copied = source.run()
        execute(b'INSERT INTO other."t\xe9" VALUES (1)')
        execute('INSERT INTO "té" VALUES (2, '.encode() + row + b")")
        execute('UPDATE "té" SET doc = NULL WHERE id = 1'.encode())
        streamed = source.run()
        counted = [line.split(":")[0] for line in caplog.messages if "they are not UTF-8" in line]
        assert counted == 2 * [
            f"Stream té, column {name}" for name in ("doc", "large", "list", "ü")
        ]
        advice = "convert_from(convert(convert_to(c, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII')"
        assert advice in caplog.text
        converted = advice.replace("(c,", '("ü",')
        execute(f'UPDATE "té" SET "ü" = {converted} WHERE id = 1'.encode())
        mended = source.run()
        source.options["on_bad_value"] = "fail"
        execute('UPDATE "té" SET list = list WHERE id = 2'.encode())
        with pytest.raises(
            CaptureError, match=r"column ü holds values .* not UTF-8 .* convert_from"
        ):
            source.run()
    bad = {"ü": "caf\ufffd", "list": ["\ufffd", "é"], "large": "\ufffd" * 9000}
    for record in (*copied.records("té"), *streamed.records("té")):
        assert {name: record[name] for name in bad} == bad
    assert [record["doc"] for record in streamed.records("té")] == [{"a": "\ufffd"}, None]
    (record,) = mended.records("té")
    assert record["ü"] == "café"
