"""Errors that end a run, each in one line that says what is wrong and what to do."""

import logging
import re
from typing import IO, Any, Final

import click
import psycopg

logger = logging.getLogger("tap-postgres-cdc")


class CaptureError(click.ClickException):
    """Something the user can mend. The command shows its line and exits with code 1."""

    def show(self, file: IO[Any] | None = None) -> None:  # noqa: ARG002 - click's signature
        """Log the line; with debug logging also where it came from."""
        logger.error(self.message, exc_info=self if logger.isEnabledFor(logging.DEBUG) else None)


class Interrupted(Exception):  # noqa: N818 - not an error
    """The run was asked to stop."""


def slot_lost(slot: str) -> CaptureError:
    """The server has removed WAL that the slot needed."""
    return CaptureError(
        f'replication slot "{slot}" is lost: the server has removed WAL it needed '
        "(max_slot_wal_keep_size or idle_replication_slot_timeout); drop it with "
        f"SELECT pg_drop_replication_slot('{slot}'), create it again with "
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput'), then run with "
        "--full-refresh"
    )


# What the server or libpq says, and what to tell the user, by the first pattern that is found.
_SLOT_LOST: Final = re.compile(
    r'(?:can no longer access|cannot read from logical) replication slot "([^"]+)"'
)
_ADVICE: Final[list[tuple[str, str]]] = [
    (
        r'replication slot "(?P<slot>[^"]+)" is active for PID (?P<pid>\d+)',
        (
            'replication slot "{slot}" is in use by process {pid} of the server: end the '
            "other run, or that process with SELECT pg_terminate_backend({pid}); each "
            "pipeline needs a slot of its own"
        ),
    ),
    (
        r'option "proto_version" = "1" is unknown',
        (
            "the replication slot was not made for pgoutput: set replication_slot to a "
            "slot created with SELECT pg_create_logical_replication_slot('<name>', "
            "'pgoutput')"
        ),
    ),
    (
        r'replication slot "(?P<slot>[^"]+)" does not exist',
        (
            'replication slot "{slot}" does not exist: create it with SELECT '
            "pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ),
    ),
    (
        r'publication "(?P<publication>[^"]+)" does not exist\s+CONTEXT:\s+slot "(?P<slot>[^"]+)"',
        (
            'publication "{publication}" did not exist when changes in the log were made, and '
            "before version 18 PostgreSQL can't read past them: "
            "SELECT pg_drop_replication_slot('{slot}'), then "
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput'), then run with "
            "--full-refresh"
        ),
    ),
    (
        r'publication "(?P<publication>[^"]+)" does not exist',
        (
            'publication "{publication}" does not exist: create it with CREATE PUBLICATION '
            '"{publication}" FOR TABLE … or correct the setting publication'
        ),
    ),
    (
        r'logical decoding requires "?wal_level"? >= "?logical"?',
        (
            "the server's wal_level is too low for change data capture: a superuser runs "
            "ALTER SYSTEM SET wal_level = 'logical' and restarts the server (managed "
            "services: a parameter and a reboot)"
        ),
    ),
    (
        (
            r"permission denied to (?:start WAL sender|use replication slots)|"
            r"must be superuser or replication role"
        ),
        (
            'user "{username}" may not replicate: a superuser runs ALTER ROLE "{username}" '
            'REPLICATION (Amazon RDS: GRANT rds_replication TO "{username}")'
        ),
    ),
    (
        r'row-level security policy for table "(?P<table>[^"]+)"',
        (
            'table "{table}" has row-level security, which would hide rows from the '
            'snapshot: a superuser runs ALTER ROLE "{username}" BYPASSRLS'
        ),
    ),
    (
        r"permission denied for (?:table|relation|view) (?P<table>\S+)",
        (
            'user "{username}" may not read table {table}: its owner runs GRANT SELECT ON '
            '{table} TO "{username}"'
        ),
    ),
    (
        r"permission denied for schema (?P<schema>\S+)",
        (
            'user "{username}" may not use schema {schema}: its owner runs GRANT USAGE ON '
            'SCHEMA {schema} TO "{username}"'
        ),
    ),
    (
        r'permission denied for database "?(?P<database>[^"\s]+)"?',
        (
            'user "{username}" may not connect to database {database}: its owner runs '
            'GRANT CONNECT ON DATABASE "{database}" TO "{username}"'
        ),
    ),
    (
        r"(?P<silence>the server has not answered for \S+ s)",
        (
            "{silence}: the server at {host}:{port} hangs, or something on the way to it took the "
            "connection away; run again, and if it stays look at the server's processes and its log"
        ),
    ),
    (
        r"canceling statement due to lock timeout",
        (
            "another session holds a lock on a table, with LOCK or ALTER TABLE: run again when it "
            "is over; SELECT pid, relation::regclass FROM pg_locks WHERE mode = "
            "'AccessExclusiveLock' says whose it is"
        ),
    ),
    (r"recovery is in progress", "the server is a standby: set host to the primary"),
    (
        r"password authentication failed|no password supplied|SCRAM authentication",
        'the server refused user "{username}": check the settings username and password',
    ),
    (
        r'role "(?P<role>[^"]+)" (?:does not exist|is not permitted to log in)',
        'role "{role}" may not log in or does not exist: check the setting username',
    ),
    (
        r'database "(?P<database>[^"]+)" does not exist',
        ('database "{database}" does not exist on {host}:{port}: check the setting database'),
    ),
    (
        r"expected authentication request from server|invalid response to SSL negotiation",
        "what answers at {host}:{port} is not PostgreSQL: check the settings host and port",
    ),
    (
        r"server does not support SSL",
        (
            "the server at {host}:{port} does not speak TLS: set ssl_mode.mode to disable "
            "or prefer, or turn ssl on at the server"
        ),
    ),
    (
        r"no pg_hba.conf entry for (?P<entry>[^\n]*)",
        (
            "the server's pg_hba.conf lets nobody in this way ({entry}): add a line there, "
            "or change ssl_mode.mode if the entry ends in an encryption the server does "
            "not want"
        ),
    ),
    (
        (
            r"(?P<reason>certificate verify failed|server certificate for [^\n]*|"
            r"root certificate file [^\n]*|does not match host name[^\n]*)"
        ),
        (
            "the certificate of {host}:{port} can't be trusted ({reason}): check "
            "ssl_mode.ca_certificate, and for verify-full that host is a name in the "
            "certificate"
        ),
    ),
    (
        (
            r"(?P<reason>could not load (?:client|private|certificate)[^\n]*|"
            r"certificate present, but not private key[^\n]*|private key file[^\n]*|"
            r"connection requires a valid client certificate[^\n]*|"
            r"could not read certificate[^\n]*|could not read root certificate[^\n]*)"
        ),
        (
            "a certificate or key can't be used ({reason}): check ssl_mode.ca_certificate, "
            "ssl_mode.client_certificate, ssl_mode.client_key and "
            "ssl_mode.client_key_password"
        ),
    ),
    (
        (
            r"(?P<reason>Connection refused|could not translate host name|"
            r"Name or service not known|failed to resolve host|timeout expired|"
            r"connection timeout expired|No route to host|Network is unreachable)"
        ),
        (
            "can't reach {host}:{port} ({reason}): check the settings host and port, and "
            "that the server lets this machine in"
        ),
    ),
    (
        (
            r"(?P<reason>server closed the connection unexpectedly|"
            r"terminating connection due to administrator command|"
            r"terminating walsender process[^\n]*|connection (?:not open|was lost|is closed)|"
            r"SSL connection has been closed unexpectedly|the database system is [^\n]*|"
            r"could not receive data from server[^\n]*|no COPY in progress)"
        ),
        (
            "the connection to {host}:{port} was lost ({reason}): run again, and look at "
            "the server's log if it happens again"
        ),
    ),
]


def explain(error: psycopg.Error, **settings: object) -> CaptureError:
    """Say an error of the server or of libpq in one line.

    Args:
        error: What was raised.
        settings: Values for the advice: host, port, username.
    """
    text = str(error)
    if found := _SLOT_LOST.search(text):
        return slot_lost(found[1])
    for pattern, advice in _ADVICE:
        if found := re.search(pattern, text):
            return CaptureError(advice.format(**settings, **found.groupdict()))
    return CaptureError("PostgreSQL says: " + "; ".join(text.split("\n")).strip())
