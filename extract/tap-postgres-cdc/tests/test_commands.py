"""Setting up, watching and leaving a database with the commands, on real servers."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tap_postgres_cdc.commands import backlog
from tap_postgres_cdc.commands.administration import ADMIN_URL
from tap_postgres_cdc.commands.cli import (
    check_command,
    lag_command,
    setup_command,
    teardown_command,
)
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.replication import start_replication
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import click
    from conftest import NewSource, Source

SECRET = "s3cret-w0rd"  # of roles that only the tests' servers know
VERSIONS = pytest.mark.parametrize("version", ["18", "15"])


class Commands:
    """The commands with the settings of a source, run in this process."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def invoke(self, command: click.Command, *arguments: str) -> Result:
        return CliRunner().invoke(command, arguments, obj=lambda: read_settings(self.source.config))

    def run(self, command: click.Command, *arguments: str, code: int = 0) -> str:
        """Run a command and check its exit code; gives what it printed."""
        result = self.invoke(command, *arguments)
        assert result.exit_code == code, (result.output, result.exception)
        assert SECRET not in result.output
        return result.output

    def lag(self) -> dict[str, Any]:
        return dict(json.loads(self.run(lag_command, "--format", "json")))

    def check(self) -> dict[str, Any]:
        result = self.invoke(check_command, "--format", "json")
        found: dict[str, Any] = json.loads(result.output)
        assert result.exit_code == (0 if found["ready"] else 1)
        return found


