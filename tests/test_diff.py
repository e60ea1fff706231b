"""`sandbox diff` finds every kind of difference, and none where there is none."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from click.testing import CliRunner

from sandbox import cli
from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.diff import Difference, TableReport, differences, keyed, source, warehouse
from sandbox.diff.columns import hashed_groups, shared_columns, source_hash, warehouse_hash
from sandbox.meltano import Meltano
from sandbox.postgres import HOST, PASSWORD, Postgres, debian_programs, embedded_programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg
    from google.cloud import bigquery

ROOT = Path(__file__).parents[1]
SANDBOX = str(Path(sys.executable).with_name("sandbox"))
DATASET = "compared"
SETTINGS = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"

TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'very "happy"');
CREATE TYPE pair AS (a int, b text);
CREATE DOMAIN price AS numeric(8, 3);
CREATE DOMAIN prices AS price[];
"""
# A column of each type with values, among them those that the pipeline can't carry.
VALUES: dict[str, tuple[str, ...]] = {
    "smallint": ("-32768",),
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "oid": ("4294967295",),
    "numeric(12, 4)": ("1.5", "-0", "0.0001", "'NaN'"),
    "numeric(38, 12)": ("12345678901234567890123456.123456789012",),
    "numeric(80, 2)": ("1.50", "'NaN'"),
    "real": ("1.1", "'-Infinity'", "'NaN'"),
    "double precision": ("1e300", "0.1::float8 + 0.2", "100", "'-0'", "'Infinity'", "5e-324"),
    "boolean": ("true", "false"),
    "char(5)": ("'ab'",),
    "text": (
        "''",
        "'!0'",
        "'a!,b'",
        r"E'tab\tline\nquote\"back\\é\U0001f600\x01'",
        "repeat('x', 20000)",
        "'NaN'",
    ),
    "uuid": ("'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'",),
    "mood": ("'very \"happy\"'",),
    "pair": ("ROW(1, NULL)", "ROW(1, 'a \"b\"')"),
    "inet": ("'192.168.0.1/24'",),
    "varbit": ("B'101'",),
    "int4range": ("'[1,5)'",),
    "point": ("'(1.5,2)'",),
    "interval": ("'1 year 2 days 03:04:05.6'", "'-1 month'"),
    "bytea": (r"'\x00ff5c6e'", "''"),
    "date": ("'2024-02-29'", "'0001-01-01'", "'0044-03-15 BC'", "'infinity'", "'10000-01-01'"),
    "time": ("'12:34:56.123456'", "'24:00'"),
    "timetz": ("'12:34:56.5+02'", "'12:34:56-05:30'", "'12:00:00+00:00:30'", "'24:00:00+00'"),
    "timestamp": ("'2024-02-29 12:34:56.5'", "'infinity'", "'0044-03-15 10:00 BC'"),
    "timestamptz": ("'2024-02-29 12:34:56.123456+02'", "'-infinity'", "'9999-12-31 23:59:59-12'"),
    "json": ('\'{"b": 1.50, "a": [true, null]}\'', "'null'", "E'[1,\\n 2]'"),
    "jsonb": (
        '\'{"a, b": " : \\\\\\", "}\'',
        '\'{"b": {"c": "ü"}, "a": 1e2}\'',
        "'\"text\"'",
        "'0.1'",
        "'null'",
    ),
    "price": ("1.5",),
    "int[]": ("'{1,NULL,-3}'", "'{}'", "'[0:1]={7,8}'"),
    "int[][]": ("'{{1,2},{3,NULL}}'",),
    "text[]": (r"""ARRAY['a b', 'NULL', NULL, '', 'x"y\z', E'l\n']""",),
    "numeric(5, 1)[]": ("'{1.25,NaN,0,100}'",),
    "double precision[]": ("'{1.5,Infinity,1e300}'",),
    "boolean[]": ("'{t,f}'",),
    "bytea[]": (r"ARRAY['\x00'::bytea]",),
    "date[]": ("'{2024-01-01,infinity}'",),
    "time[]": ("'{12:00,24:00}'",),
    "timetz[]": ("'{12:00+02}'",),
    "timestamptz[]": ("'{2024-01-01 00:00:00.5+01,infinity}'",),
    "timestamp[]": ("'{2024-01-01}'",),
    "jsonb[]": ("ARRAY['{\"a\": \"b c\"}'::jsonb, 'null']",),
    "box[]": ("'{(1,1),(0,0);(2,2),(1,1)}'",),
    "mood[]": ("ARRAY['sad', 'very \"happy\"']::mood[]",),
    "prices": ("ARRAY[1, 2.5]::price[]",),
}
# By the type of the column in the warehouse, what none of the rows has.
OTHER = {
    "INT64": "7",
    "FLOAT64": "0.30000000000000005",
    "NUMERIC": "NUMERIC '1.5001'",
    "BIGNUMERIC": "CAST('12345678901234567890123456.123456789013' AS BIGNUMERIC)",
    "BOOL": "NULL",
    "STRING": "'other'",
    "BYTES": r"b'\x01'",
    "DATE": "DATE '2024-03-01'",
    "TIME": "TIME '12:34:56.123457'",
    "DATETIME": "DATETIME '2024-02-29 12:34:56.500001'",
    "TIMESTAMP": "TIMESTAMP '2024-02-29 10:34:56.123457+00'",
    "JSON": "JSON '[1, false]'",
}
TABLES = """
CREATE TABLE votes (id int PRIMARY KEY, name text, share numeric(10, 2), doc jsonb);
INSERT INTO votes SELECT i, 'n' || i, i / 4.0, jsonb_build_object('i', i)
  FROM generate_series(1, 300) i;
CREATE TABLE pairs (a text, b int, name text, PRIMARY KEY (a, b));
INSERT INTO pairs SELECT (ARRAY['a', 'B', 'é', 'a b', '_', ''])[i % 6 + 1], i, 'p' || i
  FROM generate_series(1, 200) i;
CREATE TABLE hashes (hash bytea PRIMARY KEY, name text);
INSERT INTO hashes SELECT decode(md5(i::text), 'hex'), 'h' || i FROM generate_series(1, 100) i;
CREATE TABLE moments (moment timestamptz, id uuid, PRIMARY KEY (moment, id));
INSERT INTO moments SELECT '2024-01-01Z'::timestamptz + i * interval '1.000001 second',
  md5(i::text)::uuid FROM generate_series(1, 50) i;
CREATE TABLE "Odd-Name" ("an id" int PRIMARY KEY, "1st" text);
INSERT INTO "Odd-Name" VALUES (1, 'x'), (2, 'y');
CREATE TABLE texts (id int PRIMARY KEY, a text, b text);
CREATE TABLE keyless (name text);
INSERT INTO keyless VALUES ('x'), ('x');
CREATE TABLE empty (id int PRIMARY KEY);
"""
# Joined without care, one of these would look like another.
TEXTS: dict[int, tuple[str | None, str | None]] = {
    1: ("a", "bc"),
    2: ("", "x"),
    3: (None, "x"),
    4: ("!0", "x"),
    5: ("a!", ",b"),
    6: (None, ""),
    7: ("x", "y"),
    8: ("y", "x"),
}
PUBLISHED = (
    *("types", "votes", "pairs", "hashes", "moments", "texts", '"Odd-Name"', "keyless", "empty"),
)


