"""Settings: the block that Airbyte's PostgreSQL connector takes, and our own beside it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from singer_sdk import typing as th

from tap_postgres_cdc.errors import CaptureError

TUNNEL_METHODS: Final = ("NO_TUNNEL", "SSH_KEY_AUTH", "SSH_PASSWORD_AUTH")
TLS_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_LIBPQ_NAMES: Final = {
    "ApplicationName": "application_name",
    "channelBinding": "channel_binding",
    "connectTimeout": "connect_timeout",
    "gssEncMode": "gssencmode",
    "hostRecheckSeconds": None,
    "loginTimeout": "connect_timeout",
    "options": "options",
    "replication": None,  # every run of change data capture replicates
    "sslmode": "sslmode",
    "sslrootcert": "sslrootcert",
    "tcpKeepAlive": "keepalives",
}
_BOOLEANS: Final = {"true": "1", "false": "0"}

CONFIG_SCHEMA: Final[dict[str, Any]] = th.PropertiesList(
    th.Property(
        "airbyte_config",
        th.ObjectType(
            th.Property("host", th.StringType, description="Name or address of the server."),
            th.Property("port", th.IntegerType, description="TCP port; 5432 if not given."),
            th.Property("database", th.StringType, description="Database to capture."),
            th.Property("username", th.StringType, description="Role with REPLICATION and SELECT."),
            th.Property("password", th.StringType, secret=True, description="Its password."),
            th.Property(
                "schemas",
                th.ArrayType(th.StringType),
                description="Schemas whose published tables are captured; public if not given.",
            ),
            th.Property(
                "jdbc_url_params",
                th.StringType,
                description="Connection parameters as in a JDBC URL, joined by &.",
            ),
            th.Property("ssl", th.BooleanType, description="Short for ssl_mode require, disable."),
            th.Property(
                "ssl_mode",
                th.ObjectType(
                    th.Property(
                        "mode",
                        th.StringType,
                        description=f"One of {', '.join(TLS_MODES)}; prefer if not given.",
                    ),
                    th.Property(
                        "ca_certificate",
                        th.StringType,
                        description="PEM text of the authority behind the server's certificate.",
                    ),
                    th.Property(
                        "client_certificate",
                        th.StringType,
                        description="PEM text of the certificate to show to the server.",
                    ),
                    th.Property(
                        "client_key",
                        th.StringType,
                        secret=True,
                        description="PEM text of the key of client_certificate.",
                    ),
                    th.Property(
                        "client_key_password",
                        th.StringType,
                        secret=True,
                        description="Password of client_key, if it has one.",
                    ),
                ),
                description="How the connection is encrypted and whom it trusts.",
            ),
            th.Property(
                "replication_method",
                th.ObjectType(
                    th.Property("method", th.StringType, description="CDC."),
                    th.Property("plugin", th.StringType, description="pgoutput."),
                    th.Property(
                        "publication", th.StringType, description="Name of the publication."
                    ),
                    th.Property(
                        "replication_slot",
                        th.StringType,
                        description="Name of a logical slot that only this pipeline reads.",
                    ),
                    th.Property(
                        "initial_waiting_seconds",
                        th.IntegerType,
                        description="Not needed: a run ends where the log ended when it began.",
                    ),
                ),
                description="Change data capture through a pgoutput slot and a publication.",
            ),
            th.Property(
                "tunnel_method",
                th.ObjectType(
                    th.Property(
                        "tunnel_method",
                        th.StringType,
                        description=f"One of {', '.join(TUNNEL_METHODS)}; the first if not given.",
                    ),
                    th.Property(
                        "tunnel_host", th.StringType, description="Name or address of the server."
                    ),
                    th.Property(
                        "tunnel_port", th.IntegerType, description="Its port; 22 if not given."
                    ),
                    th.Property("tunnel_user", th.StringType, description="User to log in as."),
                    th.Property(
                        "ssh_key",
                        th.StringType,
                        secret=True,
                        description="PEM text of the user's private key, without a passphrase.",
                    ),
                    th.Property(
                        "tunnel_user_password",
                        th.StringType,
                        secret=True,
                        description="Password of the user.",
                    ),
                ),
                description="An SSH server through which the database is reached.",
            ),
        ),
        required=True,
        description="The settings of Airbyte's PostgreSQL connector.",
    ),
    th.Property(
        "tunnel_host_key",
        th.StringType,
        description="Public key of the SSH server, or its line of a known_hosts file;"
        " what ~/.ssh/known_hosts says if not given.",
    ),
    th.Property(
        "stream_name",
        th.StringType,
        default="table",
        allowed_values=["table", "schema-table"],
        description="How a table's stream is named.",
    ),
    th.Property(
        "snapshot_workers",
        th.IntegerType,
        default=2,
        minimum=1,
        description="Processes that copy parts of a table at the same time.",
    ),
    th.Property(
        "snapshot_minutes",
        th.DecimalType(exclusive_minimum=0),
        default=30,
        description="Longest time that a first copy holds one snapshot,"
        " which keeps VACUUM from removing dead rows.",
    ),
    th.Property(
        "max_rows_per_second",
        th.IntegerType(minimum=1),
        description="Limit of a first copy, all workers together; none if not given.",
    ),
    th.Property(
        "wait_minutes",
        th.DecimalType(exclusive_minimum=0),
        default=60,
        description="How long a run waits for old transactions, prepared transactions and locks.",
    ),
    th.Property(
        "dropped_partitions",
        th.StringType,
        default="copy",
        allowed_values=["copy", "keep"],
        description="What becomes of rows whose partition was dropped or detached:"
        " the table is copied again so that they go, or they are kept as history.",
    ),
    th.Property(
        "on_bad_value",
        th.StringType,
        default="null",
        allowed_values=["null", "fail"],
        description="What becomes of a value that records can't hold:"
        " null and a warning at the end, or the end of the run.",
    ),
    th.Property(
        "show_values",
        th.BooleanType,
        default=False,
        description="Whether a warning of a bad value may name the key of its row.",
    ),
).to_dict()


@dataclass(frozen=True)
class Tls:
    """Encryption of the connection; certificates and keys are PEM texts."""

    mode: str
    ca_certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = field(default=None, repr=False)
    client_key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SshTunnel:
    """The SSH server that forwards to the database; `key` is a PEM text, `host_key` a line."""

    host: str
    port: int
    user: str
    key: str | None = field(repr=False)
    password: str | None = field(repr=False)
    host_key: str | None


@dataclass(frozen=True)
class Settings:
    """What a run needs to know.

    Attributes:
        parameters: Further parameters of libpq.
        notices: How some settings are taken, one line each.
        warnings: What of the settings has no effect, one line each.
        snapshot_minutes: Longest time that a first copy holds one snapshot.
        max_rows_per_second: Of a first copy, all workers together; None without limit.
        wait_minutes: How long to wait for old and prepared transactions, and for locks.
        dropped_partitions: `copy` or `keep`.
        on_bad_value: `null` or `fail`.
        show_values: Whether a warning may name the key of a row.
    """

    host: str
    port: int
    database: str
    username: str
    password: str | None = field(repr=False)
    tls: Tls
    tunnel: SshTunnel | None
    parameters: Mapping[str, str]
    schemas: tuple[str, ...]
    publication: str
    slot: str
    stream_name: str
    snapshot_workers: int
    snapshot_minutes: float
    max_rows_per_second: int | None
    wait_minutes: float
    dropped_partitions: str
    on_bad_value: str
    show_values: bool
    notices: tuple[str, ...]
    warnings: tuple[str, ...]


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Check the tap's configuration, of the form of `CONFIG_SCHEMA`.

    Raises:
        CaptureError: Something is missing or not supported; the message names the setting.
    """
    block = config.get("airbyte_config") or {}
    notices: list[str] = []
    warnings: list[str] = []
    publication, slot = _read_replication(block.get("replication_method") or {}, notices)
    parameters = _read_parameters(block.get("jdbc_url_params") or "", warnings)
    tls = _read_tls(block, parameters.pop("sslmode", None), notices)
    return Settings(
        host=_required(block, "host"),
        port=block.get("port") or 5432,
        database=_required(block, "database"),
        username=_required(block, "username"),
        password=block.get("password"),
        tls=tls,
        tunnel=_read_tunnel(block.get("tunnel_method") or {}, config.get("tunnel_host_key")),
        parameters=parameters,
        schemas=tuple(block.get("schemas") or ("public",)),
        publication=publication,
        slot=slot,
        stream_name=config.get("stream_name") or "table",
        snapshot_workers=config.get("snapshot_workers") or 2,
        snapshot_minutes=config.get("snapshot_minutes") or 30,
        max_rows_per_second=config.get("max_rows_per_second"),
        wait_minutes=config.get("wait_minutes") or 60,
        dropped_partitions=config.get("dropped_partitions") or "copy",
        on_bad_value=config.get("on_bad_value") or "null",
        show_values=config.get("show_values") or False,
        notices=tuple(notices),
        warnings=tuple(warnings),
    )


