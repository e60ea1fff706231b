"""What is right or wrong with a server, a role and a slot. Nothing here asks them."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier, literal
from tap_postgres_cdc.commands.inspection import Role, Server, Setting
from tap_postgres_cdc.commands.services import Service
from tap_postgres_cdc.errors import slot_lost
from tap_postgres_cdc.progress import data_size, duration

_OLDEST_VERSION: Final = 150000
_KEEP_SIZE: Final = "10GB"
_MEGABYTE: Final = 1 << 20
_PASSWORD_DAYS: Final = 30
_MAX_SENDERS: Final = "max_wal_senders"
_ROOM: Final = 5
_PREPARED_SECONDS: Final = 300
# Below this share of the allowed WAL a slot is about to be lost.
_SAFE_SHARE: Final = 0.25
_LEAST_IDLE_SECONDS: Final = 3 * 86400


def check_version(server: Server) -> Finding:
    """The server has to be new enough."""
    if server.version >= _OLDEST_VERSION:
        return Finding("version", Status.OK, f"PostgreSQL {server.version_text}")
    fix = Fix("whoever runs the server", do="upgrade it to version 15 or later")
    return Finding(
        "version", Status.ERROR, f"PostgreSQL {server.version_text} is older than 15", fix
    )


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
    found = "encoding SQL_ASCII: text that is not UTF-8 gets U+FFFD in some places, and is counted"
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


def check_prepared(server: Server) -> list[Finding]:
    """A first copy waits for every transaction, and nothing ends one that was forgotten."""
    found = "no prepared transaction is left over"
    old = [one for one in server.prepared if one.seconds >= _PREPARED_SECONDS]
    return [
        Finding(
            "prepared_transactions",
            Status.WARNING,
            f"prepared transaction {one.gid} of {one.owner} in database {one.database} is "
            f"{duration(one.seconds)} old: a first copy waits until it is over",
            Fix(
                f"{one.owner}, in database {one.database},",
                (f"ROLLBACK PREPARED {literal(one.gid)}",),
                note="or COMMIT PREPARED, if it should have been committed",
            ),
        )
        for one in old
    ] or [Finding("prepared_transactions", Status.OK, found)]


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
    return [
        *_check_replication(role, service, refusal),
        _check_superuser(role),
        _check_connection_limit(role, service, limit),
        _check_password(role, service, now),
    ]


def _check_replication(role: Role, service: Service, refusal: str | None) -> list[Finding]:
    has_attribute = role.replicates or role.is_superuser
    if refusal is None:
        return [Finding("replication", Status.OK, f"role {role.name} may replicate")]
    if _MAX_SENDERS in refusal:
        return []  # a line of its own says so
    if not has_attribute:
        found, fix = (
            f"role {role.name} may not replicate",
            service.grant_replication(identifier(role.name)),
        )
        return [Finding("replication", Status.ERROR, found, fix)]
    do = service.caveat or "if host is a connection pooler, set it to the database's own"
    found = f"connections for replication are refused: {refusal}"
    return [Finding("replication", Status.ERROR, found, Fix("you", do=do))]


def _check_superuser(role: Role) -> Finding:
    if not role.is_superuser:
        return Finding("superuser", Status.OK, f"role {role.name} is no superuser")
    fix = Fix("you", do="make a role of its own with setup, and set it in airbyte_config.username")
    found = f"role {role.name} is a superuser, which is more than it needs"
    return Finding("superuser", Status.WARNING, found, fix)


def _check_connection_limit(role: Role, service: Service, limit: int) -> Finding:
    allowed = "any number of" if role.connection_limit < 0 else f"{role.connection_limit}"
    found = f"role {role.name} may open {allowed} connections, a run opens {limit}"
    if role.connection_limit < 0 or role.connection_limit >= limit:
        return Finding("connection_limit", Status.OK, found)
    statement = f"ALTER ROLE {identifier(role.name)} CONNECTION LIMIT {limit}"
    fix = Fix(service.administrator, (statement,))
    return Finding("connection_limit", Status.ERROR, found, fix)


def _check_password(role: Role, service: Service, now: datetime) -> Finding:
    if role.valid_until is None:
        return Finding("password", Status.OK, f"the password of role {role.name} does not expire")
    found = f"the password of role {role.name} expires on {role.valid_until:%Y-%m-%d}"
    if role.valid_until > now + timedelta(days=_PASSWORD_DAYS):
        return Finding("password", Status.OK, found)
    statement = f"ALTER ROLE {identifier(role.name)} VALID UNTIL 'infinity'"
    fix = Fix(service.administrator, (statement,), note="or a new password, and a later date")
    return Finding("password", Status.WARNING, found, fix)


def check_headroom(
    server: Server, service: Service, slot: str, refusal: str | None
) -> list[Finding]:
    """A slot and a WAL sender have to be free for the pipeline."""
    slots, most = len(server.slots), int(server.settings["max_replication_slots"].value)
    found = f"replication slots taken: {slots} of {most} (max_replication_slots)"
    if slots < most or slot in server.slots:
        findings = [Finding("max_replication_slots", Status.OK, found)]
    else:
        fix = service.set_parameter("max_replication_slots", str(most + _ROOM), restart=True)
        if idle := [name for name, active in server.slots.items() if not active]:
            note = f"or drop a slot that nobody needs any more; nobody reads {', '.join(idle)}"
            fix = fix._replace(note=note)
        findings = [Finding("max_replication_slots", Status.ERROR, found, fix)]
    senders, most = server.wal_senders, int(server.settings[_MAX_SENDERS].value)
    found = f"WAL senders running: {senders} of {most} (max_wal_senders)"
    if senders < most and _MAX_SENDERS not in (refusal or ""):
        return [*findings, Finding(_MAX_SENDERS, Status.OK, found)]
    fix = service.set_parameter(_MAX_SENDERS, str(most + _ROOM), restart=True)
    return [*findings, Finding(_MAX_SENDERS, Status.ERROR, found, fix)]


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
        note = "if someone else needs it, set replication_slot to another name instead"
        fix = Fix(f"the role {role}", (drop, create), note=note)
        return [Finding("slot", Status.ERROR, f"slot {name} is {kind}, not for pgoutput", fix)]
    if slot["database"] != slot["here"]:
        found = f"slot {name} belongs to database {slot['database']}, not to {slot['here']}"
        fix = Fix("you", do="set airbyte_config.database or replication_slot to match")
        return [Finding("slot", Status.ERROR, found, fix)]
    if slot["wal_status"] == "lost":
        reason = slot_lost(name).message.split(";")[0]
        fix = Fix(f"the role {role}", (drop, create), "run the pipeline with --full-refresh")
        return [Finding("slot", Status.ERROR, reason, fix)]
    if slot["two_phase"]:
        found = f"slot {name} was made with two_phase, which is not supported"
        fix = Fix(f"the role {role}", (drop, create), "run the pipeline with --full-refresh")
        return [Finding("slot", Status.ERROR, found, fix)]
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
    by = f"the role {who}, or a superuser," if who else "a superuser"
    fix = Fix(by, (stop,), "give each pipeline a slot of its own")
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
            fix = fix._replace(note="or another size that the disk has room for")
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
