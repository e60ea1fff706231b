"""TLS: on a server with a certificate, and one that asks for the client's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from sandbox.postgres import Postgres, TlsFiles, running
from tap_postgres_cdc.commands.check import check
from tap_postgres_cdc.commands.connection_advice import Encryption, check_encryption
from tap_postgres_cdc.commands.findings import Finding, Status, as_text
from tap_postgres_cdc.commands.inspection import Server, Setting
from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import NewSource, Source

# Of everyone but the superuser a certificate is wanted as well.
AUTHENTICATION = """
local all all trust
hostssl all postgres 127.0.0.1/32 scram-sha-256
hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca
"""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def tls_server(
    authority: trustme.CA, debian: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Postgres]:
    """A server that only TLS reaches, with a certificate for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost")
    files = TlsFiles(folder / "server.crt", folder / "server.key", folder / "ca.crt")
    certificate.cert_chain_pems[0].write_to_path(files.certificate)
    certificate.private_key_pem.write_to_path(files.key)
    authority.cert_pem.write_to_path(folder / "ca.crt")
    with running(debian, tls=files, authentication=AUTHENTICATION) as server:
        yield server


@pytest.fixture
def tls(tls_server: Postgres, source_on: NewSource) -> Source:
    source: Source = source_on(tls_server)
    source.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    source.publish()
    return source


def test_verify_full_succeeds_with_the_right_authority(tls: Source, authority: trustme.CA) -> None:
    tls.block["host"] = "localhost"
    tls.block["ssl_mode"] = {
        "mode": "verify-full",
        "ca_certificate": authority.cert_pem.bytes().decode(),
    }
    tls.options["snapshot_workers"] = 1
    assert len(tls.run().records("t")) == 1
    tls.sql("INSERT INTO t VALUES (2)")
    assert len(tls.run().records("t")) == 1


def test_certificates_reach_the_processes_that_copy(
    tls: Source, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_postgres_cdc.snapshot._FEW_BLOCKS", 0)
    tls.block["host"] = "localhost"
    tls.block["ssl_mode"] = {
        "mode": "verify-full",
        "ca_certificate": authority.cert_pem.bytes().decode().replace("\n", "\\n"),
    }
    assert len(tls.run().records("t")) == 1


def test_verify_full_fails_with_a_wrong_host_name(tls: Source, authority: trustme.CA) -> None:
    tls.block["ssl_mode"] = {
        "mode": "verify-full",
        "ca_certificate": authority.cert_pem.bytes().decode(),
    }
    refuse(tls, "certificate of 127.0.0.1:.* can't be trusted .*verify-full that host is a name")


def test_verify_ca_does_not_ask_for_the_name(tls: Source, authority: trustme.CA) -> None:
    tls.block["ssl_mode"] = {
        "mode": "verify-ca",
        "ca_certificate": authority.cert_pem.bytes().decode(),
    }
    assert len(tls.run().records("t")) == 1


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_another_authority_is_not_trusted(tls: Source, mode: str) -> None:
    tls.block["host"] = "localhost"
    tls.block["ssl_mode"] = {
        "mode": mode,
        "ca_certificate": trustme.CA().cert_pem.bytes().decode(),
    }
    refuse(tls, r"can't be trusted \(certificate verify failed\): check ssl_mode.ca_certificate")


def test_verify_full_trusts_the_system_s_authorities_when_none_is_given(tls: Source) -> None:
    tls.block["host"] = "localhost"
    tls.block["ssl_mode"] = {"mode": "verify-full"}
    refuse(tls, "can't be trusted")


def test_text_that_is_no_certificate_is_named(tls: Source) -> None:
    tls.block["ssl_mode"] = {"mode": "verify-ca", "ca_certificate": "nonsense"}
    refuse(tls, "check ssl_mode.ca_certificate")


@pytest.mark.parametrize("mode", ["allow", "prefer", "require", "enable"])
def test_modes_that_trust_any_server(tls: Source, mode: str) -> None:
    tls.block["ssl_mode"] = {"mode": mode}
    tls.run()


def test_disable_is_refused_by_a_server_that_wants_tls(tls: Source) -> None:
    tls.block["ssl_mode"] = {"mode": "disable"}
    refuse(tls, "pg_hba.conf lets nobody in this way .*ssl_mode.mode")


@pytest.fixture
def client_source(tls: Source) -> Iterator[Source]:
    """A source of whose user the server wants a certificate."""
    role = f"{tls.name}_reader"
    tls.sql(f"CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'p'", f"GRANT SELECT ON t TO {role}")
    tls.block |= {"username": role, "password": "p"}
    yield tls
    tls.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_client_certificate_with_an_encrypted_key(
    client_source: Source, authority: trustme.CA
) -> None:
    certificate = authority.issue_cert("reader")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"key password"),
    )
    mode: dict[str, Any] = {
        "mode": "require",
        "client_certificate": certificate.cert_chain_pems[0].bytes().decode(),
        "client_key": encrypted.decode(),
        "client_key_password": "key password",
    }
    client_source.block["ssl_mode"] = mode
    client_source.run()
    mode["client_key_password"] = "wrong"
    line = refuse(client_source, "check .*ssl_mode.client_key_password")
    assert "wrong" not in line.replace("wrong password", "")


