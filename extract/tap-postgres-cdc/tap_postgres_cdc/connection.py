"""Connections with the settings of a run: TLS, tunnel, and what to say when they fail."""

import os
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg

from tap_postgres_cdc.errors import CaptureError, explain
from tap_postgres_cdc.rows import ValueLossError
from tap_postgres_cdc.sessions import Session, open_session
from tap_postgres_cdc.settings import Settings, Tls

if TYPE_CHECKING:
    from tap_postgres_cdc.tunnel import Tunnel

_CONNECT_SECONDS: Final = 10


class Connector:
    """Opens connections with the settings of a run, through a tunnel if they name one.

    Certificates and keys are in memory, as files that only this process and those it starts with
    `descriptors` can open.
    """

    def __init__(self, settings: Settings, stop: threading.Event | None = None) -> None:
        """Take the settings.

        Args:
            settings: Of the run.
            stop: Set once the run is asked to stop.
        """
        self.descriptors: list[int] = []
        self._stop = stop or threading.Event()
        self._settings = settings
        self._tunnel: Tunnel | None = None
        self._files: list[Any] = []
        self._advice = {
            "host": settings.host,
            "port": settings.port,
            "username": settings.username,
        }
        given = dict(settings.parameters)
        self._parameters: dict[str, Any] = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "tap-postgres-cdc",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 6,
            **given,
            "host": settings.host,
            "port": settings.port,
            "dbname": settings.database,
            "user": settings.username,
            "password": settings.password,
            # Given so that PGOPTIONS and PGCLIENTENCODING are not taken instead.
            "options": given.get("options", ""),
            "client_encoding": "UTF8",
            **self._tls_parameters(settings.tls),
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """Those of libpq, good until `close`; a tunnel is opened when they are first asked for.

        Raises:
            CaptureError: The tunnel can't be opened.
        """
        settings = self._settings
        if settings.tunnel and not self._tunnel:
            # Imported here, as half a second is too long for those who need none.
            from tap_postgres_cdc.tunnel import LOOPBACK, Tunnel  # noqa: PLC0415

            self._tunnel = Tunnel(settings.tunnel, settings.host, settings.port)
            # The certificate is still that of `host`.
            self._parameters |= {"hostaddr": LOOPBACK, "port": self._tunnel.port}
        return self._parameters

    def connect(self) -> Session:
        """Open a connection for queries, in autocommit mode.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: It can't be opened.
        """
        return self._open()

    def connect_to_replicate(self) -> Session:
        """Open a connection that speaks the streaming replication protocol.

        Raises:
            Interrupted: The run was asked to stop.
            CaptureError: It can't be opened.
        """
        return self._open(replication="database")

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of the server, of the connection and of keys into one line.

        Raises:
            CaptureError: Instead of `psycopg.Error` and `ValueLossError`.
        """
        try:
            yield
        except ValueLossError as error:
            raise CaptureError(str(error)) from error
        except psycopg.Error as error:
            if self._tunnel and (reason := self._tunnel.failure()):
                raise CaptureError(reason) from error
            raise explain(error, **self._advice) from error

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A connection for queries; the connector is closed with it.

        Raises:
            CaptureError: It can't be opened, or was lost, or the server refused a query.
        """
        with closing(self), self.errors(), closing(self.connect()) as connection:
            yield connection

    def close(self) -> None:
        """End the tunnel, and let go of certificates and keys."""
        if self._tunnel:
            self._tunnel.close()
            self._tunnel = None
        while self.descriptors:
            os.close(self.descriptors.pop())

    def _open(self, **parameters: Any) -> Session:
        given = self.parameters
        with self.errors():
            return open_session({**given, **parameters}, self._stop)

    def _tls_parameters(self, tls: Tls) -> dict[str, str]:
        parameters = {"sslmode": tls.mode}
        if tls.ca_certificate:
            parameters["sslrootcert"] = self._file(tls.ca_certificate)
        elif tls.mode == "verify-full":
            parameters["sslrootcert"] = ssl.get_default_verify_paths().cafile or "system"
        if tls.client_certificate and tls.client_key:
            parameters["sslcert"] = self._file(tls.client_certificate)
            parameters["sslkey"] = self._file(tls.client_key)
        else:
            # Not those that happen to be in the home directory.
            parameters["sslcert"] = ""
        if tls.client_key_password:
            parameters["sslpassword"] = tls.client_key_password
        return parameters

    def _file(self, text: str) -> str:
        """Give libpq, which reads keys from files, a file that is on no disk where there is one."""
        # Keys pasted into an environment variable often have their line breaks escaped.
        content = text.replace("\\n", "\n").strip().encode() + b"\n"
        if not hasattr(os, "memfd_create"):
            file = tempfile.NamedTemporaryFile()  # noqa: SIM115 - it lives as long as the connector
            self._files.append(file)
            file.write(content)
            file.flush()
            return file.name
        descriptor = os.memfd_create("tls", 0)
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content)
        self.descriptors.append(descriptor)
        return f"/proc/self/fd/{descriptor}"
