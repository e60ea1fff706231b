"""OpenSSH's server on loopback, to tunnel through."""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sandbox.ports import free_port

HOST: Final = "127.0.0.1"
SSHD: Final = Path("/usr/sbin/sshd")

SETTINGS: Final[Mapping[str, str]] = {
    "ListenAddress": HOST,
    "PidFile": "none",
    "StrictModes": "no",  # temporary folders are open to everyone
    "UsePAM": "no",
    "KbdInteractiveAuthentication": "no",
    "AllowTcpForwarding": "yes",
    "MaxSessions": "50",
    "MaxStartups": "50",
}


class SshError(RuntimeError):
    """A server that did not start, with the end of its log."""


@dataclass
class SshServer:
    """One server with its keys in a folder of its own.

    Attributes:
        folder: Where keys, configuration and log live.
        settings: Settings beyond `SETTINGS`, as in `sshd_config`.
        port: TCP port on 127.0.0.1; chosen at the first start unless it is given.
        user: Who may log in with `key`.
        with_password: Make a user who may log in with `password`, if run as root.
        password_user: That user, who can do nothing but forward.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    user: str = field(default_factory=getpass.getuser)
    with_password: bool = False
    password_user: str | None = None
    password: str = field(default="", repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """PEM text of the user's private key."""
        return (self.folder / "user").read_text()

    @property
    def host_key(self) -> str:
        """The server's public key, as in `ssh_host_ed25519_key.pub`."""
        return (self.folder / "host.pub").read_text().strip()

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "sshd.log"

    def start(self, seconds: float = 30) -> None:
        """Start the server and wait until it answers.

        Raises:
            SshError: It did not answer in time.
        """
        if not self.port:
            self._prepare()
        self._write_settings()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", self.folder / "sshd_config", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SshError(f"sshd did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server with all connections through it."""
        self._signal(signal.SIGKILL)

    def freeze(self) -> None:
        """Let the server and its connections stay, but do nothing any more."""
        self._signal(signal.SIGSTOP)

    def remove(self) -> None:
        """Kill the server and delete its folder and the user it made."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.password_user:
            subprocess.run(["userdel", self.password_user], check=True, capture_output=True)

    def _prepare(self) -> None:
        self.port = free_port()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("host", "user"):
            options = ["-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(["ssh-keygen", *options], check=True)
        if os.geteuid() == 0:
            # Where sshd goes while it does not trust its client yet.
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
            if self.with_password:
                self._make_user()

    def _write_settings(self) -> None:
        settings = {
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "user.pub",
            "PasswordAuthentication": "yes" if self.password_user else "no",
            **SETTINGS,
            **self.settings,
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.folder / "sshd_config").write_text(lines)

    def _make_user(self) -> None:
        user, self.password = f"oso-sandbox-{self.port}", secrets.token_urlsafe(16)
        options = ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        subprocess.run(["useradd", *options, user], check=True)
        subprocess.run(["chpasswd"], input=f"{user}:{self.password}".encode(), check=True)
        self.password_user = user

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1) as peer:
            return peer.recv(4) == b"SSH-"
        return False

    def _signal(self, number: signal.Signals) -> None:
        """Signal the server and the processes of its connections, which are sessions of their own.

        Those of a killed server can't be found any more, so they go first.
        """
        if self._process is None:
            return
        for pid in [*_descendants(self._process.pid), self._process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGKILL:
            self._process.wait(60)
            self._process = None


def _descendants(pid: int) -> list[int]:
    """Processes that a process started, and those that they did, by /proc."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [*_descendants(child), child]
    return found


@contextlib.contextmanager
def running_ssh(**options: Any) -> Iterator[SshServer]:
    """Run a server in a temporary folder that is gone afterwards.

    Args:
        options: Further fields of `SshServer`.
    """
    server = SshServer(Path(tempfile.mkdtemp(prefix="sshd-")), **options)
    try:
        server.start()
        yield server
    finally:
        server.remove()
