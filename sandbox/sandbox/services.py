"""A database to read and a warehouse to write, with what Meltano has to know about them.

`Services` runs them for as long as its block; `up` in a process of their own, until `down`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from sandbox import oso
from sandbox.bigquery import PROJECT, BigQueryEmulator
from sandbox.postgres import HOST, PASSWORD, Postgres, embedded_programs, running

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

DATASET: Final = "oso"
# The name of the folder that `up` makes in the project.
FOLDER: Final = ".sandbox"
_START_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 60.0


class ServicesError(RuntimeError):
    """They did not start, are not there, or are there already; says what to do."""


class Services:
    """PostgreSQL with the OSO database in it, and an embedded BigQuery; a context manager.

    Attributes:
        postgres: The server.
        warehouse: The emulator.
        rows: How many rows the database had at the start.
    """

    postgres: Postgres
    warehouse: BigQueryEmulator
    rows: int

    def __init__(self, scale: float = 1) -> None:
        """Start nothing yet; `scale` is that of `oso.fill`."""
        self._scale = scale
        self._stack = ExitStack()

    @property
    def environ(self) -> dict[str, str]:
        """Settings of the tap and the target; and of psql, as the owner of the database."""
        return {
            **tap_environ(self.postgres, oso.ROLE, oso.ROLE_PASSWORD),
            "TARGET_BIGQUERY_PROJECT": PROJECT,
            "TARGET_BIGQUERY_DATASET": DATASET,
            **self.warehouse.environ,
            # https://www.postgresql.org/docs/current/libpq-envars.html
            "PGHOST": HOST,
            "PGPORT": str(self.postgres.port),
            "PGDATABASE": "postgres",
            "PGUSER": "postgres",
            "PGPASSWORD": PASSWORD,
        }

    def __enter__(self) -> Self:
        with self._stack as stack:
            self.postgres = stack.enter_context(running(embedded_programs()))
            self.warehouse = stack.enter_context(BigQueryEmulator())
            with self.postgres.connect() as source:
                self.rows = oso.fill(source, self._scale)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def tap_environ(server: Postgres, role: str, password: str, **settings: str) -> dict[str, str]:
    """Return the environment in which `tap-my-postgres-datasource` reads a server.

    Args:
        server: Its database `postgres` is read.
        role: Who reads it.
        password: Theirs.
        settings: Further settings of `airbyte_config`, by their path with underscores.
    """
    values = {
        "host": HOST,
        "port": str(server.port),
        "database": "postgres",
        "username": role,
        "password": password,
        # The embedded server does not speak TLS.
        "ssl_mode_mode": "disable",
        **settings,
    }
    prefix = "TAP_MY_POSTGRES_DATASOURCE_AIRBYTE_CONFIG_"
    return {prefix + name.upper(): value for name, value in values.items()}


def up(folder: Path, scale: float = 1) -> None:
    """Start the services and leave them running, with the source prepared.

    Args:
        folder: Will say that they run, and where; `down` removes it.
        scale: That of `oso.fill`.

    Raises:
        ServicesError: They run already, or did not start.
    """
    if _keeper(folder):
        raise ServicesError("the sandbox is up already; `sandbox down` stops it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    log = folder / "log"
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "sandbox.services", folder, str(scale)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    started = _environment_file(folder).exists
    try:
        while not started() and keeper.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:  # on Ctrl-C too
        if not started():
            keeper.terminate()
            keeper.wait(_STOP_SECONDS)
            said = log.read_text(errors="replace").strip()[-2000:]
            shutil.rmtree(folder, ignore_errors=True)
    if not started():
        raise ServicesError(f"the sandbox did not start: {said}")


def environment(folder: Path) -> dict[str, str]:
    """Return what to set to use the services that `up` has started.

    Raises:
        ServicesError: They don't run, or not yet.
    """
    file = _environment_file(folder)
    if not _keeper(folder) or not file.exists():
        raise ServicesError("the sandbox is not up; `sandbox up` starts it")
    settings: dict[str, str] = json.loads(file.read_text())
    return settings


def ask(query: str, environ: Mapping[str, str]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Ask the warehouse.

    Args:
        query: GoogleSQL, with tables such as `oso.issues`.
        environ: Of `Services`, or as returned by `environment`.

    Returns:
        The names of the columns, and the rows.

    Raises:
        ServicesError: BigQuery refused it.
    """
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415  # takes a second

    port = urlsplit(environ["BIGQUERY_EMULATOR_HOST"]).port or 0
    client = BigQueryEmulator(port=port).client()
    try:
        # The emulator tells `query_and_wait` of no error.
        rows = client.query(query).result()
        return [field.name for field in rows.schema], [row.values() for row in rows]
    except GoogleAPICallError as error:
        reasons = [reason["message"] for reason in error.errors] or [error.message]
        raise ServicesError("; ".join(reasons)) from error
    finally:
        client.close()  # type: ignore[no-untyped-call]


def down(folder: Path) -> bool:
    """Stop what `up` has started and delete its data; returns whether anything ran.

    Raises:
        ServicesError: It did not stop.
    """
    keeper = _keeper(folder)
    if keeper:
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _keeper(folder):
        if time.monotonic() > deadline:
            raise ServicesError(f"the sandbox did not stop; see {folder / 'log'}")
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)
    return keeper is not None


def keep(folder: Path, scale: float) -> None:
    """Run the services until SIGTERM; what `up` starts."""
    signal.signal(signal.SIGTERM, _leave)
    # Unlike a file, a lock can't outlive its process.
    with (folder / "lock").open("w") as lock:
        lock.write(f"{os.getpid()}")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Services(scale) as services:
            with services.postgres.connect() as source:
                oso.prepare(source)
            # The state of pipelines goes away with the data that it speaks of.
            state = {"MELTANO_DATABASE_URI": f"sqlite:///{folder / 'meltano.db'}"}
            written = folder / "environment.new"
            written.write_text(json.dumps({**services.environ, **state}))
            written.rename(_environment_file(folder))
            while True:
                signal.pause()


def _leave(signum: int, _: object) -> None:
    signal.signal(signum, signal.SIG_IGN)
    sys.exit(0)


def _environment_file(folder: Path) -> Path:
    return folder / "environment.json"


def _keeper(folder: Path) -> int | None:
    """Process id of whoever runs the services, None when nobody does."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return int((folder / "lock").read_text())
    return None


if __name__ == "__main__":
    keep(Path(sys.argv[1]), float(sys.argv[2]))
