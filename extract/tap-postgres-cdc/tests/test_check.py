"""Each line of the check: one thing is broken on a real server, the advice is read and followed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from click.testing import CliRunner

from sandbox.postgres import Postgres
from tap_postgres_cdc.commands.administration import ADMIN_URL, administrator, run_as_role
from tap_postgres_cdc.commands.check import check
from tap_postgres_cdc.commands.cli import lag_command
from tap_postgres_cdc.commands.findings import Finding, Status, as_text
from tap_postgres_cdc.commands.inspection import Prepared, Server
from tap_postgres_cdc.commands.server_advice import check_prepared, check_version
from tap_postgres_cdc.commands.services import SERVICES
from tap_postgres_cdc.commands.statements import TableName, Wanted, setup
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import NewSource, Source

VERSIONS = pytest.mark.parametrize("version", ["18", "15"])


@dataclass
class Partner:
    """A database that is ready, with a role of the least rights and tables of another's."""

    source: Source
    role: str
    owner: str

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.source.sql(*statements)

    def as_owner(self, *statements: str) -> None:
        self.run_as(self.owner, statements)

    def run_as(self, role: str, statements: tuple[str, ...]) -> None:
        with self.source.connect() as connection:
            connection.execute(f'SET SESSION AUTHORIZATION "{role}"')
            for statement in statements:
                connection.execute(statement.encode())

    def prepare(self, *tables: str) -> None:
        """Let `setup` make what is missing."""
        settings = read_settings(self.source.config)
        connector = Connector(settings)
        wanted = Wanted("tables", tuple(TableName("public", table) for table in tables))
        if not tables:
            wanted = Wanted("all")
        os.environ[ADMIN_URL] = self.source.server.url.rpartition("/")[0]
        try:
            with administrator(settings, connector) as admin:
                assert admin
                service = admin.service()
                existing = admin.existing(service, settings.schemas)
                for statement in setup(settings, service, wanted, existing):
                    if statement.by_role:
                        run_as_role(connector, statement)
                    else:
                        admin.run(statement, service)
        finally:
            del os.environ[ADMIN_URL]

    def check(self) -> list[Finding]:
        settings = read_settings(self.source.config)
        return check(settings, Connector(settings), None)

    def line(self, name: str, subject: str | None = None) -> Finding:
        """The one line of that name."""
        findings = [
            finding
            for finding in self.check()
            if finding.check == name and subject in (None, finding.subject)
        ]
        assert len(findings) == 1, findings
        return findings[0]

    def follow(self, finding: Finding) -> None:
        """Do what the advice says, as whom it says."""
        assert finding.fix
        assert finding.fix.sql, finding
        by = finding.fix.by
        if by == f"the role {self.role}":
            settings = read_settings(self.source.config)
            with closing(Connector(settings).connect()) as connection:
                for statement in finding.fix.sql:
                    connection.execute(statement.encode())
        elif by in {"a superuser", "the database's owner"}:
            self.sql(*finding.fix.sql)
        else:
            self.run_as(by.removeprefix("the role ").split(",")[0], finding.fix.sql)

    def mend(self, name: str, status: Status, pattern: str, subject: str | None = None) -> Finding:
        """See the line broken, follow its advice, and see it right."""
        broken = self.line(name, subject)
        assert broken.status is status, broken
        assert pattern in broken.found, broken
        self.follow(broken)
        mended = self.line(name, subject)
        assert mended.status is Status.OK, mended
        return broken


def make_partner(source: Source) -> Partner:
    role, owner = f"{source.name[-40:]}_role", f"{source.name[-40:]}_owner"
    source.sql(
        f"CREATE ROLE {owner}",
        f"GRANT CREATE ON SCHEMA public TO {owner}",
        f"GRANT CREATE ON DATABASE {source.database} TO {owner}",
    )
    source.block |= {"username": role, "password": "s3cret-w0rd"}
    partner = Partner(source, role, owner)
    partner.as_owner(
        "CREATE TABLE votes (id int PRIMARY KEY, body text)",
        "INSERT INTO votes SELECT i, 'body ' || i FROM generate_series(1, 1000) i",
    )
    partner.sql("ANALYZE votes")
    return partner


