"""An embedded BigQuery: the emulator `bqemulator` as a process of its own.

It answers BigQuery's REST API on a loopback port. What it does differently from the real service is
listed in the README of `load/target-bigquery`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from sandbox.ports import free_port

if TYPE_CHECKING:
    from types import TracebackType

    from google.cloud import bigquery

PROJECT = "sandbox"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0


class BigQueryEmulatorError(RuntimeError):
    """The emulator did not start, or is not running."""


class BigQueryEmulator:
    """One emulator process on fixed loopback ports; a context manager that starts and stops it.

    Args:
        data_dir: where tables are kept across restarts; without it they live in memory.
        port: port of the REST API; 0 picks a free one, which then stays the same across restarts.
    """

    def __init__(self, data_dir: Path | None = None, port: int = 0) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self._grpc_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL of the REST API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What a process needs in its environment to use this emulator."""
        return {"BIGQUERY_EMULATOR_HOST": self.url}

    @property
    def pid(self) -> int | None:
        """Process id, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> Self:
        """Start the process and wait until it answers.

        Raises:
            BigQueryEmulatorError: it ended, or did not answer within a minute; with its last
            output.
        """
        if self.pid is not None:
            return self
        if self._answers():
            raise BigQueryEmulatorError(f"another server answers on port {self.port} already")
        install_spatial_extension()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # outlives this method
        self._process = subprocess.Popen(
            self._command(),
            env={**os.environ, "BQEMU_TIME_TRAVEL_RETENTION_DAYS": "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                output = self._output()
                self.kill()
                raise BigQueryEmulatorError(f"the BigQuery emulator did not start: {output}")
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End the process cleanly; kill it if it does not end."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def restart(self) -> Self:
        """Stop and start again on the same port; only a `data_dir` keeps the tables."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Stop answering without closing connections, until `resume` (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again after `pause`."""
        self._signal(signal.SIGCONT)

    def client(self, project: str = PROJECT) -> "bigquery.Client":
        """Return a client of Google's library that talks to this emulator."""
        from google.api_core.client_options import ClientOptions  # noqa: PLC0415  # takes a second
        from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
        from google.cloud import bigquery  # noqa: PLC0415

        return bigquery.Client(
            project=project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=self.url),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        ports = ["--rest-port", str(self.port), "--grpc-port", str(self._grpc_port)]
        storage = (
            ["--persistent", "--data-dir", str(self.data_dir)] if self.data_dir else ["--ephemeral"]
        )
        return [
            *(sys.executable, "-m", "bqemulator", "start", "--project", PROJECT),
            *("--log-level", "warning", *ports, *storage),
        ]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(  # noqa: S310  # loopback
                f"{self.url}/bigquery/v2/projects/{PROJECT}/datasets", timeout=5
            ):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def _output(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-2000:]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise BigQueryEmulatorError("the BigQuery emulator is not running")
        self._process.send_signal(number)


def install_spatial_extension() -> None:
    """Install DuckDB's spatial extension from its wheel; the emulator would download it."""
    import duckdb  # noqa: PLC0415  # only the process that starts the emulator needs it
    import duckdb_extensions  # noqa: PLC0415

    with duckdb.connect() as connection:
        duckdb_extensions.import_extension("spatial", con=connection)
