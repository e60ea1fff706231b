"""What is right or wrong with a connection, a server, a role and a slot. Nothing here asks them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier, literal
from tap_postgres_cdc.commands.inspection import Role, Server, Setting
from tap_postgres_cdc.commands.services import Service
from tap_postgres_cdc.errors import slot_lost
from tap_postgres_cdc.progress import data_size, duration
from tap_postgres_cdc.settings import Settings

_OLDEST_VERSION: Final = 150000
_KEEP_SIZE: Final = "10GB"
_MEGABYTE: Final = 1 << 20
_PASSWORD_DAYS: Final = 30
# Below this share of the allowed WAL a slot is about to be lost.
_SAFE_SHARE: Final = 0.25
_LEAST_IDLE_SECONDS: Final = 3 * 86400


class Encryption(NamedTuple):
    """TLS of the connection that was opened: its version, None without."""

    version: str | None


def check_connection(settings: Settings, role: Role) -> Finding:
    """Say whom and what the settings reach."""
    found = f"connected to {settings.host}:{settings.port}, database {settings.database}"
    return Finding("connection", Status.OK, f"{found}, as {role.name}")


def check_version(server: Server) -> Finding:
    """The server has to be new enough."""
    if server.version >= _OLDEST_VERSION:
        return Finding("version", Status.OK, f"PostgreSQL {server.version_text}")
    fix = Fix("whoever runs the server", do="upgrade it to version 15 or later")
    return Finding(
        "version", Status.ERROR, f"PostgreSQL {server.version_text} is older than 15", fix
    )


def check_encryption(settings: Settings, server: Server, encryption: Encryption) -> Finding:
    """Password and rows should not go over a network as they are."""
    mode = settings.tls.mode
    if encryption.version:
        if mode.startswith("verify"):
            found = f"TLS: {encryption.version}, the server's certificate is verified ({mode})"
            return Finding("tls", Status.OK, found)
        if mode == "require":
            found = f"TLS: {encryption.version}; verify-full would also verify who answers"
            return Finding("tls", Status.OK, found)
        found = f"TLS: {encryption.version}, but ssl_mode.mode {mode} would do without"
    elif server.settings["ssl"].value == "off" and server.is_local:
        return Finding("tls", Status.OK, "TLS: none, the server is on this machine")
    elif server.settings["ssl"].value == "off":
        fix = Fix("whoever runs the server", do="set up a certificate and turn ssl on")
        return Finding("tls", Status.WARNING, "TLS: the server does not speak it", fix)
    else:
        found = "TLS: none, password hash and rows go over the network as they are"
    fix = Fix("you", do="set airbyte_config.ssl_mode.mode to require, or better verify-full")
    return Finding("tls", Status.WARNING, found, fix)


def check_primary(server: Server) -> Finding:
    """A standby can't tell what the tap has to know."""
    if not server.is_standby:
        return Finding("primary", Status.OK, "the server is a primary")
    fix = Fix("you", do="set airbyte_config.host to the primary")
    return Finding("primary", Status.ERROR, "the server is a standby", fix)


def check_writable(server: Server, service: Service, database: str) -> Finding:
    """A server that takes no writes is often one whose disk is full."""
    setting = server.settings["default_transaction_read_only"]
    if setting.value == "off" or server.is_standby:
        return Finding("read_only", Status.OK, "the database takes writes")
    if "user" in setting.source:
        found = "the role is read-only, which is all it needs"
        return Finding("read_only", Status.OK, found)
    found = (
        "the database is read-only: nothing new will come; some services do this when the disk is "
        "nearly full"
    )
    if setting.source == "database":
        statement = f"ALTER DATABASE {identifier(database)} RESET default_transaction_read_only"
        fix = Fix("the database's owner", (statement,))
    else:
        fix = service.set_parameter("default_transaction_read_only", "off", restart=False)
    return Finding("read_only", Status.WARNING, found, fix)


def check_encoding(server: Server) -> Finding:
    """Text without a known encoding may not be UTF-8."""
    encoding = server.settings["server_encoding"].value
    if encoding != "SQL_ASCII":
        return Finding("encoding", Status.OK, f"encoding {encoding}")
    fix = Fix("the database's owner", do="move the data to a database with encoding UTF8")
    found = "encoding SQL_ASCII: text that is not UTF-8 ends the run"
    return Finding("encoding", Status.WARNING, found, fix)


