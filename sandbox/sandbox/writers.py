"""Writers that keep a database busy: random transactions over tables of every kind of key."""

import contextlib
import random
import threading
import time
from collections.abc import Callable

import psycopg

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
    """Commits random transactions to the tables until it is told to stop.

    Args:
        connect: Opens a connection in autocommit mode.
        seed: Of what it writes.
        ddl: Share of its changes that add a column, and of those that truncate a table.
        commit: `synchronous_commit` of its transactions.
        has_owner: Whether an owner works on the tables beside it, so that statements can fail.

    `count` is the number of transactions, `error` what it failed with, other than a lost server.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        seed: int,
        *,
        ddl: float = 0.0,
        commit: str = "on",
        has_owner: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.connect = connect
        self.ddl = ddl
        self.commit = commit
        self.has_owner = has_owner
        self.halt = threading.Event()
        self.count = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        """Write, and come back when the server was lost."""
        while not self.halt.is_set():
            # A server that crashed takes the transaction with it; the writer comes back.
            with contextlib.suppress(psycopg.OperationalError), self.connect() as connection:
                connection.execute(f"SET synchronous_commit = {self.commit}")
                while not self.halt.is_set():
                    try:
                        self._transaction(connection)
                    except (
                        psycopg.errors.UniqueViolation,
                        psycopg.errors.DeadlockDetected,
                        psycopg.errors.LockNotAvailable,
                    ):
                        pass
                    except psycopg.OperationalError:
                        raise
                    except BaseException as error:
                        if not (self.has_owner and isinstance(error, psycopg.Error)):
                            self.error = error
                            raise
                    time.sleep(self.random.random() * 0.02)
            time.sleep(0.05)

    def _transaction(self, connection: psycopg.Connection) -> None:
        with contextlib.suppress(psycopg.Rollback), connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '500ms'")
            for _ in range(self.random.choice((1, 1, 2, 5, 20))):
                if self.random.random() < 0.15:
                    with contextlib.suppress(psycopg.Rollback), connection.transaction():
                        self._change(connection)
                        if self.random.random() < 0.5:
                            raise psycopg.Rollback
                else:
                    self._change(connection)
            if self.random.random() < 0.1:
                raise psycopg.Rollback
        self.count += 1

    def _change(self, connection: psycopg.Connection) -> None:
        table = self.random.choice(NAMES)
        if self.random.random() < self.ddl:
            self._define(connection, table)
        elif self.random.random() < self.ddl:
            connection.execute(f"TRUNCATE {table}")
        else:
            connection.execute(self._statement(table))

    def _define(self, connection: psycopg.Connection, table: str) -> None:
        if self.random.random() < 0.3:
            # The same values in new files, which older snapshots find empty.
            same = "doc TYPE jsonb USING doc::text::jsonb"
            same = same if table == "pairs" else "name TYPE text USING name || ''"
            connection.execute(f"ALTER TABLE {table} ALTER {same}")
            return
        column = f"c{self.random.randrange(10**9)}"
        definition = self.random.choice(
            ("int", "text", "int DEFAULT 5", "text DEFAULT md5(random()::text)")
        )
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {definition}")

    def _statement(self, table: str) -> str:
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