def _required(block: Mapping[str, Any], name: str, parent: str = "airbyte_config") -> str:
    value = block.get(name)
    if not value:
        raise CaptureError(f"setting {parent}.{name} is missing")
    return str(value)


def _read_replication(block: Mapping[str, Any], notices: list[str]) -> tuple[str, str]:
    parent = "airbyte_config.replication_method"
    method, plugin = block.get("method") or "CDC", block.get("plugin") or "pgoutput"
    if method != "CDC":
        raise CaptureError(
            f"setting {parent}.method: {method} is not supported, use CDC with plugin pgoutput; "
            "for copying whole tables select replication-method FULL_TABLE in the catalog"
        )
    if plugin != "pgoutput":
        raise CaptureError(
            f"setting {parent}.plugin: {plugin} is not supported, use pgoutput with a slot made by "
            "SELECT pg_create_logical_replication_slot('<name>', 'pgoutput')"
        )
    if block.get("initial_waiting_seconds"):
        notices.append(
            "initial_waiting_seconds is not needed: a run ends where the log ended when it began"
        )
    return _required(block, "publication", parent), _required(block, "replication_slot", parent)


def _read_parameters(text: str, warnings: list[str]) -> dict[str, str]:
    parameters = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _LIBPQ_NAMES:
            warnings.append(
                f"setting airbyte_config.jdbc_url_params: {name} is unknown and ignored"
            )
        elif libpq_name := _LIBPQ_NAMES[name]:
            parameters[libpq_name] = _BOOLEANS.get(value, value)
    return parameters