def check_wal_level(server: Server, service: Service) -> Finding:
    """Without `wal_level = logical` the log has no changes of rows."""
    level = server.settings["wal_level"]
    if level.value == "logical" and not level.pending:
        return Finding("wal_level", Status.OK, "wal_level is logical")
    found = f"wal_level is {level.value}"
    if level.value == "logical":
        fix = service.set_parameter("wal_level", "logical", restart=False)
        found += ", but was changed: it will not be after the next restart"
        return Finding("wal_level", Status.WARNING, found, fix)
    if level.pending:
        found += ": it was changed, but the server was not restarted since"
        return Finding("wal_level", Status.ERROR, found, service.restart())
    fix = service.set_parameter("wal_level", "logical", restart=True)
    return Finding("wal_level", Status.ERROR, f"{found}, but has to be logical", fix)


def check_role(
    role: Role, service: Service, refusal: str | None, *, limit: int, now: datetime
) -> list[Finding]:
    """Attributes of the role.

    Args:
        role: The role.
        service: Who runs the server.
        refusal: What the server said to a replication connection; None if it opened one.
        limit: How many connections a run opens.
        now: The time.
    """
    name = identifier(role.name)
    findings = []
    if refusal is None or "permission" not in refusal:
        findings.append(Finding("replication", Status.OK, f"role {role.name} may replicate"))
    else:
        found, fix = f"role {role.name} may not replicate", service.grant_replication(name)
        findings.append(Finding("replication", Status.ERROR, found, fix))
    if role.is_superuser:
        fix = Fix("you", do="run setup for a role of its own, and set it in airbyte_config")
        found = f"role {role.name} is a superuser, which is more than it needs"
        findings.append(Finding("superuser", Status.WARNING, found, fix))
    else:
        findings.append(Finding("superuser", Status.OK, f"role {role.name} is no superuser"))
    if 0 <= role.connection_limit < limit:
        fix = Fix(service.administrator, (f"ALTER ROLE {name} CONNECTION LIMIT {limit}",))
        found = f"role {role.name} may open {role.connection_limit} connections, a run opens"
        findings.append(Finding("connection_limit", Status.ERROR, f"{found} {limit}", fix))
    if role.valid_until and role.valid_until < now + timedelta(days=_PASSWORD_DAYS):
        fix = Fix(service.administrator, (f"ALTER ROLE {name} VALID UNTIL 'infinity'",))
        found = f"the password of role {role.name} expires on {role.valid_until:%Y-%m-%d}"
        findings.append(Finding("password", Status.WARNING, found, fix))
    return findings


def check_headroom(
    server: Server, service: Service, slot: str, refusal: str | None
) -> list[Finding]:
    """A slot and a WAL sender have to be free for the pipeline."""
    slots, most = len(server.slots), int(server.settings["max_replication_slots"].value)
    found = f"{slots} of {most} replication slots are in use (max_replication_slots)"
    if slots < most or slot in server.slots:
        findings = [Finding("max_replication_slots", Status.OK, found)]
    else:
        fix = service.set_parameter("max_replication_slots", str(most + 5), restart=True)
        if idle := [name for name, active in server.slots.items() if not active]:
            fix = fix._replace(
                do=f"{fix.do}; or drop a slot that nobody needs any more, of {', '.join(idle)}"
            )
        findings = [Finding("max_replication_slots", Status.ERROR, found, fix)]
    senders, most = server.wal_senders, int(server.settings["max_wal_senders"].value)
    found = f"{senders} of {most} WAL senders are in use (max_wal_senders)"
    if senders < most and "max_wal_senders" not in (refusal or ""):
        return [*findings, Finding("max_wal_senders", Status.OK, found)]
    fix = service.set_parameter("max_wal_senders", str(most + 5), restart=True)
    return [*findings, Finding("max_wal_senders", Status.ERROR, found, fix)]


