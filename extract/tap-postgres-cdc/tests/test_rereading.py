"""Values that the log leaves out: found by any key, of no other table, with nobody else's code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psycopg import sql

from tap_postgres_cdc import follow, rereading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Source

    from sandbox.postgres import Postgres

LARGE = 4000
TYPES = (
    "CREATE SCHEMA ext",
    "CREATE DOMAIN short AS varchar(5)",
    "CREATE DOMAIN shorter AS short CHECK (length(VALUE) < 5)",
    "CREATE TYPE mood AS ENUM ('sad', 'glad')",
    "CREATE DOMAIN best_mood AS mood",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE OPERATOR ext.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
    """CREATE OPERATOR CLASS ext.odd FOR TYPE text USING btree AS OPERATOR 1 <, OPERATOR 2 <=,
    OPERATOR 3 ext.===, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 bttextcmp(text, text)""",
)
# Column definitions of a key, and its first values.
KEYS = {
    "array": ("k int[]", "'{1,2}'"),
    "bit": ("k bit(3)", "'101'"),
    "bpchar": ("k char(5)", "'abc'"),
    "bytea": ("k bytea", r"'\x00ff'"),
    "char": ('k "char"', "'x'"),
    "columns": ("a bool, b int8, c date", "true, -5, '2020-02-29'"),
    "composite": ("k pair", "'(1,\"x y\")'"),
    "domain": ("k short", "'abc'"),
    "domain_of_domain": ("k shorter", "'abc'"),
    "domain_of_enum": ("k best_mood", "'glad'"),
    "enum": ("k mood", "'glad'"),
    "float": ("k float8", "'0.1'"),
    "inet": ("k inet", "'10.0.0.1/8'"),
    "interval": ("k interval", "'1 mon 3 days'"),
    "jsonb": ("k jsonb", "'{\"a\": [1]}'"),
    "multirange": ("k int4multirange", "'{[1,3),[5,7)}'"),
    "name": ("k name", "'n'"),
    "numeric": ("k numeric", "1.50"),
    "range": ("k tstzrange", "'[2020-01-01,2020-01-02)'"),
    "text": ('k text COLLATE "C"', r"E'it''s \\ %s ü'"),
    "timestamptz": ("k timestamptz", "'2020-01-01 03:04:05.6+07'"),
    "uuid": ("k uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "varbit": ("k varbit", "'1010'"),
    "varchar": ("k varchar(5)", "'abc'"),
}


def test_rows_are_found_by_keys_of_every_type(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by their index, as tables may be large."""
    source.sql(*TYPES)
    for name, (columns, values) in KEYS.items():
        key = ", ".join(column.split()[0] for column in columns.split(", "))
        source.sql(*table(name, columns, key, values))
    source.sql(
        *table("opclass", "k varchar NOT NULL", "k", "'abc'", constraint="CHECK (k > '')"),
        "CREATE UNIQUE INDEX odd ON t_opclass (k ext.odd)",
        "ALTER TABLE t_opclass REPLICA IDENTITY USING INDEX odd",
    )
    source.publish()
    source.run()
    names = [*KEYS, "opclass"]
    source.sql(*(f"UPDATE t_{name} SET n = 2" for name in names))
    make, queries = rereading._query, []

    def remember(*arguments: Any) -> Any:
        queries.append(make(*arguments))
        return queries[-1]

    monkeypatch.setattr(rereading, "_query", remember)
    run = source.run()
    for name in names:
        (record,) = run.records(f"t_{name}")
        assert (name, record["n"], record["large"]) == (name, 2, "x" * LARGE)
    assert len(queries) == len(names)
    with source.connect() as connection:
        connection.execute("SET enable_seqscan = off")
        for query in queries:
            plan = connection.execute(sql.SQL("EXPLAIN {}").format(query)).fetchall()
            assert not any("Seq Scan" in line for (line,) in plan), query.as_string()


def table(
    name: str, columns: str, key: str, values: str, constraint: str = ""
) -> tuple[str, str, str]:
    """Statements for a table with a row whose large value is not in the log of an update."""
    constraint = constraint or f"PRIMARY KEY ({key})"
    return (
        f"CREATE TABLE t_{name} ({columns}, large text, n int, {constraint})",
        f"ALTER TABLE t_{name} ALTER large SET STORAGE EXTERNAL",
        f"INSERT INTO t_{name} VALUES ({values}, repeat('x', {LARGE}), 1)",
    )


