"""What is right or wrong with a connection, or why there is none. Nothing here opens one."""

import re
from pathlib import Path
from typing import Final, NamedTuple

from tap_postgres_cdc.commands.findings import Finding, Fix, Status
from tap_postgres_cdc.commands.identifiers import identifier
from tap_postgres_cdc.commands.inspection import Role, Server
from tap_postgres_cdc.commands.services import Service
from tap_postgres_cdc.sessions import TIMEOUTS
from tap_postgres_cdc.settings import Settings

_NO_ENTRY: Final = re.compile(
    r'no pg_hba.conf entry for host "([^"]+)", user "([^"]+)", database "([^"]+)", (.+)'
)


class Encryption(NamedTuple):
    """TLS of the connection that was opened: its version, None without."""

    version: str | None


def check_connection(settings: Settings, role: Role) -> Finding:
    """Say whom and what the settings reach."""
    found = f"connected to {settings.host}:{settings.port}, database {settings.database}"
    through = ""
    if settings.tunnel:
        through = f", through the SSH server {settings.tunnel.host}:{settings.tunnel.port}"
    return Finding("connection", Status.OK, f"{found}, as {role.name}{through}")


def check_timeouts(server: Server) -> Finding:
    """What ends other sessions does not end ours, which have to wait."""
    if not server.timeouts:
        return Finding("timeouts", Status.OK, "no timeout of role or database to override")
    set_to = ", ".join(f"{name} = {value}" for name, value in sorted(server.timeouts.items()))
    ours = ", ".join(f"{name} = {TIMEOUTS[name]}" for name in sorted(server.timeouts))
    found = f"role, database or server have {set_to}; the tap's own sessions have {ours}"
    fix = Fix("you", do="nothing: they are overridden in the tap's own sessions only")
    return Finding("timeouts", Status.WARNING, found, fix)


def check_env_file(file: Path) -> Finding:
    """Say that others on this machine may read the file that secrets come from."""
    found = f"other users of this machine may read {file}, which holds secrets"
    return Finding("env_file", Status.WARNING, found, Fix("you", do=f"chmod 600 {file}"))


def check_refusal(message: str, cause: str, settings: Settings, service: Service) -> Finding:
    """Say why nothing can be asked, and what mends that.

    Args:
        message: The error as a run would show it.
        cause: What the server or libpq said.
        settings: Whom it was that they tried to reach.
        service: Who runs the server, as far as one can tell.
    """
    role, database = identifier(settings.username), identifier(settings.database)
    wrong, _, advice = message.partition(": ")
    if "permission denied for database" in cause:
        fix = Fix("the database's owner", (f"GRANT CONNECT ON DATABASE {database} TO {role}",))
    elif "is not permitted to log in" in cause:
        wrong = f"role {settings.username} may not log in"
        fix = Fix(service.administrator, (f"ALTER ROLE {role} LOGIN",))
    elif "too many connections for role" in cause:
        wrong = f"role {settings.username} has all the connections open that it may"
        fix = Fix(service.administrator, (f"ALTER ROLE {role} CONNECTION LIMIT -1",))
    elif found := _NO_ENTRY.search(cause):
        address, _, _, encryption = found.groups()
        kind = "host" if encryption == "no encryption" else "hostssl"
        bits = 128 if ":" in address else 32
        wrong = f"the server's pg_hba.conf lets nobody in this way ({found[0][27:]})"
        line = f"{kind} {database} {role} {address}/{bits} scram-sha-256"
        add = f"add to pg_hba.conf the line {line}, and reload"
        fix = Fix("whoever runs the server", do=add)
        if settings.tls.mode == "disable":
            note = f"if it still does not: whoever runs the server has to {add}"
            fix = Fix("you", do="set airbyte_config.ssl_mode.mode to require", note=note)
    elif "password authentication failed" in cause or "does not exist" in cause:
        setup = "if there is no such role yet, the command setup makes it"
        fix = Fix("you", do=advice, note="" if "database" in wrong else setup)
    elif advice and not wrong.startswith("PostgreSQL says"):
        fix = Fix("you", do=advice, note=service.caveat)
    else:
        wrong, fix = message, Fix("you", do="look at the server's log", note=service.caveat)
    return Finding("connection", Status.ERROR, wrong, fix)


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