def check_slot(
    server: Server, service: Service, role: str, name: str, slot: Mapping[str, Any] | None
) -> list[Finding]:
    """The slot exists, is for this, is free, and has the WAL it needs."""
    create = f"SELECT pg_create_logical_replication_slot({literal(name)}, 'pgoutput')"
    drop = f"SELECT pg_drop_replication_slot({literal(name)})"
    if slot is None:
        fix = Fix(f"the role {role}", (create,))
        found = f"slot {name} does not exist"
        return [Finding("slot", Status.ERROR, found, fix), *_check_retention(server, service, None)]
    if slot["slot_type"] != "logical" or slot["plugin"] != "pgoutput":
        kind = f"for {slot['plugin']}" if slot["plugin"] else "physical"
        fix = Fix(f"the role {role}", (drop, create))
        fix = fix._replace(do="if another pipeline needs it, set replication_slot to another name")
        return [Finding("slot", Status.ERROR, f"slot {name} is {kind}, not for pgoutput", fix)]
    if slot["database"] != slot["here"]:
        found = f"slot {name} belongs to database {slot['database']}, not to {slot['here']}"
        fix = Fix("you", do="set airbyte_config.database or replication_slot to match")
        return [Finding("slot", Status.ERROR, found, fix)]
    if slot["wal_status"] == "lost":
        reason = slot_lost(name).message.split(";")[0]
        fix = Fix(f"the role {role}", (drop, create), "run the pipeline with --full-refresh")
        return [Finding("slot", Status.ERROR, reason, fix)]
    found = f"slot {name} exists, for pgoutput, with {data_size(slot['retained'] or 0)} of WAL"
    details = {"retained_wal_bytes": slot["retained"], "safe_wal_bytes": slot["safe_wal_size"]}
    return [
        Finding("slot", Status.OK, found, details=details),
        _check_reader(name, slot),
        *_check_retention(server, service, slot),
    ]


def _check_reader(name: str, slot: Mapping[str, Any]) -> Finding:
    """Two readers would steal changes from each other."""
    pid = slot["active_pid"]
    if pid is None:
        return Finding("slot_reader", Status.OK, f"slot {name} is free")
    reader = slot["reader"] or {}
    found = f"slot {name} is being read by process {pid}"
    if reader.get("own") and reader.get("application") == "tap-postgres-cdc":
        found += f", a run of this tap since {reader['since']}"
        fix = Fix("you", do="wait until it is over")
        return Finding("slot_reader", Status.WARNING, found, fix)
    if who := reader.get("user"):
        found += f" of role {who}"
    stop = f"SELECT pg_terminate_backend({pid})"
    fix = Fix(f"{'the role ' + who if who else 'its owner'} or a superuser", (stop,))
    fix = fix._replace(do="give each pipeline a slot of its own")
    return Finding("slot_reader", Status.ERROR, found, fix)


def _check_retention(
    server: Server, service: Service, slot: Mapping[str, Any] | None
) -> list[Finding]:
    """A forgotten slot must not fill the disk, and a working one must not be lost."""
    findings = []
    keep = int(server.settings["max_slot_wal_keep_size"].value)
    if keep < 0:
        fix = service.set_parameter("max_slot_wal_keep_size", _KEEP_SIZE, restart=False)
        if fix.sql:
            fix = fix._replace(do="or any size that the disk has room for")
        found = "max_slot_wal_keep_size is unlimited: a slot that is not read fills the disk"
        findings.append(Finding("max_slot_wal_keep_size", Status.WARNING, found, fix))
    else:
        findings.append(_check_safe_size(keep * _MEGABYTE, service, slot))
    idle = server.settings.get("idle_replication_slot_timeout")
    if idle is not None:
        findings.append(_check_idle_timeout(idle, service))
    return findings


def _check_safe_size(keep: int, service: Service, slot: Mapping[str, Any] | None) -> Finding:
    found = f"max_slot_wal_keep_size is {data_size(keep)}"
    safe = slot["safe_wal_size"] if slot else None
    if safe is None:
        return Finding("max_slot_wal_keep_size", Status.OK, found)
    found += f", {data_size(max(safe, 0))} of it left"
    if safe >= keep * _SAFE_SHARE:
        return Finding("max_slot_wal_keep_size", Status.OK, found)
    fix = Fix("you", do="run the pipeline now: when nothing is left, the slot is lost")
    larger = service.set_parameter("max_slot_wal_keep_size", f"{4 * keep >> 20}MB", restart=False)
    if larger.sql:
        fix = Fix(larger.by, larger.sql, "run the pipeline: when nothing is left, the slot is lost")
    return Finding("max_slot_wal_keep_size", Status.WARNING, found, fix)


def _check_idle_timeout(idle: Setting, service: Service) -> Finding:
    seconds = int(idle.value)
    name = "idle_replication_slot_timeout"
    if not seconds:
        return Finding(name, Status.OK, f"{name} is off")
    found = f"{name} is {duration(seconds)}: a pipeline that pauses for longer loses its slot"
    if seconds >= _LEAST_IDLE_SECONDS:
        return Finding(name, Status.OK, found)
    fix = service.set_parameter(name, "7d", restart=False)
    return Finding(name, Status.WARNING, found, fix)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)
