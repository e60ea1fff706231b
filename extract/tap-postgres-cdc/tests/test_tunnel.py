"""SSH tunnels, through OpenSSH's server."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import asyncssh
import psycopg
import pytest

from sandbox.ports import free_port
from tap_postgres_cdc import ssh as tap_ssh
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import NewSource, Source

    from sandbox.ssh import SshServer

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


@pytest.fixture
def table(embedded: Source) -> Source:
    embedded.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    embedded.publish()
    return embedded


def by_password(source: Source, ssh: SshServer) -> None:
    if not ssh.password_user:
        pytest.skip("only root can make a user with a password")
    source.tunnel(
        ssh,
        tunnel_method="SSH_PASSWORD_AUTH",
        tunnel_user=ssh.password_user,
        tunnel_user_password=ssh.password,
    )


def refuse(source: Source, pattern: str) -> str:
    with pytest.raises(CaptureError, match=pattern) as raised:
        source.run()
    message = raised.value.message
    assert "\n" not in message
    tunnel = source.block["tunnel_method"]
    secrets = [*tunnel["ssh_key"].splitlines()[1:-1], tunnel.get("tunnel_user_password")]
    assert not any(secret in message for secret in secrets if secret)
    return message


@pytest.mark.parametrize("method", ["key", "password"])
def test_rows_and_changes_come_through_the_tunnel(
    table: Source, ssh: SshServer, method: str
) -> None:
    if method == "key":
        table.tunnel(ssh)
    else:
        by_password(table, ssh)
    assert len(table.run().records("t")) == 1
    table.sql("INSERT INTO t VALUES (2)")
    assert len(table.run().records("t")) == 1


def test_every_connection_goes_through_the_tunnel(
    own_source: NewSource, ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the processes that copy and of the stream too, by what both servers have logged."""
    monkeypatch.setattr("tap_postgres_cdc.snapshot._FEW_BLOCKS", 0)
    source = own_source("18", settings={"log_connections": "authorization"})
    source.sql(
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t SELECT generate_series(1, 100000)",
    )
    source.sql("CREATE ROLE far LOGIN SUPERUSER PASSWORD 'far'")
    source.publish()
    source.block |= {"username": "far", "password": "far"}
    source.options["snapshot_workers"] = 3
    source.tunnel(ssh)
    before = ssh.log.read_text().count("server_request_direct_tcpip")
    source.run()
    forwarded = ssh.log.read_text().count("server_request_direct_tcpip") - before
    authorized = source.server.log.read_text().count("connection authorized: user=far")
    # Each of two tunnels, of the SDK's discovery and of the run, was tried once before it was used.
    assert forwarded == authorized + 2
    assert authorized >= 6


def test_commands_go_through_the_tunnel(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh)
    shown = {
        "check": f"as postgres, through the SSH server 127.0.0.1:{ssh.port}",
        "lag": f"slot                {table.slot} of database",
        "adopt": '"confirmed_lsn": ',
    }
    for command, text in shown.items():
        stdout, stderr = table.start(command).communicate(timeout=60)
        assert text in stdout.decode()
        assert "Traceback" not in stderr.decode()


def test_escaped_line_breaks_in_a_key_are_understood(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh, ssh_key=ssh.key.strip().replace("\n", "\\n"))
    table.run()


