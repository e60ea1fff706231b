"""Logging in to an SSH server: which keys are trusted, and what to say when it can't be done."""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncssh

from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import SshTunnel

_CONNECT_SECONDS: Final = 15
# A server that is silent for this long, times three, is gone.
_ALIVE_SECONDS: Final = 10
_KNOWN_HOSTS: Final = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")
_SETTING: Final = "airbyte_config.tunnel_method"

# Otherwise it tells of every connection and channel.
asyncssh.set_log_level("WARNING")


class Client(asyncssh.SSHClient):
    """Notes what a server that is not trusted has shown, and why the connection ended."""

    def __init__(self) -> None:
        self.shown: asyncssh.SSHKey | None = None
        self.ended: Exception | None = None

    def validate_host_public_key(
        self,
        host: str,  # noqa: ARG002 - asyncssh's signature
        addr: str,  # noqa: ARG002
        port: int,  # noqa: ARG002
        key: asyncssh.SSHKey,
    ) -> bool:
        """Refuse a key that is not among the trusted ones."""
        self.shown = key
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Keep what ended the connection."""
        self.ended = exc


def private_key(text: str) -> asyncssh.SSHKey:
    """Read a key as PEM text.

    Raises:
        CaptureError: It is none, or encrypted.
    """
    # Keys pasted into an environment variable often have their line breaks escaped.
    pem = text.replace("\\n", "\n").strip() + "\n"
    try:
        return asyncssh.import_private_key(pem)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        if "assphrase" in str(error):
            raise CaptureError(
                f"setting {_SETTING}.ssh_key is encrypted: give a key without a passphrase "
                "(ssh-keygen -p -N '' on a copy of the file removes it)"
            ) from None
        raise CaptureError(
            f"setting {_SETTING}.ssh_key is not a private key: give the whole text of the file, "
            "from -----BEGIN to END-----, with its line breaks or \\n in their place"
        ) from None


def known_hosts(host_key: str | None) -> asyncssh.SSHKnownHosts:
    """The keys of SSH servers that are trusted: the given ones, else those of OpenSSH's files.

    Args:
        host_key: Lines of a known_hosts file, or public keys.

    Raises:
        CaptureError: They can't be read.
    """
    if host_key:
        lines = [line.strip() for line in host_key.replace("\\n", "\n").splitlines()]
        is_bare = ("ssh-", "ecdsa-", "sk-")
        text = "\n".join(f"* {line}" if line.startswith(is_bare) else line for line in lines)
        where = "setting tunnel_host_key"
    else:
        files = [Path(name).expanduser() for name in _KNOWN_HOSTS]
        text = "\n".join(file.read_text() for file in files if os.access(file, os.R_OK))
        where = " and ".join(_KNOWN_HOSTS)
    try:
        return asyncssh.import_known_hosts(text)
    except ValueError as error:
        raise CaptureError(f"{where}: {error}; a line is: host ssh-ed25519 AAAA…") from None


def unknown_host(
    server: SshTunnel, known: asyncssh.SSHKnownHosts, key: asyncssh.SSHKey
) -> CaptureError:
    """What to say of a server whose key is not among the known ones."""
    name, port = server.host, server.port
    pattern = name if port == asyncssh.DEFAULT_PORT else f"[{name}]:{port}"
    line = f"{pattern} {key.export_public_key().decode().strip()}"
    where = "~/.ssh/known_hosts or the setting tunnel_host_key"
    if keys := _keys(server, known):
        trusted = ", ".join(key.get_fingerprint() for key in keys)
        return CaptureError(
            f"the SSH server {name}:{port} shows another key than the known one ({trusted}), so "
            f"someone may be in between: if its owner says that {key.get_fingerprint()} is right, "
            f"replace the line in {where} by: {line}"
        )
    return CaptureError(
        f"the SSH server {name}:{port} is unknown, so it could be anyone's: if its owner says that "
        f"{key.get_fingerprint()} is its key, add this line to {where}: {line}"
    )


def _keys(server: SshTunnel, known: asyncssh.SSHKnownHosts) -> Sequence[asyncssh.SSHKey]:
    port = None if server.port == asyncssh.DEFAULT_PORT else server.port
    return known.match(server.host, "", port)[0]


async def log_in(server: SshTunnel, client: Client) -> asyncssh.SSHClientConnection:
    """Log in to the SSH server.

    Raises:
        CaptureError: It can't be done.
    """
    key = private_key(server.key) if server.key else None
    known = known_hosts(server.host_key)
    place = f"{server.host}:{server.port}"
    try:
        return await asyncssh.connect(
            server.host,
            server.port,
            client_factory=lambda: client,
            config=None,
            known_hosts=known,
            username=server.user,
            client_keys=[key] if key else None,
            password=server.password,
            agent_path=None,
            connect_timeout=_CONNECT_SECONDS,
            login_timeout=_CONNECT_SECONDS,
            keepalive_interval=_ALIVE_SECONDS,
            # Encrypted text does not get smaller, and the server's does not need to.
            compression_algs=None,
        )
    except asyncssh.PermissionDenied:
        hint = (
            "ssh_key, whose public half has to be in that user's authorized_keys"
            if key
            else "tunnel_user_password"
        )
        raise CaptureError(
            f'the SSH server {place} refused user "{server.user}": check {_SETTING}.tunnel_user '
            f"and {hint}"
        ) from None
    except asyncssh.HostKeyNotVerifiable as error:
        if client.shown:
            raise unknown_host(server, known, client.shown) from None
        raise CaptureError(f"the SSH server {place} is not to be trusted: {error.reason}") from None
    except (asyncssh.Error, OSError, TimeoutError) as error:
        hint = "and that the server lets this machine in"
        is_cut = isinstance(error, (asyncssh.DisconnectError, ConnectionResetError))
        if is_cut and (keys := _keys(server, known)):
            kinds = ", ".join(key.get_algorithm() for key in keys)
            hint = f"and that it has a key of the kind that is known of it ({kinds})"
        raise CaptureError(
            f"can't reach the SSH server {place} ({reason(error)}): check {_SETTING}.tunnel_host "
            f"and tunnel_port, {hint}"
        ) from None


def reason(error: BaseException | None) -> str:
    """An error in a few words."""
    if isinstance(error, TimeoutError):
        return "timeout expired"
    if isinstance(error, asyncssh.Error):
        return error.reason
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error or "connection closed").splitlines()[0]