def test_missing_client_certificate_is_named(client_source: Source) -> None:
    client_source.block["ssl_mode"] = {"mode": "require"}
    refuse(client_source, "requires a valid client certificate.*ssl_mode.client_certificate")


def checked(source: Source, name: str) -> Finding:
    """The line of that name of the command check."""
    settings = read_settings(source.config)
    findings = check(settings, Connector(settings), None)
    return next(finding for finding in findings if finding.check == name)


def test_check_asks_for_tls_that_no_one_can_talk_the_server_out_of(
    tls: Source, authority: trustme.CA
) -> None:
    tls.block["ssl_mode"] = {"mode": "disable"}
    refused = checked(tls, "connection")
    assert refused.status is Status.ERROR
    assert refused.fix
    assert refused.fix.do == "set airbyte_config.ssl_mode.mode to require"

    tls.block["ssl_mode"] = {"mode": "prefer"}
    line = checked(tls, "tls")
    assert line.status is Status.WARNING
    assert "prefer would do without" in line.found
    assert "ssl_mode.mode to require" in as_text(line)

    tls.block["ssl_mode"] = {"mode": "require"}
    line = checked(tls, "tls")
    assert line.status is Status.OK
    assert re.match(r"TLS: TLSv1\.\d; verify-full would also verify who answers", line.found)

    certificate = authority.cert_pem.bytes().decode()
    tls.block |= {"host": "localhost"}
    tls.block["ssl_mode"] = {"mode": "verify-full", "ca_certificate": certificate}
    assert "certificate is verified" in checked(tls, "tls").found


def test_check_warns_of_connections_without_tls() -> None:
    """Unless they stay on the machine; and what mends it depends on the server."""
    config = {"host": "db", "database": "d", "username": "u", "replication_method": METHOD}
    settings = read_settings({"airbyte_config": config})
    found = {
        (ssl, is_local): check_encryption(settings, facts(ssl, is_local=is_local), Encryption(None))
        for ssl in ("on", "off")
        for is_local in (True, False)
    }
    assert found["off", True].status is Status.OK
    assert found["off", False].status is Status.WARNING
    assert "turn ssl on" in as_text(found["off", False])
    for is_local in (True, False):
        assert found["on", is_local].status is Status.WARNING
        assert "ssl_mode.mode to require" in as_text(found["on", is_local])


METHOD = {"publication": "p", "replication_slot": "s"}


def facts(ssl: str, *, is_local: bool) -> Server:
    values = dict.fromkeys(Server._fields) | {
        "is_local": is_local,
        "settings": {"ssl": Setting(ssl, "default", pending=False)},
    }
    return Server(**values)  # type: ignore[arg-type]


def refuse(source: Source, pattern: str) -> str:
    with pytest.raises(CaptureError, match=pattern) as raised:
        source.run()
    assert "\n" not in raised.value.message
    return raised.value.message