@pytest.fixture
def partner(source: Source) -> Partner:
    """One on each version of PostgreSQL."""
    partner = make_partner(source)
    partner.prepare("votes")
    return partner


@pytest.fixture
def own_partner(own_source: NewSource) -> Callable[..., Partner]:
    """Makes one on a server of its own."""

    def new_partner(version: str, **options: Any) -> Partner:
        partner = make_partner(own_source(version, **options))
        partner.prepare("votes")
        return partner

    return new_partner


def test_ready_database_has_nothing_to_mend(partner: Partner) -> None:
    """What `setup` makes is what `check` wants; only the server's own setting is to be known."""
    findings = partner.check()
    assert {finding.check for finding in findings if finding.status is not Status.OK} == {
        "max_slot_wal_keep_size"
    }
    names = [finding.check for finding in findings]
    assert names[:2] == ["connection", "version"]
    assert {"tls", "primary", "read_only", "encoding", "wal_level", "replication"} <= set(names)
    assert {"publication", "operations", "usage", "select", "table", "first_copy"} <= set(names)
    assert {"slot", "slot_reader", "max_replication_slots", "max_wal_senders"} <= set(names)


def test_check_changes_nothing(partner: Partner) -> None:
    before = partner.sql(
        "SELECT to_jsonb(s) - 'safe_wal_size' FROM pg_replication_slots s ORDER BY slot_name"
    )
    partner.check()
    assert before == partner.sql(
        "SELECT to_jsonb(s) - 'safe_wal_size' FROM pg_replication_slots s ORDER BY slot_name"
    )


def test_database_without_anything_says_what_to_do_first(source: Source) -> None:
    partner = make_partner(source)
    partner.sql(f"CREATE ROLE {partner.role} LOGIN PASSWORD 's3cret-w0rd'")
    errors = [finding for finding in partner.check() if finding.status is Status.ERROR]
    assert [finding.check for finding in errors] == ["replication", "publication", "slot"]
    for finding in errors:
        partner.follow(finding)
    partner.follow(partner.line("select"))
    assert not [finding for finding in partner.check() if finding.status is Status.ERROR]


# The connection


def test_wrong_password(partner: Partner) -> None:
    partner.source.block["password"] = "wr0ng"
    (line,) = partner.check()
    assert line.status is Status.ERROR
    assert "refused user" in line.found
    assert "username and password" in as_text(line)
    assert "wr0ng" not in as_text(line)


