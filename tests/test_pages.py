"""Pages that a reader follows: their commands are run as they are, from the first to the last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.meltano import EXECUTABLE, Meltano
from sandbox.pages import Block, Terminal, blocks, is_shown, steps
from sandbox.postgres import HOST, PASSWORD, Postgres, embedded_programs, running
from sandbox.singer import MOMENT, NUMBER, TEXT, record, schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[1]
TAP = "tap-my-postgres-datasource"
TLS = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_SSL_MODE_MODE"


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running(embedded_programs()) as server:
        yield server


@pytest.fixture
def warehouse() -> Iterator[BigQueryEmulator]:
    with BigQueryEmulator() as emulator:
        yield emulator


def make_shop(server: Postgres) -> None:
    with server.connect() as connection:
        for statement in (
            "CREATE TABLE projects (id int PRIMARY KEY, name text)",
            "CREATE TABLE votes (id int PRIMARY KEY, project int, points int)",
            "INSERT INTO projects SELECT i, 'p' || i FROM generate_series(1, 20) i",
            "INSERT INTO votes SELECT i, i % 20 + 1, i % 5 FROM generate_series(1, 3000) i",
        ):
            connection.execute(statement.encode())


def end_of_log(server: Postgres) -> int:
    with server.connect() as connection:
        row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()
    assert row
    return int(row[0])


class Reader:
    """Someone who has a database and a dataset, and follows a page in a copy of the project.

    Attributes:
        names: What stands on the page for something of the reader's own.
        before: What happens beside the terminal, before the first block of a section.
    """

    def __init__(self, folder: Path, server: Postgres, warehouse: BigQueryEmulator) -> None:
        self.server = server
        self.client = warehouse.client()
        meltano = Meltano.in_copy(ROOT, folder, warehouse.environ)
        self.folder = meltano.root
        (self.folder / ".env").unlink(missing_ok=True)
        programs = f"{Path(sys.executable).parent}:{server.programs}"
        # The embedded server does not speak TLS.
        own = {"PATH": f"{programs}:{os.environ['PATH']}", TLS: "disable", "NO_COLOR": "1"}
        self.environ = {**meltano.env, **own}
        self.names = {
            "db.example.org": HOST,
            "5432": str(server.port),
            "=shop": "=postgres",
            "<password of postgres>": PASSWORD,
            "<a password of its own>": "s3cret word",
            "my-gcp-project": PROJECT,
        }
        self.before: dict[str, Callable[[], object]] = {}
        make_shop(server)

    def sql(self, statement: str) -> None:
        with self.server.connect() as connection:
            connection.execute(statement.encode())

    def follow(self, page: Path) -> None:
        """Run every block of the page and compare what it shows."""
        seen = ""
        with Terminal(self.folder, self.environ) as terminal:
            for block in blocks(page.read_text()):
                if block.heading != seen:
                    seen = block.heading
                    self.before.get(seen, lambda: None)()
                self._run(block, terminal, f"{page.name}:{block.line}")

    def _run(self, block: Block, terminal: Terminal, place: str) -> None:
        block = block._replace(text=self._own(block.text))
        match block.kind.split():
            case ["console", *options]:
                for command, shown in steps(block):
                    output, code, log = terminal.run(command)
                    told = f"{place}: {command}\n{output}\n{log[-3000:]}"
                    assert (code != 0) == ("fails" in options), told
                    assert is_shown(shown, log if "log" in options else output), told
            case ["ini", ".env"]:
                (self.folder / ".env").write_text(block.text)
            case ["sql", "PostgreSQL"]:
                for statement in block.text.split(";\n"):
                    self.sql(statement)
            case ["sql", "BigQuery"]:
                self.client.query_and_wait(block.text)
            case ["sh"]:
                pass  # settings by way of example, or what needs Docker
            case ["yaml", file]:
                assert block.text in (self.folder / file).read_text(), f"{place} is not in {file}"
            case _:
                raise AssertionError(f"{place}: nobody knows how to run {block.kind}")

    def _own(self, text: str) -> str:
        for there, here in self.names.items():
            text = text.replace(there, here)
        return text

    def equals_source(self, table: str, *, order: str = "id") -> None:
        """Compare a table with the source, row by row."""
        with self.server.connect() as connection:
            cursor = connection.execute(f"SELECT * FROM {table} ORDER BY {order}".encode())
            names = [column.name for column in cursor.description or ()]
            expected = cursor.fetchall()
        query = (
            f"SELECT {', '.join(names)} FROM oso.{table} WHERE _ab_cdc_deleted_at IS NULL"
            f" ORDER BY {order}"
        )
        assert [tuple(row) for row in self.client.query_and_wait(query)] == expected


@pytest.mark.timeout(900)  # some thirty commands, each of which starts Meltano
def test_a_database_is_connected_and_kept_by_the_page_alone(
    tmp_path: Path, server: Postgres, warehouse: BigQueryEmulator
) -> None:
    """From an empty database to rows, through everything that comes later, until it is left."""
    reader = Reader(tmp_path, server, warehouse)

    def damage() -> None:
        reader.client.query_and_wait("UPDATE oso.votes SET points = -1 WHERE id < 100")
        reader.client.query_and_wait("UPDATE oso.projects SET name = 'kept' WHERE id = 1")

    def check_copied_again() -> None:
        reader.equals_source("votes")
        # Had it been copied again too, this would be gone.
        [row] = reader.client.query_and_wait("SELECT name FROM oso.projects WHERE id = 1")
        assert row.name == "kept"

    with running(embedded_programs()) as second:

        def move() -> None:
            reader.equals_source("projects")
            reader.server = second
            reader.names |= {"new.example.org": HOST, "6543": str(second.port)}
            make_shop(second)
            # Not as it was; and to rows of a log that ends before the first server's did.
            reader.sql("UPDATE votes SET points = 7 WHERE id <= 100")
            reader.sql("DELETE FROM votes WHERE id > 2900")
            assert end_of_log(second) < end_of_log(server)

        reader.before = {
            "Adding a table later": lambda: reader.equals_source("votes"),
            "Changing tables": lambda: reader.equals_source("comments"),
            "Copying one table again": damage,
            "Pausing for days": check_copied_again,
            "Moving to a new server": move,
            "Leaving": lambda: reader.equals_source("votes"),
        }
        reader.follow(ROOT / "docs" / "connect-postgres.md")
        with second.connect() as connection:
            assert connection.execute("SELECT FROM pg_replication_slots").fetchall() == []


def test_airbytes_tables_are_gone_on_with_and_not_copied_again(
    tmp_path: Path, server: Postgres, warehouse: BigQueryEmulator
) -> None:
    """Airbyte's connector runs in Docker: its last run is made here, from its public schema."""
    reader = Reader(tmp_path, server, warehouse)
    reader.sql("CREATE PUBLICATION oso_publication FOR TABLE projects, votes")
    reader.sql("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
    reader.environ |= {
        "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_HOST": HOST,
        "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_PORT": str(server.port),
        "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_DATABASE": "postgres",
        "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_USERNAME": "postgres",
        "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_PASSWORD": PASSWORD,
        "TARGET_BIGQUERY_PROJECT": PROJECT,
        "TARGET_BIGQUERY_DATASET": "oso",
    }

    def run_airbyte() -> None:
        metadata = {"_ab_cdc_lsn": NUMBER, "_ab_cdc_updated_at": MOMENT}
        metadata |= {"_ab_cdc_deleted_at": MOMENT}
        lines = []
        for table, columns in {
            "projects": {"id": NUMBER, "name": TEXT},
            "votes": {"id": NUMBER, "project": NUMBER, "points": NUMBER},
        }.items():
            lines.append(schema(table, {**columns, **metadata}))
            with server.connect() as connection:
                cursor = connection.execute(f"SELECT * FROM {table}".encode())
                names = [column.name for column in cursor.description or ()]
                lines += [
                    record(
                        table,
                        {
                            **dict(zip(names, row, strict=True)),
                            "_ab_cdc_lsn": 1,
                            "_ab_cdc_updated_at": "2026-01-01T00:00:00Z",
                        },
                    )
                    for row in cursor
                ]
        subprocess.run(
            [EXECUTABLE, "invoke", "target-bigquery"],
            input="".join(f"{json.dumps(line)}\n" for line in lines),
            cwd=reader.folder,
            env=reader.environ,
            text=True,
            check=True,
            capture_output=True,
        )
        # What it has not loaded yet: the slot is confirmed up to here and no further.
        reader.sql("UPDATE votes SET points = 100 WHERE id <= 10")
        reader.sql("DELETE FROM votes WHERE id > 2990")
        # Had the table been copied again, this would be gone.
        reader.client.query_and_wait("UPDATE oso.votes SET points = -1 WHERE id = 2000")

    run_airbyte()
    reader.follow(ROOT / "docs" / "airbyte.md")
    [row] = reader.client.query_and_wait("SELECT points FROM oso.votes WHERE id = 2000")
    assert row.points == -1
    reader.client.query_and_wait("UPDATE oso.votes SET points = 0 WHERE id = 2000")
    reader.equals_source("votes")
    reader.equals_source("projects")