class Sides(NamedTuple):
    server: Postgres
    source: psycopg.Connection
    client: bigquery.Client
    environment: dict[str, str]

    def compare(self, *tables: str) -> list[TableReport]:
        return list(differences(self.source, self.client, DATASET, tables))

    def change(self, statement: str) -> None:
        self.client.query(statement.replace("{d}", DATASET)).result()


def types_table() -> str:
    columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(VALUES))
    rows = [
        f"INSERT INTO types (id, c{i}) VALUES ({i * 10 + j}, {value})"
        for i, values in enumerate(VALUES.values())
        for j, value in enumerate(values)
    ]
    return f"CREATE TABLE types (id int PRIMARY KEY, {columns});" + ";".join(rows)


@pytest.fixture(scope="module", params=[embedded_programs, debian_programs], ids=["18", "15"])
def sides(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sides]:
    """A database that was loaded into a warehouse by the pipeline itself."""
    programs = request.param()
    if not programs.exists() and "CI" not in os.environ:
        pytest.skip("PostgreSQL 15 is not installed: apt-get install postgresql-15")
    with (
        BigQueryEmulator() as emulator,
        running(programs) as server,
        server.connect() as source,
    ):
        source.execute(TYPES + TABLES)
        source.execute(types_table())
        for key, texts in TEXTS.items():
            source.execute("INSERT INTO texts VALUES (%s, %s, %s)", [key, *texts])
        source.execute(f"CREATE PUBLICATION oso_publication FOR TABLE {', '.join(PUBLISHED)}")
        source.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        environment = {
            **emulator.environ,
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": DATASET,
            f"{SETTINGS}HOST": HOST,
            f"{SETTINGS}PORT": str(server.port),
            f"{SETTINGS}DATABASE": "postgres",
            f"{SETTINGS}USERNAME": "postgres",
            f"{SETTINGS}PASSWORD": PASSWORD,
            f"{SETTINGS}SSL_MODE_MODE": "disable",
        }
        meltano = Meltano(ROOT, tmp_path_factory.mktemp("meltano"), environment)
        meltano.run("run", "tap-my-postgres-datasource", "target-bigquery")
        yield Sides(server, source, emulator.client(), environment)


