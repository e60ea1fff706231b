"""Real servers, a database for each test, and runs of the tap against it."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from sandbox.postgres import (
    HOST,
    PASSWORD,
    Postgres,
    debian_programs,
    embedded_programs,
    execute,
    running,
)
from sandbox.ssh import SSHD, SshServer, running_ssh
from sandbox.warehouse import Warehouse
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.tap import TapPostgresCDC

SERVERS = {"18": embedded_programs, "15": debian_programs}


def is_testable(version: str) -> bool:
    """Whether the server is installed; in CI it has to be."""
    return (SERVERS[version]() / "postgres").exists() or "CI" in os.environ


def skip_without(version: str) -> None:
    if not is_testable(version):
        pytest.skip(f"PostgreSQL {version} is not installed: apt-get install postgresql-{version}")


NewSource = Callable[..., "Source"]
DATABASE = "tests"
COMMAND = Path(sys.executable).with_name("tap-postgres-cdc")


@dataclass
class Run:
    """What a run wrote."""

    messages: list[dict[str, Any]]
    lines: list[bytes]
    code: int = 0
    log: str = ""

    def records(self, stream: str) -> list[dict[str, Any]]:
        return [
            message["record"]
            for message in self.messages
            if message["type"] == "RECORD" and message["stream"] == stream
        ]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def state(self) -> Any:
        states = self.of("STATE")
        return states[-1]["value"] if states else None

    @property
    def last_line(self) -> str:
        return self.log.strip().splitlines()[-1]


@dataclass
class Source:
    """A database with a slot and a publication, and the pipeline's state and warehouse."""

    server: Postgres
    database: str
    slot: str
    folder: Path
    publication: str = "oso_publication"
    name: str = ""
    state: dict[str, Any] | None = None
    warehouse: Warehouse = field(default_factory=Warehouse)
    block: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def connect(self, **parameters: Any) -> psycopg.Connection:
        return self.server.connect(self.database, **parameters)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            for statement in statements:
                cursor = execute(connection, statement)
            return cursor.fetchall() if cursor.description else []

    def publish(self, what: str = "FOR ALL TABLES", *, slot: bool = True) -> None:
        self.sql(f"CREATE PUBLICATION {self.publication} {what}")
        if slot:
            self.sql(f"SELECT pg_create_logical_replication_slot('{self.slot}', 'pgoutput')")

    def tunnel(self, ssh: SshServer, **changes: Any) -> None:
        """Go through an SSH server, by key unless the changes say otherwise."""
        self.block["tunnel_method"] = {
            "tunnel_method": "SSH_KEY_AUTH",
            "tunnel_host": HOST,
            "tunnel_port": ssh.port,
            "tunnel_user": ssh.user,
            "ssh_key": ssh.key,
            **changes,
        }
        self.options["tunnel_host_key"] = ssh.host_key

    @property
    def config(self) -> dict[str, Any]:
        block = {
            "host": HOST,
            "port": self.server.port,
            "database": self.database,
            "username": "postgres",
            "password": PASSWORD,
            "schemas": ["public"],
            "jdbc_url_params": "replication=postgres",
            "ssl_mode": {"mode": "prefer"},
            "replication_method": {
                "method": "CDC",
                "plugin": "pgoutput",
                "publication": self.publication,
                "replication_slot": self.slot,
            },
        }
        return {"airbyte_config": {**block, **self.block}, **self.options}

    def catalog(self) -> dict[str, Any]:
        tap = TapPostgresCDC(config=self.config)
        return dict(json.loads(tap.catalog_json_text))

    def run(self, *, state: Any = ..., catalog: Any = None) -> Run:
        """Run the tap in this process and load what it writes, going on from the last state."""
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        self._sync(stdout, self.state if state is ... else state, catalog)
        return self._load(stdout)

    def run_to_failure(self, pattern: str) -> Run:
        """The same for a run that fails after it has written something; `log` is what it says."""
        stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with pytest.raises(CaptureError, match=pattern) as raised:
            self._sync(stdout, self.state, None)
        run = self._load(stdout)
        run.log = raised.value.message
        return run

    def _sync(self, stdout: io.TextIOWrapper, state: Any, catalog: Any) -> None:
        with contextlib.redirect_stdout(stdout):
            TapPostgresCDC(config=self.config, state=state, catalog=catalog).sync_all()

    def _load(self, stdout: io.TextIOWrapper) -> Run:
        stdout.flush()
        run = _read(cast("io.BytesIO", stdout.buffer).getvalue())
        self.state = run.state
        self.warehouse.apply(run.messages)
        return run

    def execute(self, *arguments: str, seconds: float = 60) -> Run:
        """Run the command, as Meltano does; the state is not moved on."""
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=seconds)
        run = _read(stdout)
        run.code, run.log = process.returncode, stderr.decode()
        return run

    def start(
        self, *arguments: str, command: Sequence[str] = (str(COMMAND),), stdin: int | None = None
    ) -> subprocess.Popen[bytes]:
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.config))
        command = [*command, "--config", str(config)]
        if self.state:
            state = self.folder / "state.json"
            state.write_text(json.dumps(self.state))
            command += ["--state", str(state)]
        return subprocess.Popen(
            [*command, *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def confirmed(self) -> str:
        ((lsn,),) = self.sql(
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
            f" WHERE slot_name = '{self.slot}'"
        )
        return str(lsn)


def _read(output: bytes) -> Run:
    lines = output.split(b"\n")[:-1]
    return Run([json.loads(line) for line in lines], lines)


@pytest.fixture(scope="session")
def servers() -> Iterator[dict[str, Postgres]]:
    with contextlib.ExitStack() as stack:
        yield {
            version: stack.enter_context(running(programs()))
            for version, programs in SERVERS.items()
            if is_testable(version)
        }


@pytest.fixture(scope="session")
def debian() -> Path:
    """Programs of a server with TLS, which the embedded one lacks."""
    skip_without("15")
    return debian_programs()


def skip_without_sshd() -> None:
    if not SSHD.exists() and "CI" not in os.environ:
        pytest.skip("OpenSSH's server is not installed: apt-get install openssh-server")


@pytest.fixture(scope="session")
def ssh() -> Iterator[SshServer]:
    """An SSH server that forwards to wherever one likes."""
    skip_without_sshd()
    with running_ssh(settings={"LogLevel": "DEBUG1"}, with_password=True) as server:
        yield server


@pytest.fixture
def own_ssh() -> Iterator[SshServer]:
    """One that a test may kill."""
    skip_without_sshd()
    with running_ssh() as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, servers: dict[str, Postgres]) -> Postgres:
    skip_without(request.param)
    return servers[request.param]


@pytest.fixture(autouse=True)
def keep_signal_handlers() -> Iterator[None]:
    """The SDK sets handlers in the process of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def make_source(server: Postgres, test: str, folder: Path) -> Source:
    """Empty the database of all tests: making one for each would take longer than the test."""
    name = re.sub(r"\W+", "_", test.lower())[-50:].strip("_")
    with server.connect() as connection:
        if not connection.execute(
            "SELECT FROM pg_database WHERE datname = %s", [DATABASE]
        ).rowcount:
            connection.execute(f"CREATE DATABASE {DATABASE}")
    source = Source(server, DATABASE, f"{name}_slot", folder, name=name)
    found = source.sql(
        "SELECT quote_ident(nspname) FROM pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    )
    publications = source.sql("SELECT quote_ident(pubname) FROM pg_publication")
    source.sql(
        *(f"DROP PUBLICATION {publication}" for (publication,) in publications),
        *(f"DROP SCHEMA {schema} CASCADE" for (schema,) in found),
        "CREATE SCHEMA public",
        "GRANT USAGE ON SCHEMA public TO PUBLIC",
    )
    return source


def drop_slots(source: Source) -> None:
    """Slots are few, and hold the log of all databases."""
    with source.server.connect() as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE active_pid IS NULL"
        )


@pytest.fixture
def source_on(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewSource]:
    """Makes a source on a server that is there."""
    made: list[Source] = []

    def new_source(server: Postgres) -> Source:
        made.append(make_source(server, request.node.name, tmp_path))
        return made[-1]

    yield new_source
    for source in made:
        drop_slots(source)


@pytest.fixture
def source(server: Postgres, source_on: NewSource) -> Source:
    """A source on each version of PostgreSQL."""
    return source_on(server)


@pytest.fixture
def embedded(servers: dict[str, Postgres], source_on: NewSource) -> Source:
    """A source on PostgreSQL 18 only, for what does not depend on the server."""
    return source_on(servers["18"])


@pytest.fixture
def own_source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewSource]:
    """Makes a source on a server of its own, which a test may crash."""
    with contextlib.ExitStack() as stack:

        def new_source(version: str, **options: Any) -> Source:
            skip_without(version)
            server = stack.enter_context(running(SERVERS[version](), **options))
            return make_source(server, request.node.name, tmp_path)

        yield new_source
