"""Nothing is lost and nothing is invented, whatever happens to tap and server in between.

Writers work on a live database while runs of the tap start, stop and are killed, and the server
crashes. What came out is loaded into models of a warehouse, with the state at some message of the
run, as a loader that was killed too would leave it. In the end the tables have to be equal.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from sandbox.warehouse import Mode, Warehouse

if TYPE_CHECKING:
    from conftest import NewSource, Source

# The command with small ranges and frequent states, so that a short run has many of them.
EAGER_TAP = (
    sys.executable,
    "-c",
    """
from tap_postgres_cdc import capture, snapshot, tap
capture.STATE_SECONDS = 0.02
snapshot.FIRST_RANGE_BLOCKS = snapshot._LEAST_BLOCKS = 8
snapshot._MOST_BLOCKS = 32
snapshot._FEW_BLOCKS = 64
tap.TapPostgresCDC.cli()
""",
)
SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "0"))
MODES: tuple[Mode, ...] = ("soft", "hard", "arrival")

TABLES = """
CREATE TABLE plain (id int PRIMARY KEY, name text, big text, amount numeric(12, 2));
ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
CREATE TABLE pairs (a int, b text, doc jsonb, big text, PRIMARY KEY (a, b));
ALTER TABLE pairs ALTER big SET STORAGE EXTERNAL;
CREATE TABLE whole (id int PRIMARY KEY, name text, big text);
ALTER TABLE whole ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
CREATE TABLE other (id int PRIMARY KEY, code text NOT NULL UNIQUE, name text);
ALTER TABLE other REPLICA IDENTITY USING INDEX other_code_key;
CREATE TABLE parted (id int PRIMARY KEY, name text, big text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (500);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (500) TO (1000000);
INSERT INTO plain SELECT i, 'name ' || i, repeat(md5(i::text), i % 7 * 30), i * 1.5
  FROM generate_series(1, 3000) i;
INSERT INTO pairs SELECT i % 50, 'b' || i, jsonb_build_object('i', i), repeat('p', i % 5 * 900)
  FROM generate_series(1, 1500) i;
INSERT INTO whole SELECT i, 'w' || i, repeat('w', i % 3 * 1500) FROM generate_series(1, 800) i;
INSERT INTO other SELECT i, 'code' || i, 'o' || i FROM generate_series(1, 1500) i;
INSERT INTO parted SELECT i, 'p' || i, repeat('q', i % 3 * 1300) FROM generate_series(1, 1000) i;
"""
NAMES = ("plain", "pairs", "whole", "other", "parted")


class Writer(threading.Thread):
    """Commits random transactions until it is told to stop."""

    def __init__(self, source: Source, seed: int, *, ddl: bool, commit: str) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.source = source
        self.ddl = ddl
        self.commit = commit
        self.halt = threading.Event()
        self.paused = threading.Event()
        self.resting = threading.Event()
        self.count = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        while not self.halt.is_set():
            # A server that crashed takes the transaction with it; the writer comes back.
            with contextlib.suppress(psycopg.OperationalError), self.source.connect() as connection:
                connection.execute(f"SET synchronous_commit = {self.commit}")  # type: ignore[call-overload,unused-ignore]
                while not self.halt.is_set():
                    try:
                        self.transaction(connection)
                    except (
                        psycopg.errors.UniqueViolation,
                        psycopg.errors.DeadlockDetected,
                        psycopg.errors.LockNotAvailable,
                    ):
                        pass
                    except psycopg.OperationalError:
                        raise
                    except BaseException as error:
                        self.error = error
                        raise
                    time.sleep(self.random.random() * 0.02)
            time.sleep(0.05)

    def transaction(self, connection: psycopg.Connection) -> None:
        with contextlib.suppress(psycopg.Rollback), connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '500ms'")
            for _ in range(self.random.choice((1, 1, 2, 5, 20))):
                if self.random.random() < 0.15:
                    with contextlib.suppress(psycopg.Rollback), connection.transaction():
                        self.change(connection)
                        if self.random.random() < 0.5:
                            raise psycopg.Rollback
                else:
                    self.change(connection)
            if self.random.random() < 0.1:
                raise psycopg.Rollback
        self.count += 1

    def change(self, connection: psycopg.Connection) -> None:
        table = self.random.choice(NAMES)
        if self.ddl and self.random.random() < 0.01:
            self.define(connection, table)
        elif self.ddl and self.random.random() < 0.01:
            connection.execute(f"TRUNCATE {table}")  # type: ignore[call-overload,unused-ignore]
        else:
            connection.execute(self.statement(table))  # type: ignore[call-overload,unused-ignore]

    def define(self, connection: psycopg.Connection, table: str) -> None:
        if self.random.random() < 0.3:
            # The same values in new files, which older snapshots find empty.
            same = "doc TYPE jsonb USING doc::text::jsonb"
            same = same if table == "pairs" else "name TYPE text USING name || ''"
            connection.execute(f"ALTER TABLE {table} ALTER {same}")  # type: ignore[call-overload,unused-ignore]
            return
        column = f"c{self.random.randrange(10**9)}"
        definition = self.random.choice(
            ("int", "text", "int DEFAULT 5", "text DEFAULT md5(random()::text)")
        )
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")  # type: ignore[call-overload,unused-ignore]

    def statement(self, table: str) -> str:
        pick = self.random
        i, j, text = pick.randrange(2000), pick.randrange(2000), f"v{pick.randrange(10**6)}"
        large = f"repeat('{text}', {pick.choice((0, 10, 500, 3000))})"
        where = f"a = {i % 50} AND b = 'b{j}'" if table == "pairs" else f"id = {i}"
        kind = pick.choice(
            ("insert", "insert", "update", "update", "large", "key", "delete", "many")
        )
        if kind == "delete":
            return f"DELETE FROM {table} WHERE {where}"
        if kind == "many":
            where = "a" if table == "pairs" else "id"
            name = "doc = jsonb_build_object('many', 1)" if table == "pairs" else f"name = '{text}'"
            return f"UPDATE {table} SET {name} WHERE {where} BETWEEN {i} AND {i + 20}"
        if table == "pairs":
            return {
                "insert": f"INSERT INTO pairs (a, b, doc, big) VALUES ({i % 50}, 'b{j}',"
                f' \'{{"k": "{text}"}}\', {large}) ON CONFLICT DO NOTHING',
                "update": f"UPDATE pairs SET doc = '{{\"u\": [{i}, null]}}' WHERE {where}",
                "large": f"UPDATE pairs SET big = {large} WHERE {where}",
                "key": f"UPDATE pairs SET b = 'b{i}' WHERE {where}",
            }[kind]
        if table == "other":
            return {
                "insert": f"INSERT INTO other VALUES ({i}, 'code{j}', '{text}')"
                " ON CONFLICT DO NOTHING",
                "update": f"UPDATE other SET name = '{text}' WHERE {where}",
                "large": f"UPDATE other SET id = {j} WHERE {where}",
                "key": f"UPDATE other SET code = 'code{j}' WHERE {where}",
            }[kind]
        return {
            "insert": f"INSERT INTO {table} (id, name, big) VALUES ({i}, '{text}', {large})"
            " ON CONFLICT DO NOTHING",
            "update": f"UPDATE {table} SET name = '{text}' WHERE {where}",
            "large": f"UPDATE {table} SET big = {large} WHERE {where}",
            "key": f"UPDATE {table} SET id = {j} WHERE {where}",
        }[kind]


class Pipeline:
    """Runs of the tap into models of a warehouse, one for each way of loading."""

    def __init__(self, source: Source, seed: int) -> None:
        self.random = random.Random(seed)
        self.source = source
        self.warehouses = [Warehouse(mode) for mode in MODES]
        self.states = 0

    def run(self, how: str) -> None:
        """Run the tap; `how` is finish, stop (SIGTERM), kill (SIGKILL) or crash of the server."""
        process = self.source.start(command=EAGER_TAP)
        assert process.stdout
        lines: list[bytes] = []
        log: list[bytes] = []
        readers = [
            threading.Thread(target=lambda: lines.extend(process.stdout or ())),
            threading.Thread(target=lambda: log.extend(process.stderr or ())),
        ]
        for reader in readers:
            reader.start()
        if how != "finish":
            # A run takes about a second until it writes something.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.7 + self.random.random() * 1.5)
            if how == "crash":
                self.source.server.kill()
                self.source.server.start()
            else:
                process.send_signal(signal.SIGTERM if how == "stop" else signal.SIGKILL)
        process.wait(60)
        for reader in readers:
            reader.join()
        with process:
            pass
        text = b"".join(log).decode()
        if how == "finish":
            assert process.returncode == 0, text
        assert "Traceback" not in text, text
        self.load([line for line in lines if line.endswith(b"\n")], all_of_it=how == "finish")

    def load(self, lines: list[bytes], *, all_of_it: bool) -> None:
        """Load some of what came, and keep a state that is not ahead of it."""
        messages = [json.loads(line) for line in lines]
        states = [i for i, message in enumerate(messages) if message["type"] == "STATE"]
        self.states += len(states)
        loaded, kept = len(messages), states[-1] if states else None
        if not all_of_it:
            loaded = self.random.choice((loaded, self.random.randint(0, loaded)))
            before = [i for i in states if i < loaded]
            kept = self.random.choice([*before[-3:], None]) if before else None
        if kept is not None:
            self.source.state = messages[kept]["value"]
        for warehouse in self.warehouses:
            warehouse.apply(messages[:loaded])
        self.check_slot()

    def check_slot(self) -> None:
        """The slot is never confirmed past the state that was kept."""
        kept = self.source.state["slot"]["confirmed_lsn"] if self.source.state else "FFFFFFFF/0"
        ((is_ahead,),) = self.source.sql(
            f"SELECT coalesce(bool_or(confirmed_flush_lsn > '{kept}'), false)"
            f" FROM pg_replication_slots WHERE slot_name = '{self.source.slot}'"
        )
        assert not is_ahead

    def check_tables(self) -> None:
        """Every warehouse has every row of every table, and no other."""
        for table in NAMES:
            expected = source_rows(self.source, table)
            for warehouse in self.warehouses:
                actual = {json.dumps(row, sort_keys=True) for row in warehouse.rows(table)}
                actual = {normalised(row, expected) for row in actual}
                missing, extra = sorted(expected - actual), sorted(actual - expected)
                where = f"{table}, {warehouse.mode}"
                assert not missing, f"{where}: {len(missing)} missing {missing[:3]}, {extra[:3]}"
                assert not extra, f"{where}: {len(extra)} extra {extra[:3]}"


def normalised(row: str, expected: set[str]) -> str:
    """A row without the columns that the source has no more."""
    if row in expected or not expected:
        return row
    names = json.loads(next(iter(expected)))
    return json.dumps({k: v for k, v in json.loads(row).items() if k in names}, sort_keys=True)


def source_rows(source: Source, table: str) -> set[str]:
    with source.connect() as connection:
        columns = connection.execute(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute"
            f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        ).fetchall()
        selected = ", ".join(
            f"{name}::text" if kind == "numeric" else name for name, kind in columns
        )
        rows = connection.execute(f"SELECT {selected} FROM {table}").fetchall()  # type: ignore[call-overload,unused-ignore]
    names = [name for name, _ in columns]
    return {json.dumps(dict(zip(names, row, strict=True)), sort_keys=True) for row in rows}


def alter_publication(source: Source, action: str, table: str) -> None:
    source.sql(f"ALTER PUBLICATION oso_publication {action} TABLE {table}")


def play(
    source: Source, seed: int, *, seconds: float, writers: int = 2, commit: str = "on"
) -> dict[str, Any]:
    """Write, run, kill and crash for a while; then everything has to be equal."""
    pick = random.Random(seed)
    source.sql(TABLES)
    published = {"plain", "parted"}
    source.sql(
        f"CREATE PUBLICATION oso_publication FOR TABLE {', '.join(published)}"
        " WITH (publish_via_partition_root = true)",
        f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput')",
    )
    threads = [Writer(source, seed * 100 + i, ddl=i == 0, commit=commit) for i in range(writers)]
    pipeline = Pipeline(source, seed)
    for thread in threads:
        thread.start()
    runs: dict[str, Any] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        how = pick.choice(("finish", "finish", "stop", "kill", "kill", "kill", "crash"))
        pipeline.run(how)
        runs[how] = runs.get(how, 0) + 1
        if pick.random() < 0.3:
            # A table comes into the publication, or goes and comes back later.
            table = pick.choice(NAMES[1:])  # one is always there
            alter_publication(source, "DROP" if table in published else "ADD", table)
            published ^= {table}
    for thread in threads:
        thread.halt.set()
    for thread in threads:
        thread.join()
        assert thread.error is None
    for table in {*NAMES} - published:
        alter_publication(source, "ADD", table)
    pipeline.run("finish")
    pipeline.check_tables()
    transactions = sum(thread.count for thread in threads)
    return {**runs, "transactions": transactions, "states": pipeline.states}


@pytest.mark.parametrize("version", ["18", "15"])
def test_tables_are_equal_after_any_sequence_of_crashes(
    version: str, own_source: NewSource
) -> None:
    play(own_source(version), seed=int(version), seconds=15)


def test_tables_are_equal_after_six_writers_during_the_snapshot(own_source: NewSource) -> None:
    play(own_source("18"), seed=6, seconds=8, writers=6)


def test_tables_are_equal_when_commits_are_delayed(own_source: NewSource) -> None:
    """A commit is in the log well before it can be seen, so the hand-off has to wait for it."""
    settings = {"fsync": "on", "commit_delay": "20000", "commit_siblings": "1"}
    play(own_source("15", settings=settings), seed=7, seconds=10, writers=6)


def test_tables_are_equal_when_commits_are_not_durable_at_once(own_source: NewSource) -> None:
    """A commit can be seen before it is on disk, and a crash then takes it back."""
    play(own_source("18"), seed=8, seconds=10, writers=4, commit="off")


@pytest.mark.skipif(not SOAK_SECONDS, reason="runs for SOAK_SECONDS")
@pytest.mark.timeout(0)
def test_soak(own_source: NewSource, capsys: pytest.CaptureFixture[str]) -> None:
    deadline = time.monotonic() + SOAK_SECONDS
    seed = int(os.environ.get("SOAK_SEED", time.time()))
    while time.monotonic() < deadline:
        pick = random.Random(seed)
        settings = pick.choice(
            ({}, {"fsync": "on", "commit_delay": "10000", "commit_siblings": "1"})
        )
        source = own_source(pick.choice(("18", "15")), settings=settings)
        source.state = None
        done = play(
            source,
            seed,
            seconds=pick.choice((5, 15, 40)),
            writers=pick.choice((1, 2, 6)),
            commit=pick.choice(("on", "off")),
        )
        with capsys.disabled():
            print(f"seed {seed}: {done}")
        source.server.remove()
        seed += 1