def test_role_that_may_not_connect(partner: Partner) -> None:
    database = partner.source.database
    partner.sql(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC, {partner.role}")
    try:
        partner.mend("connection", Status.ERROR, "may not connect to database")
    finally:
        partner.sql(f"GRANT CONNECT ON DATABASE {database} TO PUBLIC")


def test_role_that_may_not_log_in(partner: Partner) -> None:
    partner.sql(f"ALTER ROLE {partner.role} NOLOGIN")
    partner.mend("connection", Status.ERROR, "may not log in")


@VERSIONS
def test_pg_hba_without_an_entry(own_partner: Callable[..., Partner], version: str) -> None:
    """The line that is to be added is added, and lets the role in."""
    partner = own_partner(version)
    file = partner.source.server.data / "pg_hba.conf"
    file.write_text("local all all trust\nhost all postgres 127.0.0.1/32 scram-sha-256\n")
    partner.sql("SELECT pg_reload_conf()")
    wait_until(lambda: partner.check()[0].status is Status.ERROR)
    (broken,) = partner.check()
    assert "pg_hba.conf lets nobody in" in broken.found
    assert broken.fix
    line = broken.fix.do.partition(" the line ")[2].partition(", and reload")[0]
    with file.open("a") as text:
        text.write(f"{line}\n")
    partner.sql("SELECT pg_reload_conf()")
    wait_until(lambda: partner.line("connection").status is Status.OK)


# The server


@VERSIONS
def test_wal_level(own_partner: Callable[..., Partner], version: str) -> None:
    """Too low, then changed but not in force, then right."""
    partner = own_partner(version)
    server = partner.source.server
    partner.sql(f"SELECT pg_drop_replication_slot('{partner.source.slot}')")
    server.settings = {"wal_level": "replica"}
    server.restart()
    low = partner.line("wal_level")
    assert low.status is Status.ERROR
    assert low.found == "wal_level is replica, but has to be logical"
    partner.follow(low)
    partner.sql("SELECT pg_reload_conf()")
    wait_until(lambda: "was not restarted since" in partner.line("wal_level").found)
    pending = partner.line("wal_level")
    assert pending.status is Status.ERROR
    assert pending.fix
    assert "restart the server" in pending.fix.do
    server.restart()
    assert partner.line("wal_level").status is Status.OK


@VERSIONS
def test_slots_and_senders_run_out(own_partner: Callable[..., Partner], version: str) -> None:
    partner = own_partner(version)
    server = partner.source.server
    partner.sql(f"SELECT pg_drop_replication_slot('{partner.source.slot}')")
    server.settings = {"max_replication_slots": "1", "max_wal_senders": "1"}
    server.restart()
    partner.sql("SELECT pg_create_physical_replication_slot('other')")
    with closing(psycopg.connect(server.url, replication="database", autocommit=True)) as sender:
        sender.execute("IDENTIFY_SYSTEM")
        slots, senders = partner.line("max_replication_slots"), partner.line("max_wal_senders")
        assert [slots.status, senders.status] == [Status.ERROR, Status.ERROR]
        assert "replication slots taken: 1 of 1" in slots.found
        assert "nobody reads other" in as_text(slots)
        assert "WAL senders running: 1 of 1" in senders.found
    partner.follow(slots)
    partner.follow(senders)
    server.restart()
    assert partner.line("max_replication_slots").status is Status.OK
    assert partner.line("max_wal_senders").status is Status.OK
    assert partner.line("replication").status is Status.OK


@contextmanager
def standby_of(server: Postgres) -> Iterator[Postgres]:
    """A copy of a server that waits for WAL which never comes."""
    server.stop()
    standby = Postgres(server.programs, Path(tempfile.mkdtemp(prefix="pg-")))
    try:
        subprocess.run(["cp", "-a", server.data, standby.data], check=True)
        shutil.copystat(server.folder, standby.folder)
        stat = server.folder.stat()
        os.chown(standby.folder, stat.st_uid, stat.st_gid)
        (standby.data / "standby.signal").touch()
        (standby.data / "postmaster.pid").unlink(missing_ok=True)
        server.start()
        standby.start()
        yield standby
    finally:
        standby.remove()


@VERSIONS
def test_standby(
    own_partner: Callable[..., Partner], version: str, caplog: pytest.LogCaptureFixture
) -> None:
    partner = own_partner(version)
    with standby_of(partner.source.server) as standby:
        partner.source.block["port"] = standby.port
        line = partner.line("primary")
        assert line.status is Status.ERROR
        assert line.fix
        assert line.fix.do == "set airbyte_config.host to the primary"
        result = CliRunner().invoke(lag_command, obj=lambda: read_settings(partner.source.config))
        assert result.exit_code == 1
        assert "the server is a standby" in caplog.text
    del partner.source.block["port"]
    assert partner.line("primary").status is Status.OK


def test_read_only_database(partner: Partner) -> None:
    database = partner.source.database
    partner.sql(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    broken = partner.line("read_only")
    assert broken.status is Status.WARNING
    with partner.source.connect(options="-c default_transaction_read_only=off") as connection:
        assert broken.fix
        connection.execute(broken.fix.sql[0].encode())
    assert partner.line("read_only").status is Status.OK


def test_read_only_role_can_do_all_that_is_needed(partner: Partner) -> None:
    partner.sql(f"ALTER ROLE {partner.role} SET default_transaction_read_only = on")
    assert partner.line("read_only").status is Status.OK
    assert len(partner.source.run().records("votes")) == 1000
    partner.as_owner("INSERT INTO votes VALUES (0)")
    assert len(partner.source.run().records("votes")) == 1


def test_timeouts_that_are_overridden_are_named(partner: Partner) -> None:
    assert partner.line("timeouts").status is Status.OK
    partner.sql(f"ALTER ROLE {partner.role} SET statement_timeout = '30s'")
    line = partner.line("timeouts")
    assert line.status is Status.WARNING
    assert "statement_timeout = 30000ms" in line.found
    assert "the tap's own sessions have statement_timeout = 0" in line.found


def test_encoding_that_is_none(partner: Partner) -> None:
    with partner.source.server.connect() as connection:
        connection.execute(
            "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0"
        )
    partner.source.block["database"] = "ascii"
    line = partner.line("encoding")
    assert line.status is Status.WARNING
    assert "text that is not UTF-8 gets U+FFFD" in line.found


def test_slot_for_two_phase_commits(partner: Partner) -> None:
    slot = partner.source.slot
    partner.sql(
        f"SELECT pg_drop_replication_slot('{slot}')",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput', false, true)",
    )
    line = partner.line("slot")
    assert line.status is Status.ERROR
    assert "was made with two_phase" in line.found
    assert line.fix
    partner.sql(*line.fix.sql)
    assert partner.line("slot").status is Status.OK


def test_prepared_transaction_that_is_left_over() -> None:
    old = Prepared("it's", "app", "shop", 3600)
    facts = dict.fromkeys(Server._fields) | {"prepared": [old, Prepared("new", "app", "shop", 1)]}
    (line,) = check_prepared(Server(**facts))  # type: ignore[arg-type]
    assert line.status is Status.WARNING
    assert "prepared transaction it's of app in database shop" in line.found
    assert line.fix
    assert line.fix.sql == ("ROLLBACK PREPARED 'it''s'",)


def test_version_that_is_too_old() -> None:
    """There is no such server to start here."""
    facts = dict.fromkeys(Server._fields) | {"version": 140005, "version_text": "14.5"}
    line = check_version(Server(**facts))  # type: ignore[arg-type]
    assert line.status is Status.ERROR
    assert line.found == "PostgreSQL 14.5 is older than 15"


def test_parameters_of_a_managed_service_are_set_in_its_console(partner: Partner) -> None:
    settings = read_settings(partner.source.config)
    lines = {
        service: next(
            finding
            for finding in check(settings, Connector(settings), SERVICES[service])
            if finding.check == "max_slot_wal_keep_size"
        )
        for service in SERVICES
    }
    assert "ALTER SYSTEM" in as_text(lines["plain"])
    assert "in the parameter group of the instance" in as_text(lines["rds"])
    assert "in the flags of the instance" in as_text(lines["cloud-sql"])
    assert "does not let the setting be changed" in as_text(lines["azure"])
    for service, line in lines.items():
        assert line.status is Status.WARNING
        assert bool(line.fix and line.fix.sql) == (service == "plain")


# The role


def test_role_without_replication(partner: Partner) -> None:
    partner.sql(f"ALTER ROLE {partner.role} NOREPLICATION")
    broken = partner.mend("replication", Status.ERROR, "may not replicate")
    assert broken.fix == ("a superuser", (f'ALTER ROLE "{partner.role}" REPLICATION',), "", "")


def test_role_that_is_superuser(partner: Partner) -> None:
    partner.sql(f"ALTER ROLE {partner.role} SUPERUSER")
    line = partner.line("superuser")
    assert line.status is Status.WARNING
    assert "with setup" in as_text(line)
    partner.sql(f"ALTER ROLE {partner.role} NOSUPERUSER")
    assert partner.line("superuser").status is Status.OK


def test_role_with_too_few_connections(partner: Partner) -> None:
    partner.sql(f"ALTER ROLE {partner.role} CONNECTION LIMIT 3")
    partner.mend("connection_limit", Status.ERROR, "may open 3 connections, a run opens 4")


def test_password_that_expires(partner: Partner) -> None:
    soon = datetime.now(UTC) + timedelta(days=9)
    partner.sql(f"ALTER ROLE {partner.role} VALID UNTIL '{soon:%Y-%m-%d}'")
    partner.mend("password", Status.WARNING, f"expires on {soon:%Y-%m-%d}")


# The publication


def test_missing_publication(partner: Partner) -> None:
    partner.sql("DROP PUBLICATION oso_publication")
    partner.mend("publication", Status.ERROR, "publication oso_publication does not exist")


def test_publication_without_tables(partner: Partner) -> None:
    partner.sql("ALTER PUBLICATION oso_publication DROP TABLE votes")
    partner.sql(f"ALTER PUBLICATION oso_publication OWNER TO {partner.owner}")
    partner.mend("publication", Status.ERROR, "holds no table of schema public")


def test_schema_that_does_not_exist(partner: Partner) -> None:
    partner.source.block["schemas"] = ["public", "nowhere"]
    line = partner.line("schema")
    assert line.found == "schema nowhere does not exist"
    assert "airbyte_config.schemas" in as_text(line)


def test_operations_that_are_left_out(partner: Partner) -> None:
    partner.sql("ALTER PUBLICATION oso_publication SET (publish = 'insert, update')")
    partner.mend("operations", Status.WARNING, "leaves out delete, truncate")


def test_tables_that_are_not_published_are_listed(partner: Partner) -> None:
    partner.as_owner("CREATE TABLE more (id int PRIMARY KEY)")
    assert "not captured: public.more" in partner.line("unpublished").found


def test_names_that_clash_are_told(partner: Partner) -> None:
    partner.sql("ALTER TABLE votes ADD _ab_cdc_lsn int")
    line = partner.line("streams")
    assert line.status is Status.ERROR
    assert "_ab_cdc_lsn" in line.found


# The privileges


def test_schema_that_may_not_be_used(partner: Partner) -> None:
    partner.sql(
        f"CREATE SCHEMA hidden AUTHORIZATION {partner.owner}",
        "CREATE TABLE hidden.t (id int PRIMARY KEY)",
        f"ALTER TABLE hidden.t OWNER TO {partner.owner}",
        f"GRANT SELECT ON hidden.t TO {partner.role}",
        "ALTER PUBLICATION oso_publication ADD TABLE hidden.t",
    )
    partner.source.block["schemas"] = ["public", "hidden"]
    partner.mend("usage", Status.ERROR, "may not use schema hidden", "hidden")
    assert partner.line("select").status is Status.OK


def test_table_that_may_not_be_read(partner: Partner) -> None:
    """One of many, and a partition: the statement names just these."""
    partner.as_owner(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        f"GRANT SELECT ON parted TO {partner.role}",
    )
    partner.sql("ALTER PUBLICATION oso_publication ADD TABLE a, parted")
    broken = partner.mend("select", Status.ERROR, "may not read public.a, public.parted_1")
    assert broken.fix
    assert broken.fix.sql == (
        f'GRANT SELECT ON "public"."a", "public"."parted_1" TO "{partner.role}"',
    )
    partner.source.run()


def test_column_that_may_not_be_read(partner: Partner) -> None:
    partner.sql(
        f"REVOKE SELECT ON votes FROM {partner.role}",
        f"GRANT SELECT (id) ON votes TO {partner.role}",
    )
    partner.mend("select", Status.ERROR, "may not read public.votes")


def test_row_level_security(partner: Partner) -> None:
    partner.as_owner("ALTER TABLE votes ENABLE ROW LEVEL SECURITY")
    partner.mend("row_security", Status.ERROR, "would hide rows of public.votes")
    partner.source.run()


# The tables


def publish(partner: Partner, table: str, *definition: str, options: str = "") -> None:
    """Make a table of the owner's and publish it."""
    partner.as_owner(f"CREATE TABLE {table} ({definition[0]})", *definition[1:])
    partner.sql(
        f"GRANT SELECT ON {table} TO {partner.role}",
        f"ALTER PUBLICATION oso_publication ADD TABLE {table} {options}",
    )


def fails_at_the_source(partner: Partner, statement: str) -> None:
    """Breaking it is no invention: PostgreSQL refuses."""
    with pytest.raises(psycopg.Error):
        partner.as_owner(statement)


def test_table_without_key(partner: Partner) -> None:
    publish(partner, "t", "n int", "INSERT INTO t VALUES (1)")
    fails_at_the_source(partner, "UPDATE t SET n = 2")
    partner.mend("table", Status.ERROR, "no usable key: updates and deletes fail", "public.t")
    partner.as_owner("UPDATE t SET n = 2")


def test_table_without_key_but_a_unique_index(partner: Partner) -> None:
    publish(partner, "t", "n int NOT NULL UNIQUE", "INSERT INTO t VALUES (1)")
    broken = partner.mend("table", Status.ERROR, "no usable key", "public.t")
    assert "REPLICA IDENTITY USING INDEX" in as_text(broken)
    partner.as_owner("UPDATE t SET n = 2")


def test_table_with_a_deferrable_key(partner: Partner) -> None:
    publish(partner, "t", "n int PRIMARY KEY DEFERRABLE", "INSERT INTO t VALUES (1)")
    fails_at_the_source(partner, "DELETE FROM t")
    partner.mend("table", Status.ERROR, "no usable key", "public.t")
    partner.as_owner("DELETE FROM t")


def test_table_whose_identity_is_full_has_no_key_for_the_loader(partner: Partner) -> None:
    publish(partner, "t", "n int", "ALTER TABLE t REPLICA IDENTITY FULL")
    partner.mend("table", Status.WARNING, "records are appended", "public.t")


def test_table_whose_identity_is_nothing(partner: Partner) -> None:
    publish(partner, "t", "n int PRIMARY KEY", "ALTER TABLE t REPLICA IDENTITY NOTHING")
    partner.as_owner("INSERT INTO t VALUES (1)")
    fails_at_the_source(partner, "UPDATE t SET n = 2")
    partner.mend("table", Status.ERROR, "REPLICA IDENTITY NOTHING", "public.t")
    partner.as_owner("UPDATE t SET n = 2")


def test_column_list_without_the_key(partner: Partner) -> None:
    publish(partner, "t", "a int PRIMARY KEY, b int, c int", options="(b)")
    partner.as_owner("INSERT INTO t VALUES (1, 1, 1)")
    fails_at_the_source(partner, "UPDATE t SET b = 2")
    partner.mend("table", Status.ERROR, "the column list lacks a", "public.t")
    partner.as_owner("UPDATE t SET b = 2")
    assert "the column list leaves out c" in partner.line("table", "public.t").found


def test_column_list_with_full_identity(partner: Partner) -> None:
    publish(partner, "t", "a int PRIMARY KEY, b int", options="(a)")
    partner.as_owner("INSERT INTO t VALUES (1, 1)", "ALTER TABLE t REPLICA IDENTITY FULL")
    fails_at_the_source(partner, "UPDATE t SET b = 2")
    partner.mend("table", Status.ERROR, "does not go with REPLICA IDENTITY FULL", "public.t")
    partner.as_owner("UPDATE t SET b = 2")


def test_row_filter_on_other_columns_than_the_key(partner: Partner) -> None:
    publish(partner, "t", "a int PRIMARY KEY, b int", options="WHERE (b > 0 AND a > 0)")
    partner.as_owner("INSERT INTO t VALUES (1, 1)")
    fails_at_the_source(partner, "UPDATE t SET b = 2")
    partner.mend("table", Status.ERROR, "the row filter reads b", "public.t")
    partner.as_owner("UPDATE t SET b = 2")
    assert "only rows where ((b > 0) AND (a > 0))" in partner.line("table", "public.t").found


def test_partitions_that_become_tables_of_their_own(partner: Partner) -> None:
    partner.sql("ALTER PUBLICATION oso_publication SET (publish_via_partition_root = false)")
    partner.as_owner(
        "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        f"GRANT SELECT ON parted_1 TO {partner.role}",
    )
    partner.sql("ALTER PUBLICATION oso_publication ADD TABLE parted")
    broken = partner.line("table", "public.parted_1")
    assert broken.status is Status.WARNING
    assert "becomes a table of its own" in broken.found
    partner.sql(f"ALTER PUBLICATION oso_publication OWNER TO {partner.owner}")
    partner.follow(broken)
    assert partner.line("table", "public.parted").status is Status.OK


def test_partition_on_another_server(partner: Partner) -> None:
    partner.sql(
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "ALTER TABLE parted REPLICA IDENTITY FULL",
        *foreign("FOREIGN TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20)"),
        f"GRANT SELECT ON parted TO {partner.role}",
    )
    try:
        partner.sql("ALTER PUBLICATION oso_publication ADD TABLE parted")
        line = partner.line("table", "public.parted")
        assert "partitions on another server are left out: public.parted_2" in line.found
    finally:
        partner.sql("DROP FOREIGN DATA WRAPPER elsewhere CASCADE")


def test_tables_that_no_publication_can_hold(source: Source) -> None:
    """With every table published one may think that these are, too."""
    partner = make_partner(source)
    partner.as_owner("CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY)")
    partner.sql(*foreign("FOREIGN TABLE distant (id int)"))
    partner.prepare()
    try:
        assert "is a foreign table" in partner.line("left_out", "public.distant").found
        unlogged = partner.line("left_out", "public.fleeting")
        assert unlogged.status is Status.WARNING
        assert "its changes are in no log" in unlogged.found
        partner.follow(unlogged)
        assert partner.line("table", "public.fleeting").status is Status.OK
    finally:
        partner.sql("DROP FOREIGN DATA WRAPPER elsewhere CASCADE")


def foreign(table: str) -> list[str]:
    return [
        "CREATE FOREIGN DATA WRAPPER elsewhere",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere",
        f"CREATE {table} SERVER elsewhere",
    ]


def test_what_else_to_know_of_a_table(partner: Partner) -> None:
    publish(
        partner,
        "t",
        "id int PRIMARY KEY, body text, double int GENERATED ALWAYS AS (id * 2) STORED",
        "ALTER TABLE t ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT i, repeat('x', 10000) FROM generate_series(1, 100) i",
        "ANALYZE t",
    )
    line = partner.line("table", "public.t")
    assert line.status is Status.OK
    assert "public.t: about 100 rows, " in line.found
    assert "can hold large values: body" in line.found
    assert "generated columns are not published: double" in line.found
    assert line.details["rows"] == 100
    assert line.details["bytes"] > 1_000_000
    assert line.details["key"] == ["id"]


def test_first_copy_is_estimated_by_copying_some_of_it(partner: Partner) -> None:
    line = partner.line("first_copy")
    assert "reads about 1,000 rows" in line.found
    assert "public.votes was just read at " in line.found
    assert line.details["bytes_per_second"] > 0


def test_first_copy_says_what_it_holds_and_for_how_long(partner: Partner) -> None:
    partner.source.options |= {"snapshot_minutes": 5, "max_rows_per_second": 100}
    assert partner.line("first_copy").found.endswith(
        ", but max_rows_per_second lets through no more than about 100 rows/s"
    )
    line = partner.line("first_copy_holds")
    assert "in ranges of seconds, under ACCESS SHARE" in line.found
    assert line.found.endswith("for no more than 5 min 00 s at a time (snapshot_minutes)")
    partner.as_owner("CREATE TABLE log (n int)", "INSERT INTO log VALUES (1)")
    partner.sql(
        "ALTER PUBLICATION oso_publication ADD TABLE log", f"GRANT SELECT ON log TO {partner.role}"
    )
    without_key = (
        "while it copies public.log, without a key, as long as that takes: up to about 1 s"
    )
    assert without_key in partner.line("first_copy_holds").found


# The slot


def test_missing_slot(partner: Partner) -> None:
    partner.sql(f"SELECT pg_drop_replication_slot('{partner.source.slot}')")
    partner.mend("slot", Status.ERROR, "does not exist")


def test_physical_slot(partner: Partner) -> None:
    slot = partner.source.slot
    partner.sql(
        f"SELECT pg_drop_replication_slot('{slot}')",
        f"SELECT pg_create_physical_replication_slot('{slot}')",
    )
    partner.mend("slot", Status.ERROR, "is physical, not for pgoutput")


def test_slot_of_another_database(partner: Partner) -> None:
    with partner.source.server.connect() as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('far', 'pgoutput')")
    partner.source.slot = "far"
    line = partner.line("slot")
    assert line.found == f"slot far belongs to database postgres, not to {partner.source.database}"
    assert "replication_slot" in as_text(line)


def test_slot_that_someone_else_reads(partner: Partner) -> None:
    settings = {"options": "-c wal_sender_timeout=0", "application_name": "another consumer"}
    with closing(
        psycopg.connect(
            partner.source.server.url,
            dbname=partner.source.database,
            replication="database",
            autocommit=True,
            **settings,  # type: ignore[arg-type]
        )
    ) as other:
        command = f"START_REPLICATION SLOT {partner.source.slot} LOGICAL 0/0 (proto_version '1', "
        other.pgconn.send_query(f"{command}publication_names 'oso_publication')".encode())
        wait_until(lambda: partner.line("slot_reader").status is not Status.OK)
        broken = partner.line("slot_reader")
        assert broken.status is Status.ERROR
        assert "is being read by process" in broken.found
        partner.follow(broken)
        wait_until(lambda: partner.line("slot_reader").status is Status.OK)


def test_slot_that_a_run_reads(partner: Partner) -> None:
    """A run in progress is nothing to mend."""
    settings = read_settings(partner.source.config)
    with closing(Connector(settings).connect_to_replicate()) as run:
        command = f"START_REPLICATION SLOT {partner.source.slot} LOGICAL 0/0 (proto_version '1', "
        run.pgconn.send_query(f"{command}publication_names 'oso_publication')".encode())
        wait_until(lambda: partner.line("slot_reader").status is not Status.OK)
        line = partner.line("slot_reader")
        assert line.status is Status.WARNING
        assert "a run of this tap since" in line.found


@VERSIONS
def test_slot_retention(own_partner: Callable[..., Partner], version: str) -> None:
    """Unlimited, then bounded, then nearly used up, then lost."""
    partner = own_partner(version)
    partner.mend("max_slot_wal_keep_size", Status.WARNING, "unlimited")
    partner.source.server.configure(max_slot_wal_keep_size="64MB")
    wait_until(lambda: "is 64.0 MiB" in partner.line("max_slot_wal_keep_size").found)

    def write(segments: int) -> None:
        for _ in range(segments):
            partner.sql("SELECT pg_switch_wal()", "INSERT INTO votes SELECT -count(*) FROM votes")

    write(4)
    partner.mend("max_slot_wal_keep_size", Status.WARNING, "of it left")
    partner.source.server.configure(max_slot_wal_keep_size="1MB")
    write(4)
    partner.sql("CHECKPOINT")
    broken = partner.mend("slot", Status.ERROR, "is lost")
    assert broken.fix
    assert broken.fix.do == "run the pipeline with --full-refresh"


def test_slot_that_idles_too_long(own_partner: Callable[..., Partner]) -> None:
    """The setting is new in PostgreSQL 18."""
    partner = own_partner("18")
    assert partner.line("idle_replication_slot_timeout").found.endswith("is off")
    partner.source.server.configure(idle_replication_slot_timeout="1h")
    wait_until(lambda: partner.line("idle_replication_slot_timeout").status is Status.WARNING)
    partner.mend("idle_replication_slot_timeout", Status.WARNING, "is 1 h 00 min")


def wait_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    while not holds():
        assert datetime.now(UTC) < deadline
        threading.Event().wait(0.1)