def _read_tls(block: Mapping[str, Any], parameter: str | None, notices: list[str]) -> Tls:
    given = block.get("ssl_mode") or {}
    mode = given.get("mode") or parameter
    if mode is None:
        mode = {True: "require", False: "disable", None: "prefer"}[block.get("ssl")]
    if mode == "enable":
        mode = "require"
        notices.append("setting airbyte_config.ssl_mode.mode: enable is taken as require")
    if mode not in TLS_MODES:
        raise CaptureError(
            f"setting airbyte_config.ssl_mode.mode: {mode} is unknown, use one of "
            f"{', '.join(TLS_MODES)}"
        )
    tls = Tls(
        mode,
        given.get("ca_certificate"),
        given.get("client_certificate"),
        given.get("client_key"),
        given.get("client_key_password"),
    )
    if mode == "verify-ca" and not tls.ca_certificate:
        raise CaptureError(
            "setting airbyte_config.ssl_mode.ca_certificate is missing for verify-ca"
        )
    if bool(tls.client_certificate) != bool(tls.client_key):
        raise CaptureError(
            "settings airbyte_config.ssl_mode.client_certificate and client_key go together: "
            "one of them is missing"
        )
    return tls


def _read_tunnel(given: Mapping[str, Any], host_key: str | None) -> SshTunnel | None:
    parent = "airbyte_config.tunnel_method"
    method = given.get("tunnel_method") or "NO_TUNNEL"
    if method not in TUNNEL_METHODS:
        raise CaptureError(
            f"setting {parent}.tunnel_method: {method} is unknown, use one of "
            f"{', '.join(TUNNEL_METHODS)}"
        )
    if method == "NO_TUNNEL":
        return None
    by_key = method == "SSH_KEY_AUTH"
    return SshTunnel(
        host=_required(given, "tunnel_host", parent),
        port=given.get("tunnel_port") or 22,
        user=_required(given, "tunnel_user", parent),
        key=_required(given, "ssh_key", parent) if by_key else None,
        password=None if by_key else _required(given, "tunnel_user_password", parent),
        host_key=host_key,
    )