@pytest.fixture
def commands(source: Source, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Of a database with tables, and an administrator's connection in the environment."""
    source.sql(
        "CREATE TABLE votes (id int PRIMARY KEY, name text)",
        "INSERT INTO votes SELECT i, 'n' || i FROM generate_series(1, 100) i",
        "CREATE TABLE other (id int PRIMARY KEY)",
    )
    source.block |= {"username": f"{source.name[-40:]}_role", "password": SECRET}
    monkeypatch.setenv(ADMIN_URL, source.server.url.rpartition("/")[0])
    return Commands(source)


# setup


def test_setup_makes_what_a_run_needs_and_no_more(commands: Commands) -> None:
    source = commands.source
    output = commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    assert "PASSWORD '<password>'" in output
    assert commands.check()["ready"]
    assert len(source.run().records("votes")) == 100
    role = source.block["username"]
    attributes = "rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication"
    assert source.sql(f"SELECT {attributes} FROM pg_roles WHERE rolname = '{role}'") == [
        (False, False, False, False, True)
    ]
    assert source.sql(
        "SELECT table_name, privilege_type FROM information_schema.role_table_grants"
        f" WHERE grantee = '{role}'"
    ) == [("votes", "SELECT")]


def test_printed_setup_can_be_run_by_an_administrator(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a connection, all that an administrator has to fill in stands in angle brackets."""
    monkeypatch.delenv(ADMIN_URL)
    script = commands.run(setup_command)
    placeholders = set(re.findall(r"<[^>]+>", script.replace("in <>", "")))
    assert placeholders == {"<password>", "<owner of the tables>"}
    script = script.replace("<password>", SECRET).replace("<owner of the tables>", "postgres")
    with commands.source.connect() as connection:
        for statement in re.sub("--[^\n]*", "", script).split(";"):
            connection.execute(statement.encode())
    assert commands.check()["ready"]


def test_setup_of_whole_schemas_covers_tables_to_come(commands: Commands) -> None:
    source = commands.source
    commands.run(setup_command, "--apply", "--yes")
    source.run()
    source.sql("CREATE TABLE later (id int PRIMARY KEY)", "INSERT INTO later VALUES (1)")
    assert len(source.run().records("later")) == 1
    assert commands.check()["ready"]


def test_setup_of_all_tables(commands: Commands) -> None:
    commands.run(setup_command, "--all-tables", "--apply", "--yes")
    assert commands.check()["ready"]
    assert {message["stream"] for message in commands.source.run().of("SCHEMA")} == {
        "votes",
        "other",
    }


@pytest.mark.parametrize("options", [("--table", "votes"), (), ("--all-tables",)])
def test_second_setup_has_nothing_to_do(commands: Commands, options: tuple[str, ...]) -> None:
    commands.run(setup_command, *options, "--apply", "--yes")
    assert commands.run(setup_command, *options, "--apply", "--yes") == "-- Nothing is missing.\n"


def test_setup_lets_partitions_be_read(commands: Commands) -> None:
    source = commands.source
    source.sql(
        "CREATE SCHEMA parts",
        "CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE parts.parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10)",
        "INSERT INTO parted VALUES (1)",
    )
    commands.run(setup_command, "--table", "parted", "--apply", "--yes")
    assert commands.check()["ready"]
    assert len(source.run().records("parted")) == 1


def test_names_of_any_kind_are_quoted(commands: Commands) -> None:
    source = commands.source
    source.publication = 'Odd "publication'
    source.block |= {"username": 'odd "role', "schemas": ["Odd schema"]}
    source.sql(
        'CREATE ROLE "odd ""owner"',
        'CREATE SCHEMA "Odd schema" AUTHORIZATION "odd ""owner"',
        'CREATE TABLE "Odd schema"."odd ""table" ("odd ""id" int)',
        'ALTER TABLE "Odd schema"."odd ""table" OWNER TO "odd ""owner"',
    )
    commands.run(setup_command, "--apply", "--yes")
    (line,) = [line for line in commands.check()["findings"] if line["status"] == "error"]
    with source.connect() as connection:
        connection.execute('SET SESSION AUTHORIZATION "odd ""owner"')
        for statement in line["fix"]["sql"]:
            connection.execute(statement.encode())
    assert commands.check()["ready"]
    assert commands.run(setup_command, "--apply", "--yes") == "-- Nothing is missing.\n"
    source.run()
    assert commands.lag()["lag_seconds"] == 0
    commands.run(teardown_command, "--yes")
    source.sql('DROP SCHEMA "Odd schema" CASCADE', 'DROP ROLE "odd ""owner"')


def test_setup_of_another_table_adds_just_that(commands: Commands) -> None:
    source = commands.source
    commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    output = commands.run(setup_command, "--table", "public.other", "--apply", "--yes")
    statements = [line for line in output.splitlines() if line.endswith(";")]
    assert statements == [
        f'GRANT SELECT ON "public"."other" TO "{source.block["username"]}";',
        'ALTER PUBLICATION "oso_publication" ADD TABLE "public"."other";',
    ]
    assert commands.check()["ready"]


def test_setup_goes_on_where_it_was_interrupted(commands: Commands) -> None:
    source = commands.source
    source.sql(f"CREATE ROLE {source.block['username']} LOGIN PASSWORD '{SECRET}'")
    output = commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    assert "CREATE ROLE" not in output
    assert f'ALTER ROLE "{source.block["username"]}" REPLICATION;' in output
    assert commands.check()["ready"]


def test_setup_names_a_table_that_does_not_exist(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    commands.run(setup_command, "--table", "nothing", "--apply", "--yes", code=1)
    assert "table public.nothing does not exist" in caplog.text
    commands.run(setup_command, "--table", "elsewhere.t", "--apply", "--yes", code=1)
    assert "add it to the setting airbyte_config.schemas" in caplog.text


def test_setup_without_a_terminal_wants_to_be_told(
    commands: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    commands.run(setup_command, "--apply", code=1)
    assert "add --yes" in caplog.text
    assert commands.source.sql("SELECT count(*) FROM pg_publication") == [(0,)]


def test_setup_without_an_administrator_says_where_to_put_one(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ADMIN_URL)
    commands.run(setup_command, "--apply", "--yes", code=1)
    assert f"set {ADMIN_URL} to postgresql://" in caplog.text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://postgres:{SECRET}@/", "refused user"),
        (f"nonsense {SECRET}", "does not name a user"),
        (f"postgresql://postgres:{SECRET}@/elsewhere", "is for database elsewhere"),
    ],
)
def test_administrator_that_can_not_connect(
    commands: Commands,
    url: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(ADMIN_URL, url)
    commands.run(setup_command, "--apply", "--yes", code=1)
    assert f"{ADMIN_URL}" in caplog.text
    assert expected in caplog.text
    assert SECRET not in caplog.text


def test_password_reaches_the_server_hashed(commands: Commands) -> None:
    """So it is in no log and no view of running statements, whatever the server logs."""
    source = commands.source
    source.sql("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()")
    time.sleep(0.5)
    try:
        commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    finally:
        source.sql("ALTER SYSTEM RESET log_statement", "SELECT pg_reload_conf()")
    log = source.server.log.read_text(errors="replace")
    assert 'CREATE ROLE "' in log
    assert "SCRAM-SHA-256$" in log
    assert SECRET not in log


@VERSIONS
def test_setup_leaves_the_slot_for_after_the_restart(
    own_source: NewSource,
    version: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = own_source(version, settings={"wal_level": "replica"})
    source.sql("CREATE TABLE votes (id int PRIMARY KEY)")
    source.block |= {"username": "oso", "password": SECRET}
    monkeypatch.setenv(ADMIN_URL, source.server.url.rpartition("/")[0])
    commands = Commands(source)
    commands.run(setup_command, "--apply", "--yes", code=1)
    assert "the slot has to wait: wal_level is replica" in caplog.text
    source.server.settings = {}
    source.server.restart()
    output = commands.run(setup_command, "--apply", "--yes")
    assert [line for line in output.splitlines() if line.endswith(";")] == [
        f"SELECT pg_create_logical_replication_slot('{source.slot}', 'pgoutput');"
    ]
    assert commands.check()["ready"]


def ask(source: Source, command: str, answers: str) -> tuple[str, int]:
    """Run a command on a terminal."""
    ours, theirs = pty.openpty()
    process = source.start(*command.split(), stdin=theirs)
    os.write(ours, answers.encode())
    stdout, stderr = process.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    return stdout.decode() + stderr.decode(), process.returncode


def test_setup_asks_before_each_statement(commands: Commands) -> None:
    source = commands.source
    output, code = ask(source, "setup --table votes --apply", "y\ny\ny\ny\ny\nn\n")
    assert code == 0
    assert output.count("Run it?") == 6
    assert output.count("-- left out") == 1
    assert source.sql("SELECT count(*) FROM pg_publication") == [(1,)]
    assert source.sql("SELECT count(*) FROM pg_replication_slots") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_setup_that_is_stopped_leaves_no_slot_that_nobody_reads(
    commands: Commands, number: signal.Signals
) -> None:
    """A transaction that is running holds the making of the slot up."""
    source = commands.source
    with closing(source.connect(autocommit=False)) as other:
        other.execute("INSERT INTO votes VALUES (101)")
        process = source.start("setup", "--table", "votes", "--apply", "--yes")
        slots = "SELECT count(*) FROM pg_replication_slots"
        wait_until(lambda: source.sql(slots) == [(1,)])
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
        assert process.returncode
        assert b"Traceback" not in log
        wait_until(lambda: source.sql(slots) == [(0,)])
    commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    assert commands.check()["ready"]


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# Managed services


@pytest.mark.parametrize(
    ("service", "marker", "expected", "unexpected"),
    [
        ("rds", "rds_superuser", "GRANT rds_replication TO", "LOGIN REPLICATION"),
        ("cloud-sql", "cloudsqlsuperuser", "cloudsql.logical_decoding to on", "ALTER SYSTEM"),
        ("azure", "azure_pg_admin", "set wal_level to logical", "ALTER SYSTEM"),
        ("supabase", "supabase_admin", "the role postgres", "ALTER SYSTEM"),
    ],
)
def test_service_is_told_by_flag_or_by_its_roles(
    commands: Commands,
    service: str,
    marker: str,
    expected: str,
    unexpected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what differs is different."""
    source = commands.source
    try:
        source.sql(f"CREATE ROLE {marker}")
        found = commands.run(setup_command, "--table", "votes")
    finally:
        source.sql(f"DROP ROLE {marker}")
    monkeypatch.delenv(ADMIN_URL)
    told = commands.run(setup_command, "--table", "votes", "--service", service)
    assert found == told
    assert expected in told
    assert unexpected not in told
    assert "CREATE PUBLICATION" in told


def test_service_without_superuser_publishes_single_tables(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ADMIN_URL)
    commands.run(setup_command, "--service", "azure", code=1)
    assert "only single tables can be published: name them with --table" in caplog.text


def test_service_whose_roles_are_made_elsewhere(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commands.run(setup_command, "--service", "neon", "--table", "votes", code=1)
    assert "make it in the Neon console" in caplog.text


def test_administrator_without_superuser(
    commands: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As managed services have them: may make roles, owns the tables, may replicate."""
    source = commands.source
    admin = f"{source.name[-40:]}_admin"
    source.sql(
        f"CREATE ROLE {admin} LOGIN CREATEROLE REPLICATION PASSWORD 'admin'",
        f"GRANT CREATE ON DATABASE {source.database} TO {admin} WITH GRANT OPTION",
        f"GRANT CONNECT ON DATABASE {source.database} TO {admin} WITH GRANT OPTION",
        f"ALTER SCHEMA public OWNER TO {admin}",
        f"ALTER TABLE votes OWNER TO {admin}",
    )
    monkeypatch.setenv(ADMIN_URL, f"postgresql://{admin}:admin@/")
    if source.sql("SHOW server_version_num") < [("160000",)]:
        # Services have changed their PostgreSQL so that it can; others need a superuser.
        commands.run(setup_command, "--table", "votes", "--apply", "--yes", code=1)
        assert "must be superuser to create replication users" in caplog.text
        role = source.block["username"]
        source.sql(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{SECRET}'")
    commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    assert commands.check()["ready"]
    commands.run(teardown_command, "--yes")
    assert remains(source) == []


# lag


@pytest.fixture
def ready(commands: Commands) -> Commands:
    commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    return commands


def test_lag_of_a_slot_that_has_everything(ready: Commands) -> None:
    lag = ready.lag()
    assert lag["slot"] == ready.source.slot
    assert lag["active"] is False
    assert lag["lag_seconds"] == 0
    assert lag["safe_wal_bytes"] is None
    assert lag["active_since"] is None
    assert set(lag) >= {"lag_bytes", "retained_wal_bytes", "confirmed_flush_lsn", "inactive_since"}


def test_lag_counts_all_bytes_but_the_time_of_what_is_published(ready: Commands) -> None:
    ready.source.sql("INSERT INTO other SELECT generate_series(1, 10000)")
    lag = ready.lag()
    assert lag["lag_bytes"] > 500_000
    assert lag["retained_wal_bytes"] >= lag["lag_bytes"]
    assert lag["lag_seconds"] == 0


def test_lag_is_the_age_of_the_oldest_change(ready: Commands) -> None:
    ready.source.sql("INSERT INTO votes VALUES (101)")
    ((committed,),) = ready.source.sql("SELECT clock_timestamp()")
    time.sleep(1.5)
    ready.source.sql("INSERT INTO votes VALUES (102)")
    lag = ready.lag()
    ((now,),) = ready.source.sql("SELECT clock_timestamp()")
    assert 1.5 <= lag["lag_seconds"] <= (now - committed).total_seconds() + 0.1


def test_lag_falls_when_a_run_confirms(ready: Commands) -> None:
    ready.source.run()
    ready.source.sql("INSERT INTO votes VALUES (101)")
    ready.source.run()
    assert ready.lag()["lag_seconds"] > 0  # a run confirms what the one before has loaded
    ready.source.run()
    assert ready.lag()["lag_seconds"] == 0


def test_lag_leaves_the_slot_as_it_is(ready: Commands) -> None:
    ready.source.sql("INSERT INTO votes VALUES (101)")
    query = "SELECT to_jsonb(s) - 'safe_wal_size' FROM pg_replication_slots s"
    before = ready.source.sql(query)
    ready.lag()
    assert ready.source.sql(query) == before


def test_lag_of_a_slot_that_is_being_read(ready: Commands) -> None:
    source = ready.source
    source.sql("INSERT INTO votes VALUES (101)")
    with closing(Connector(read_settings(source.config)).connect_to_replicate()) as run:
        start_replication(run, source.slot, source.publication, 0)
        lag = ready.lag()
        assert lag["active"] is True
        assert lag["active_since"] is not None
        assert lag["lag_seconds"] > 0


def test_lag_within_limits_and_above(ready: Commands, caplog: pytest.LogCaptureFixture) -> None:
    ready.source.sql("INSERT INTO votes SELECT generate_series(200, 2000)")
    ready.run(lag_command, "--max-bytes", "1GB", "--max-seconds", "3600")
    assert not caplog.text
    output = ready.run(lag_command, "--max-bytes", "1 kB", code=1)
    assert "of WAL, the oldest change is" in output
    assert "bytes behind, more than 1,024" in caplog.text
    ready.run(lag_command, "--max-seconds", "0", code=1)
    assert "seconds behind, more than 0" in caplog.text
    ready.run(lag_command, "--max-bytes", "much", code=2)


def test_lag_for_prometheus(ready: Commands) -> None:
    lines = ready.run(lag_command, "--format", "prometheus").splitlines()
    labels = f'{{database="{ready.source.database}",slot="{ready.source.slot}"}}'
    samples = {line.split()[0]: float(line.split()[1]) for line in lines if line[0] != "#"}
    assert samples[f"tap_postgres_cdc_lag_seconds{labels}"] == 0
    assert samples[f"tap_postgres_cdc_active{labels}"] == 0
    assert samples[f"tap_postgres_cdc_lag_bytes{labels}"] >= 0
    # No bound, so no sample.
    assert not any("safe_wal_bytes" in line for line in lines)
    for name in ("lag_bytes", "lag_seconds", "retained_wal_bytes", "active", "lost"):
        assert f"# TYPE tap_postgres_cdc_{name} gauge" in lines


def test_lag_without_a_free_slot_has_bytes_but_no_time(
    ready: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    """Its time is read from a copy of the slot."""
    source = ready.source
    ((free,),) = source.sql(
        "SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots"
    )
    source.sql(*(f"SELECT pg_create_physical_replication_slot('x{i}')" for i in range(free)))
    lag = ready.lag()
    assert lag["lag_bytes"] >= 0
    assert lag["lag_seconds"] is None
    assert "The age of the oldest change is unknown: all replication slots" in caplog.text
    ready.run(lag_command, "--max-seconds", "3600", code=1)


def test_lag_that_can_not_be_read_in_time_is_unknown(
    ready: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ready.source.sql("INSERT INTO other SELECT generate_series(1, 300000)")
    monkeypatch.setattr(backlog, "_SECONDS", 0.0)
    assert ready.lag()["lag_seconds"] is None
    assert "so much WAL to read" in caplog.text


def test_lag_without_the_slot(ready: Commands, caplog: pytest.LogCaptureFixture) -> None:
    ready.source.slot = "nothing"
    ready.run(lag_command, code=1)
    assert 'replication slot "nothing" does not exist' in caplog.text


@VERSIONS
def test_lag_of_a_lost_slot(
    own_source: NewSource, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = own_source(version, settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"})
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    commands = Commands(source)
    assert commands.lag()["safe_wal_bytes"] > 0
    for _ in range(4):
        source.sql("SELECT pg_switch_wal()", "INSERT INTO t SELECT count(*) FROM t", "CHECKPOINT")
    output = commands.run(lag_command, "--format", "json", code=1)
    lag = json.loads(output)
    assert (lag["lost"], lag["lag_bytes"], lag["safe_wal_bytes"]) == (True, None, 0)
    assert "is lost" in caplog.text


# teardown


def remains(source: Source) -> list[str]:
    """What of a pipeline is in the whole server."""
    role = source.block["username"]
    return [
        str(what)
        for (what,) in source.sql(
            f"SELECT slot_name::text FROM pg_replication_slots WHERE slot_name = '{source.slot}'"
            f" UNION SELECT pubname FROM pg_publication WHERE pubname = '{source.publication}'"
            f" UNION SELECT rolname FROM pg_roles WHERE rolname = '{role}'"
            " UNION SELECT relname FROM pg_class, aclexplode(relacl) a"
            f" WHERE a.grantee = (SELECT oid FROM pg_roles WHERE rolname = '{role}')"
        )
    ]


def test_teardown_leaves_nothing_behind(commands: Commands) -> None:
    source = commands.source
    commands.run(setup_command, "--apply", "--yes")
    source.run()
    assert remains(source) != []
    output = commands.run(teardown_command, "--yes")
    assert remains(source) == []
    for what in ("the slot", "the publication", "table public.votes", "the role"):
        assert what in output
    assert source.sql("SELECT count(*) FROM votes") == [(100,)]
    assert commands.run(teardown_command, "--yes") == "-- Nothing is left to remove.\n"


def test_teardown_asks_first(commands: Commands) -> None:
    source = commands.source
    commands.run(setup_command, "--table", "votes", "--apply", "--yes")
    output, code = ask(source, "teardown", "n\n")
    assert "Remove all of this?" in output
    assert "nothing was removed" in output
    assert code == 1
    assert len(remains(source)) == 4
    _, code = ask(source, "teardown", "y\n")
    assert code == 0
    assert remains(source) == []


def test_teardown_without_a_terminal_says_what_would_go(
    ready: Commands, caplog: pytest.LogCaptureFixture
) -> None:
    output = ready.run(teardown_command, code=1)
    assert "DROP PUBLICATION" in output
    assert "add --yes" in caplog.text
    assert len(remains(ready.source)) == 4


def test_teardown_without_an_administrator_prints_what_to_run(
    ready: Commands, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(ADMIN_URL)
    output = ready.run(teardown_command, "--yes", code=1)
    assert "nothing was removed: set" in caplog.text
    ready.source.sql(*output.strip().rstrip(";").split(";\n"))
    assert remains(ready.source) == []


def test_teardown_waits_for_a_run_to_end(ready: Commands, caplog: pytest.LogCaptureFixture) -> None:
    source = ready.source
    with closing(Connector(read_settings(source.config)).connect_to_replicate()) as run:
        start_replication(run, source.slot, source.publication, 0)
        ready.run(teardown_command, "--yes", code=1)
    assert "is being read by process" in caplog.text
    assert len(remains(source)) == 4


def test_teardown_keeps_a_role_that_others_need(ready: Commands) -> None:
    """It owns a table: neither that nor the role goes."""
    source = ready.source
    source.sql(f"ALTER TABLE other OWNER TO {source.block['username']}")
    output = ready.run(teardown_command, "--yes")
    assert f"The role {source.block['username']} stays: it owns objects" in output
    assert source.sql("SELECT count(*) FROM other") == [(0,)]
    assert source.sql("SELECT count(*) FROM pg_publication") == [(0,)]


def test_teardown_keeps_a_role_with_rights_in_another_database(ready: Commands) -> None:
    source = ready.source
    role = source.block["username"]
    with source.server.connect() as connection:
        connection.execute("CREATE TABLE far (id int)")
        connection.execute(f"GRANT SELECT ON far TO {role}")
        output = ready.run(teardown_command, "--yes")
        assert f"The role {role} stays: it has rights in other databases" in output
        assert remains(source) == [role]
        connection.execute("DROP TABLE far")
    ready.run(teardown_command, "--yes")
    assert remains(source) == []


def test_teardown_keeps_the_superuser(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    source.sql("CREATE TABLE t (id int PRIMARY KEY)")
    source.publish()
    monkeypatch.setenv(ADMIN_URL, source.server.url.rpartition("/")[0])
    output = Commands(source).run(teardown_command, "--yes")
    assert "The role postgres stays" in output
    assert "DROP OWNED" not in output
    assert source.sql("SELECT count(*) FROM pg_publication") == [(0,)]
    assert source.sql("SELECT count(*) FROM pg_replication_slots") == [(0,)]