class Read(NamedTuple):
    """What was read of the warehouse by value."""

    columns: tuple[str, ...]
    after: Any
    up_to: Any


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Read]:
    """The reads of the warehouse by value, as they happen."""
    found: list[Read] = []
    read = warehouse.rows

    def recorded(*args: Any) -> Iterator[warehouse.Position]:
        _, _, fields, (_, after, up_to) = args
        found.append(Read(tuple(field.name for field in fields), after, up_to))
        return read(*args)

    monkeypatch.setattr(warehouse, "rows", recorded)
    return found


@pytest.fixture(autouse=True)
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "RANGE_ROWS", 30)
    monkeypatch.setattr(keyed, "RANGES_AT_ONCE", 4)
    monkeypatch.setattr(keyed, "_FETCH_ROWS", 10)


def only(reports: list[TableReport]) -> list[Difference]:
    [report] = reports
    assert not report.is_equal
    assert report.different == len(report.rows)
    return report.rows


def test_loaded_tables_are_equal_for_every_type(sides: Sides) -> None:
    reports = {report.table: report for report in sides.compare()}
    assert [report for report in reports.values() if not report.is_equal] == []
    assert {*reports} == {"public." + name.strip('"') for name in PUBLISHED}
    votes, keyless = reports["public.votes"], reports["public.keyless"]
    assert (votes.source_rows, votes.warehouse_rows, votes.note) == (300, 300, "")
    assert (keyless.source_rows, keyless.warehouse_rows) == (2, 2)
    assert keyless.note.startswith("only counted")


def test_equal_values_are_read_only_where_the_two_have_no_common_text(
    sides: Sides, monkeypatch: pytest.MonkeyPatch, reads: list[Read]
) -> None:
    monkeypatch.setattr(keyed, "RANGE_ROWS", 1)
    monkeypatch.setattr(keyed, "RANGES_AT_ONCE", 100)
    assert sides.compare("types")[0].is_equal
    kinds = {f"c{i}": kind for i, kind in enumerate(VALUES)}
    always = {*map(kinds.get, reads[0].columns[1:])}
    assert always == {
        *("numeric(5, 1)[]", "double precision[]", "bytea[]", "date[]", "time[]", "timetz[]"),
        *("timestamp[]", "timestamptz[]", "prices"),
    }
    # What is not read at the end though all of it was equal: types whose checksums always agree.
    found = {*map(kinds.get, reads[-1].columns[1:])} - always
    assert found == {"double precision", "json"}  # for -0, which is stored as 0, and for 1.50