def test_operators_of_others_never_run(
    servers: dict[str, Postgres], source_on: Callable[[Postgres], Source]
) -> None:
    """Until PostgreSQL 14 everyone may create them in `public`, and many extensions live there."""
    source = source_on(servers["15"])
    source.sql(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "CREATE EXTENSION citext SCHEMA public",
        "CREATE DOMAIN word AS citext",
        *table("varchar", "k varchar", "k", "'abc'"),
        *table("citext", "k citext", "k", "'Abc'"),
        *table("word", "k word", "k", "'Abc'"),
        "CREATE TABLE ran (operator text)",
        "GRANT INSERT ON ran TO PUBLIC",
        "CREATE ROLE attacker",
    )
    source.publish("FOR TABLE t_varchar, t_citext, t_word")
    source.run()
    pairs = [(a, b) for a in ("varchar", "word") for b in ("varchar", "text", "citext", "word")]
    pairs += [("citext", "varchar"), ("citext", "text"), ("citext", "word")]
    with source.connect() as connection:
        connection.execute("SET ROLE attacker")
        for i, (a, b) in enumerate(pairs):
            connection.execute(
                f"CREATE FUNCTION f{i}({a}, {b}) RETURNS bool LANGUAGE sql AS"
                f" $$INSERT INTO public.ran VALUES ('{a} = {b}'); SELECT false$$;"
                f"CREATE OPERATOR = (LEFTARG = {a}, RIGHTARG = {b}, FUNCTION = f{i})"
            )
    streams = ("t_varchar", "t_citext", "t_word")
    try:
        source.sql(*(f"UPDATE {stream} SET n = 2" for stream in streams))
        run = source.run()
        assert source.sql("SELECT * FROM ran") == []
        for stream in streams:
            (record,) = run.records(stream)
            assert (record["n"], record["large"]) == (2, "x" * LARGE)
    finally:
        source.sql("DROP OWNED BY attacker", "DROP ROLE attacker")


def test_privileges_for_columns_are_enough(embedded: Source) -> None:
    """Also to read values again."""
    embedded.sql(
        *table("x", "k int, secret text", "k", "1, 's'"),
        "CREATE ROLE columns_reader LOGIN REPLICATION PASSWORD 'p'",
        "GRANT SELECT (k, large, n) ON t_x TO columns_reader",
    )
    embedded.publish("FOR TABLE t_x (k, large, n)")
    embedded.block |= {"username": "columns_reader", "password": "p"}
    try:
        embedded.run()
        embedded.sql("UPDATE t_x SET n = 2")
        (record,) = embedded.run().records("t_x")
        assert (record["n"], record["large"]) == (2, "x" * LARGE)
    finally:
        embedded.sql("DROP OWNED BY columns_reader", "DROP ROLE columns_reader")


SWAP = (
    "ALTER TABLE t_x RENAME TO old",
    "CREATE TABLE t_x (k int PRIMARY KEY, large text, n int)",
    "INSERT INTO t_x VALUES (1, 'of another table', 7)",
)
MEANWHILE = {
    "renamed": SWAP[:1],
    "swapped": SWAP,
    "key of another type": (
        "ALTER TABLE t_x DROP CONSTRAINT t_x_pkey, ALTER k TYPE text USING 'k' || k",
        "ALTER TABLE t_x ADD PRIMARY KEY (k)",
    ),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_only_the_table_that_was_changed_is_read_again(
    embedded: Source, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """What happens to it between two readings does not hold up the others."""
    embedded.sql(*table("x", "k int", "k", "1"), *table("y", "k int", "k", "1"))
    embedded.publish()
    embedded.run()
    embedded.sql("UPDATE t_x SET n = 2", "UPDATE t_x SET n = 3", "UPDATE t_y SET n = 2")
    original = rereading.Rereader.read
    readings: list[object] = []

    def change_before_the_second(self: Any, table: Any, *arguments: Any) -> Any:
        readings.append(table)
        if len(readings) == 2:
            embedded.sql(*MEANWHILE[meanwhile])
        return original(self, table, *arguments)

    monkeypatch.setattr(follow, "_MOST_WAITING", 1)
    with monkeypatch.context() as patch:
        patch.setattr(rereading.Rereader, "read", change_before_the_second)
        run = embedded.run()
    streamed = [r for r in run.records("t_x") if not r["_ab_cdc_sequence"].endswith("F" * 16)]
    assert [(record["n"], record["large"]) for record in streamed] == [(2, "x" * LARGE)]
    assert [record["n"] for record in run.records("t_y")] == [2]
    embedded.run()
    for stream in ("t_y", "old" if meanwhile == "renamed" else "t_x"):
        expected = embedded.sql(f"SELECT to_jsonb(t) FROM {stream} t")
        assert embedded.warehouse.rows(stream) == [row for (row,) in expected]


@pytest.fixture
def ascii_source(embedded: Source) -> Iterator[Source]:
    """A source whose database has no encoding."""
    drop = "DROP DATABASE IF EXISTS no_encoding WITH (FORCE)"
    embedded.sql(
        drop,
        "CREATE DATABASE no_encoding ENCODING SQL_ASCII TEMPLATE template0 LOCALE 'C'",
    )
    embedded.database = "no_encoding"
    yield embedded
    embedded.sql(f"SELECT pg_drop_replication_slot('{embedded.slot}')")
    embedded.database = "postgres"
    embedded.sql(drop)


def test_key_that_is_not_text_stops_its_table_only(ascii_source: Source) -> None:
    source = ascii_source
    with source.connect(client_encoding="SQL_ASCII") as connection:
        source.sql(*table("bad", "k text", "k", "'tea'"), *table("good", "k text", "k", "'tea'"))
        source.publish()
        source.run()
        refused = "stream t_bad: key column k holds values .* not UTF-8"
        for n in (2, 3):
            # First with the value of another key, which is in the log; then by that key.
            connection.execute(f"UPDATE t_bad SET n = {n}, k = 'caf\xe9'".encode("latin-1"))
            connection.execute(f"UPDATE t_good SET n = {n}".encode())
            run = source.run_to_failure(refused)
            assert [record["n"] for record in run.records("t_good")] == [n]
        connection.execute(b"UPDATE t_bad SET k = 'tea'")
    run = source.run()
    assert [record["n"] for record in run.records("t_bad")] == [3]
