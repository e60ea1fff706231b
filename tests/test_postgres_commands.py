"""Connecting a database with the tap's commands under Meltano, from nothing to rows and back."""

from __future__ import annotations

import json
import os
import pty
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sandbox.meltano import Meltano
from sandbox.postgres import HOST, PASSWORD, Postgres, embedded_programs, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
TAP, TARGET = "tap-my-postgres-datasource", "target-jsonl"
ROLE_PASSWORD = "s3cret-w0rd"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A partner's database, with a table and nothing prepared."""
    with running(embedded_programs()) as server, server.connect() as connection:
        connection.execute("CREATE TABLE votes (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO votes SELECT i, 'n' || i FROM generate_series(1, 50) i")
        yield server


@pytest.fixture
def meltano(server: Postgres, tmp_path: Path) -> Meltano:
    """The project with a role's settings; the role does not exist yet."""
    settings = {
        "host": HOST,
        "port": str(server.port),
        "database": "postgres",
        "username": "oso",
        "password": ROLE_PASSWORD,
        "ssl_mode_mode": "disable",
    }
    prefix = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
    environment = {prefix + name.upper(): value for name, value in settings.items()}
    environment["TAP_POSTGRES_CDC_ADMIN_URL"] = f"postgresql://postgres:{PASSWORD}@/"
    return Meltano(ROOT, tmp_path, environment)


def test_commands_lead_from_an_empty_server_to_rows_and_back(
    meltano: Meltano, server: Postgres
) -> None:
    def invoke(*arguments: str, code: int = 0) -> str:
        result = meltano.run("invoke", TAP, *arguments, check=False)
        assert result.returncode == code, (result.stdout, result.stderr[-2000:])
        assert "Traceback" not in result.stderr
        assert ROLE_PASSWORD not in result.stdout + result.stderr
        assert PASSWORD not in result.stdout
        return result.stdout

    refused = json.loads(invoke("check", "--format", "json", code=1))
    assert [finding["check"] for finding in refused["findings"]] == ["connection"]

    assert "CREATE PUBLICATION" in invoke("setup", "--table", "votes", "--apply", "--yes")
    assert "✓ publication oso_publication holds 1 table" in invoke("check")
    meltano.run("run", TAP, TARGET)
    assert len(meltano.records("votes")) == 50

    lag = json.loads(invoke("lag", "--format", "json", "--max-bytes", "0", code=1))
    assert (lag["slot"], lag["lag_seconds"]) == ("oso_slot", 0)
    assert lag["lag_bytes"] > 0

    invoke("teardown", "--yes")
    with server.connect() as connection:
        assert connection.execute("SELECT FROM pg_replication_slots").fetchall() == []
        assert connection.execute("SELECT FROM pg_roles WHERE rolname = 'oso'").fetchall() == []


def test_commands_work_where_discovery_would_fail(meltano: Meltano, server: Postgres) -> None:
    """There is a role and no publication: a run ends, the check says what is missing."""
    with server.connect() as connection:
        connection.execute(f"CREATE ROLE oso LOGIN REPLICATION PASSWORD '{ROLE_PASSWORD}'")
    result = meltano.run("invoke", TAP, "check", check=False)
    assert result.returncode == 1
    assert "✗ publication oso_publication does not exist" in result.stdout
    assert 'CREATE PUBLICATION "oso_publication" FOR TABLE "public"."votes"' in result.stdout
    assert "✗ slot oso_slot does not exist" in result.stdout


def test_setup_asks_on_the_terminal_that_meltano_runs_on(
    meltano: Meltano, server: Postgres
) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"y\n" * 20)
        process = meltano.start("invoke", TAP, "setup", "--table", "votes", "--apply", stdin=theirs)
        output, log = process.communicate(timeout=120)
        assert process.returncode == 0, log[-2000:]
    finally:
        os.close(ours)
        os.close(theirs)
    assert "Run it? [Y/n]" in output
    with server.connect() as connection:
        found = connection.execute("SELECT slot_name::text FROM pg_replication_slots").fetchall()
    assert found == [("oso_slot",)]


def test_config_test_tells_a_ready_database_from_one_that_is_not(meltano: Meltano) -> None:
    assert meltano.run("config", "test", TAP, check=False).returncode == 1
    meltano.run("invoke", TAP, "setup", "--table", "votes", "--apply", "--yes")
    assert meltano.run("config", "test", TAP, check=False).returncode == 0