def unequal_hashes(sides: Sides) -> tuple[set[tuple[int, int]], dict[str, int]]:
    """Return row and group of the hashes of `types` that differ, and the group of each column."""
    tables = source.published_tables(sides.source, "oso_publication")
    table = next(table for table in tables if table.name == "types")
    stored = warehouse.find_table(sides.client, DATASET, ["types"])
    assert stored
    key, *_ = columns = shared_columns(table, stored)
    groups = hashed_groups(columns)
    ours = ", ".join(source_hash((key, *group)) for group in groups)
    theirs = ", ".join(warehouse_hash((key, *group)) for group in groups)
    with source.snapshot(sides.source):
        expected = sides.source.execute(f"SELECT id, {ours} FROM types ORDER BY id").fetchall()
    rows = sides.client.query(f"SELECT id, {theirs} FROM {DATASET}.types ORDER BY id").result()
    unequal = {
        (row[0], number)
        for row, other in zip(expected, rows, strict=True)
        for number in range(len(groups))
        if row[number + 1] != other[number + 1]
    }
    return unequal, {column.name: i for i, group in enumerate(groups) for column in group}


def test_a_changed_value_of_each_type_is_seen(sides: Sides) -> None:
    schema = sides.client.get_table(f"{sides.client.project}.{DATASET}.types").schema
    kinds = {field.name: field.field_type for field in schema}
    assert {*kinds.values()} == {*OTHER}
    before, hashed = unequal_hashes(sides)
    for values in (dict.fromkeys(OTHER, "NULL"), OTHER):
        for i in range(len(VALUES)):
            value = values[kinds[f"c{i}"]]
            sides.change(f"UPDATE {{d}}.types SET c{i} = {value} WHERE id = {i * 10}")
        # In the sum over a range, the other differences would hide a hash that is blind for one.
        unequal, _ = unequal_hashes(sides)
        assert unequal == before | {(int(name[1:]) * 10, hashed[name]) for name in hashed}
        changed = {row.key["id"]: row for row in only(sides.compare("types"))}
        assert {key: {*row.columns} for key, row in changed.items()} == {
            i * 10: {f"c{i}"} for i in range(len(VALUES))
        }


def literal(text: str | None) -> str:
    return "NULL" if text is None else f"'{text}'"


def test_texts_that_look_alike_when_joined_are_told_apart(sides: Sides) -> None:
    changes = (
        {1: ("ab", "c")},
        {2: (None, "x")},
        {3: ("!0", "x")},
        {4: (None, "x")},
        {5: ("a", "!,b")},
        {6: ("", None)},
        # Each has what the other had, so that neither has a new value.
        {7: ("y", "x"), 8: ("x", "y")},
    )
    for change in changes:
        for texts in (change, {key: TEXTS[key] for key in change}):
            for key, (a, b) in texts.items():
                values = f"a = {literal(a)}, b = {literal(b)}"
                sides.change(f"UPDATE {{d}}.texts SET {values} WHERE id = {key}")
            [report] = sides.compare("texts")
            found = {row.key["id"] for row in report.rows}
            assert found == (set() if texts is not change else {*change})


@pytest.mark.parametrize("key", [1, 30, 31, 121, 300])
def test_of_a_large_table_only_the_range_that_differs_is_read(
    sides: Sides, reads: list[Read], key: int
) -> None:
    sides.change(f"UPDATE {{d}}.votes SET name = 'x' WHERE id = {key}")
    assert [row.key["id"] for row in only(sides.compare("votes"))] == [key]
    first = (key - 1) // 30 * 30
    assert [(read.after, read.up_to) for read in reads] == [
        ((first,) if first else None, (first + 30,) if first < 270 else None)
    ]
    sides.change(f"UPDATE {{d}}.votes SET name = 'n{key}' WHERE id = {key}")
    reads.clear()
    assert sides.compare("votes")[0].is_equal
    assert reads == []


def test_a_column_that_the_two_write_in_another_way_is_equal_and_read_from_then_on(
    sides: Sides, reads: list[Read]
) -> None:
    sides.change(
        "UPDATE {d}.votes SET doc = PARSE_JSON(CONCAT('{\"i\":', id, '.0}')) WHERE id > 200"
    )
    assert sides.compare("votes")[0].is_equal
    assert [read.columns for read in reads] == [
        ("id", "name", "share", "doc"),
        *[("id", "doc")] * 3,
    ]
    sides.change("UPDATE {d}.votes SET doc = JSON '{\"i\":7}' WHERE id = 299")
    assert [row.key["id"] for row in only(sides.compare("votes"))] == [299]
    sides.change("UPDATE {d}.votes SET doc = JSON '{\"i\":299}' WHERE id = 299")