@pytest.fixture
def known_hosts(table: Source, ssh: SshServer, tmp_path: Path, monkeypatch: Any) -> Path:
    """The file of a user who has set no key of the server's; it is not there yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    table.tunnel(ssh)
    del table.options["tunnel_host_key"]
    (tmp_path / ".ssh").mkdir()
    return tmp_path / ".ssh" / "known_hosts"


def test_unknown_server_is_refused_and_the_line_to_add_mends_it(
    table: Source, known_hosts: Path
) -> None:
    line = refuse(table, "is unknown, so it could be anyone's: .* add this line to ~/.ssh/known_")
    assert "SHA256:" in line
    advice = line.rsplit("tunnel_host_key: ", 1)[1]
    known_hosts.write_text(f"{advice}\n")
    table.run()
    known_hosts.unlink()
    table.options["tunnel_host_key"] = advice
    table.run()


def test_hashed_lines_of_known_hosts_are_understood(
    table: Source, ssh: SshServer, known_hosts: Path
) -> None:
    known_hosts.write_text(f"[127.0.0.1]:{ssh.port} {ssh.host_key}\n")
    command = ["ssh-keygen", "-q", "-H", "-f", str(known_hosts)]
    subprocess.run(command, check=True, capture_output=True)
    assert "127.0.0.1" not in known_hosts.read_text()
    table.run()


def test_changed_key_of_the_server_is_told_from_an_unknown_one(
    table: Source, ssh: SshServer
) -> None:
    table.tunnel(ssh)
    table.options["tunnel_host_key"] = HOST_KEY
    line = refuse(table, "shows another key than the known one .* someone may be in between")
    table.options["tunnel_host_key"] = line.rsplit(" by: ", 1)[1]
    table.run()


def test_server_without_a_key_of_the_known_kind(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh)
    key = asyncssh.generate_private_key("ssh-rsa").export_public_key().decode()
    table.options["tunnel_host_key"] = key
    refuse(table, r"can't reach the SSH server .* key of the kind that is known of it \(ssh-rsa\)")


def test_wrong_key_is_refused(table: Source, ssh: SshServer) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    table.tunnel(ssh, ssh_key=other)
    refuse(table, f'refused user "{ssh.user}": check .*tunnel_user and ssh_key')


def test_wrong_password_is_refused(table: Source, ssh: SshServer) -> None:
    by_password(table, ssh)
    table.block["tunnel_method"]["tunnel_user_password"] = "nothing like it"
    refuse(table, f'refused user "{ssh.password_user}": check .* and tunnel_user_password')


@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
def test_encrypted_key_is_named(form: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ecdsa", "-m", form, "-f", str(file)]
    subprocess.run([*command, "-N", "phrase"], check=True)
    with pytest.raises(CaptureError, match=r"ssh_key is encrypted: give a key without a pass"):
        tap_ssh.private_key(file.read_text())
    # What the advice says.
    options = ["-q", "-p", "-N", "", "-P", "phrase", "-f", str(file)]
    subprocess.run(["ssh-keygen", *options], check=True, capture_output=True)
    tap_ssh.private_key(file.read_text())


def test_text_that_is_no_key_is_named_and_not_shown() -> None:
    with pytest.raises(CaptureError, match="ssh_key is not a private key") as raised:
        tap_ssh.private_key("hunter2")
    assert "hunter2" not in raised.value.message


def test_text_that_is_no_host_key_is_named() -> None:
    with pytest.raises(CaptureError, match=r"setting tunnel_host_key: .*host ssh-ed25519"):
        tap_ssh.known_hosts("nonsense")


def test_ssh_server_that_nobody_runs(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh, tunnel_port=free_port())
    refuse(table, r"can't reach the SSH server .* \(Connection refused\): check .*tunnel_host")


def test_ssh_server_without_address(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh, tunnel_host="no-such-host.invalid")
    refuse(table, "can't reach the SSH server no-such-host.invalid.* check .*tunnel_host")


def test_port_that_speaks_something_else(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh, tunnel_port=table.server.port)
    refuse(table, "can't reach the SSH server")


def test_database_that_the_ssh_server_can_t_reach(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh)
    table.block["port"] = free_port()
    refuse(table, r"SSH server .* can't reach 127.0.0.1:\d+ \(Connection refused\): .* host and")


def test_ssh_server_that_does_not_forward(table: Source, own_ssh: SshServer) -> None:
    own_ssh.kill()
    own_ssh.settings = {"AllowTcpForwarding": "no"}
    own_ssh.start()
    table.tunnel(own_ssh)
    refuse(table, r"can't reach .*prohibited.*AllowTcpForwarding")


def test_wrong_password_of_the_database_is_told_as_without_a_tunnel(
    table: Source, ssh: SshServer
) -> None:
    table.tunnel(ssh)
    table.block["password"] = "wr0ng"
    refuse(table, 'the server refused user "postgres": check the settings username and password')


def test_tunnel_that_dies_in_mid_run_loses_nothing(embedded: Source, own_ssh: SshServer) -> None:
    """Once in the copy and once in the stream: one line, exit code 1, and the next run goes on."""
    embedded.sql(
        "CREATE TABLE t (id int PRIMARY KEY, name text)",
        "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 30000) i",
    )
    embedded.publish()
    embedded.tunnel(own_ssh)
    for _ in range(2):
        cut(embedded, own_ssh)
        embedded.run()
        expected = [row[0] for row in embedded.sql("SELECT id FROM t ORDER BY id")]
        assert sorted(row["id"] for row in embedded.warehouse.rows("t")) == expected
        embedded.sql(
            "UPDATE t SET name = repeat('y', 600)",
            "DELETE FROM t WHERE id % 100 = 0",
        )


def cut(source: Source, ssh: SshServer) -> None:
    """Run the command, kill the SSH server after some records, load what came, and restart it."""
    process = source.start()
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if len(lines) == 2000:
            ssh.kill()
    assert process.stderr
    log = process.stderr.read().decode()
    with process:
        assert process.wait(60) == 1
    assert re.search(r"the SSH tunnel through 127.0.0.1:\d+ was lost \(.*\): run again", log)
    assert "Traceback" not in log
    messages = [json.loads(line) for line in lines]
    assert 2000 <= len(messages) < 30_000
    source.warehouse.apply(messages)
    states = [m["value"] for m in messages if m["type"] == "STATE"]
    if states:  # else the first part of the table was not complete yet
        source.state = states[-1]
    ssh.start()


def query_after(event: Callable[[], None], connector: Connector) -> None:
    with connector.session() as session:
        event()
        session.execute("SELECT 1")


def test_ssh_server_that_falls_silent_ends_the_run(
    table: Source, own_ssh: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap_ssh, "_ALIVE_SECONDS", 0.5)
    table.tunnel(own_ssh)
    connector = Connector(read_settings(table.config))
    with pytest.raises(CaptureError, match=r"SSH tunnel .* was lost"):
        query_after(own_ssh.freeze, connector)


def test_no_port_is_left_open(table: Source, ssh: SshServer) -> None:
    table.tunnel(ssh)
    connector = Connector(read_settings(table.config))
    with connector.session() as session:
        parameters = {**connector.parameters, "connect_timeout": 5}
        assert session.info.port == parameters["port"] != table.server.port
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(**parameters)


def test_database_that_goes_is_not_blamed_on_the_tunnel(
    own_source: NewSource, ssh: SshServer
) -> None:
    source = own_source("18")
    source.tunnel(ssh)
    connector = Connector(read_settings(source.config))
    place = f"127.0.0.1:{source.server.port}"
    with pytest.raises(CaptureError, match=f"connection to {place} was lost"):
        query_after(source.server.stop, connector)