def test_a_row_that_the_warehouse_lacks_is_named(sides: Sides) -> None:
    sides.change("DELETE FROM {d}.votes WHERE id = 300")
    assert only(sides.compare("votes")) == [Difference("missing", {"id": 300}, {})]
    sides.source.execute("DELETE FROM votes WHERE id = 300")
    assert sides.compare("public.votes")[0].is_equal


def test_a_row_that_the_source_lacks_is_named_unless_it_is_marked_as_deleted(sides: Sides) -> None:
    sides.source.execute("DELETE FROM votes WHERE id IN (1, 100)")
    extra = [Difference("extra", {"id": i}, {}) for i in (1, 100)]
    assert only(sides.compare("votes")) == extra
    sides.change("UPDATE {d}.votes SET _ab_cdc_deleted_at = CURRENT_TIMESTAMP() WHERE id = 1")
    assert only(sides.compare("votes")) == extra[1:]
    sides.change("DELETE FROM {d}.votes WHERE id = 100")
    assert sides.compare("votes")[0].is_equal


def test_a_changed_row_is_named_with_its_columns_and_values(sides: Sides) -> None:
    sides.source.execute("""UPDATE votes SET name = 'new', doc = '{"i": 8}' WHERE id = 7""")
    [row] = only(sides.compare("votes"))
    assert (row.kind, row.key) == ("changed", {"id": 7})
    assert row.columns == {"name": ("new", "n7"), "doc": ('{"i": 8}', '{"i": 7}')}
    sides.change("""UPDATE {d}.votes SET name = 'new', doc = JSON '{"i": 8}' WHERE id = 7""")
    assert sides.compare("votes")[0].is_equal


def test_a_key_that_is_there_twice_is_named_though_one_of_the_rows_is_deleted(sides: Sides) -> None:
    sides.change(
        "INSERT INTO {d}.moments (moment, id, _ab_cdc_deleted_at)"
        " SELECT moment, id, CURRENT_TIMESTAMP() FROM {d}.moments ORDER BY moment LIMIT 1"
    )
    [row] = only(sides.compare("moments"))
    assert row.kind == "twice"
    assert row.key["moment"].isoformat() == "2024-01-01T00:00:01.000001+00:00"


def test_rows_of_composite_text_and_binary_keys_are_found_in_their_ranges(sides: Sides) -> None:
    sides.change("DELETE FROM {d}.pairs WHERE a = 'é' AND b = 8")
    sides.change("INSERT INTO {d}.pairs (a, b) VALUES ('z', 1)")
    rows = only(sides.compare("pairs"))
    assert {(row.kind, row.key["a"], row.key["b"]) for row in rows} == {
        ("missing", "é", 8),
        ("extra", "z", 1),
    }
    key = hashlib.md5(b"50").digest()
    sides.change(f"UPDATE {{d}}.hashes SET name = 'other' WHERE TO_HEX(`hash`) = '{key.hex()}'")
    assert [row.key for row in only(sides.compare("hashes"))] == [{"hash": key}]


def test_counts_of_a_table_without_a_key_are_compared(sides: Sides) -> None:
    sides.source.execute("INSERT INTO keyless VALUES ('y')")
    [report] = sides.compare("keyless")
    assert not report.is_equal
    assert (report.source_rows, report.warehouse_rows) == (3, 2)


def test_a_table_or_column_that_the_warehouse_lacks_is_named(sides: Sides) -> None:
    sides.source.execute("CREATE TABLE later (id int PRIMARY KEY)")
    sides.source.execute("ALTER PUBLICATION oso_publication ADD TABLE later")
    sides.source.execute("ALTER TABLE empty ADD COLUMN news text")
    empty, later = sides.compare("empty", "later")
    sides.source.execute("DROP TABLE later")
    sides.source.execute("ALTER TABLE empty DROP COLUMN news")
    assert (empty.is_equal, empty.problem) == (False, "the warehouse has no column news")
    assert (later.is_equal, later.problem) == (False, "the warehouse has no such table")


def test_only_what_is_published_of_a_table_is_compared(sides: Sides) -> None:
    sides.source.execute("ALTER TABLE empty ADD COLUMN secret text")
    sides.source.execute("INSERT INTO empty VALUES (1, 's')")
    sides.source.execute("ALTER PUBLICATION oso_publication DROP TABLE empty")
    sides.source.execute(
        "ALTER PUBLICATION oso_publication ADD TABLE empty (id) WHERE (id > 1 OR id < 1)"
    )
    assert sides.compare("empty")[0].is_equal


def run_diff(sides: Sides, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SANDBOX, "diff", *arguments],
        env={**os.environ, **sides.environment, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_exits_with_0_for_equal_tables_and_1_for_different_ones(sides: Sides) -> None:
    equal = run_diff(sides, "Odd-Name")
    assert (equal.returncode, equal.stdout.split()) == (
        0,
        ["public.Odd-Name", "equal", "2", "rows"],
    )

    sides.source.execute("""UPDATE "Odd-Name" SET "1st" = 'z' WHERE "an id" = 2""")
    different = run_diff(sides, "Odd-Name")
    assert different.returncode == 1
    assert different.stdout.splitlines()[1] == (
        "  changed an id=2: 1st 'z' in the source, 'y' in the warehouse"
    )


def test_rows_of_dropped_partitions_are_a_note_if_they_are_kept(sides: Sides) -> None:
    sides.source.execute(
        "CREATE TABLE parts (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);"
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (1001);"
        "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1001) TO (2001);"
        "INSERT INTO parts SELECT i, 'n' || i FROM generate_series(901, 1100) i;"
        "CREATE TABLE copied AS TABLE parts; ALTER TABLE copied ADD PRIMARY KEY (id);"
        "CREATE PUBLICATION rooted FOR TABLE parts, copied"
        " WITH (publish_via_partition_root = true);"
        "DROP TABLE parts_1; DELETE FROM copied WHERE id <= 1000"
    )
    for name in ("parts", "copied"):
        sides.change(
            f"CREATE TABLE {{d}}.{name} AS SELECT id, CONCAT('n', CAST(id AS STRING)) AS name"
            " FROM UNNEST(GENERATE_ARRAY(901, 1100)) AS id"
        )
    rooted = ("--publication", "rooted", "parts")
    assert run_diff(sides, *rooted).returncode == 1
    kept = run_diff(sides, *rooted, TAP_MY_POSTGRES_DATASOURCE_DROPPED_PARTITIONS="keep")
    assert kept.returncode == 0, kept.stdout
    assert kept.stdout.splitlines()[1] == "  100 rows of dropped partitions are kept"

    sides.source.execute("INSERT INTO parts VALUES (2000, 'missing')")
    sides.source.execute("UPDATE parts SET name = 'new' WHERE id = 1001")
    reports = differences(
        sides.source, sides.client, DATASET, publication="rooted", keeps_dropped_partitions=True
    )
    copied, parts = reports
    assert copied.different == 100, "only a partitioned table can have dropped partitions"
    assert (parts.kept, {row.kind for row in parts.rows}) == (100, {"missing", "changed"})
    assert parts.different == 2


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        (["nothing"], {}, 'publication "oso_publication" does not hold nothing'),
        (["--publication", "none"], {}, 'publication "none" does not exist or holds no table'),
        (["--dataset", "none"], {}, "Not found: dataset"),
        ([], {f"{SETTINGS}PASSWORD": "wrong"}, "password authentication failed"),
        (["--source", "postgresql://127.0.0.1:1/x"], {}, "Connection refused"),
    ],
)
def test_the_command_says_in_one_line_what_it_cannot_read(
    sides: Sides, arguments: list[str], environment: dict[str, str], reason: str
) -> None:
    command = CliRunner(env={**sides.environment, **environment})
    failed = command.invoke(cli.main, ["diff", *arguments])
    assert failed.exit_code == 1
    assert reason in failed.stderr
    assert len(failed.stderr.splitlines()) == 1
