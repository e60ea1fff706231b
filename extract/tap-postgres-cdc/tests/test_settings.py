"""Settings, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from tap_postgres_cdc.connection import Connector
from tap_postgres_cdc.errors import CaptureError
from tap_postgres_cdc.settings import Settings, read_settings
from tap_postgres_cdc.tap import TapPostgresCDC

BLOCK: dict[str, Any] = {
    "host": "db.example.org",
    "port": 5433,
    "database": "shop",
    "username": "reader",
    "password": "s3cret",
    "schemas": ["public", "sales"],
    "jdbc_url_params": "replication=postgres",
    "ssl_mode": {"mode": "enable"},
    "replication_method": {
        "plugin": "pgoutput",
        "method": "CDC",
        "publication": "oso_publication",
        "replication_slot": "oso_slot",
        "initial_waiting_seconds": 5,
    },
    "tunnel_method": {"tunnel_method": "NO_TUNNEL"},
}
TUNNEL = {
    "tunnel_method": "SSH_KEY_AUTH",
    "tunnel_host": "bastion.example.org",
    "tunnel_user": "tunnel",
    "ssh_key": "PEM",
}


def read(**changes: Any) -> Settings:
    return read_settings({"airbyte_config": {**BLOCK, **changes}})


def test_the_block_of_the_docs_is_understood() -> None:
    settings = read()
    assert settings.host == "db.example.org"
    assert settings.port == 5433
    assert settings.schemas == ("public", "sales")
    assert settings.slot == "oso_slot"
    assert settings.publication == "oso_publication"
    assert settings.tls.mode == "require"
    assert settings.parameters == {}
    assert settings.snapshot_workers == 2
    assert settings.stream_name == "table"
    assert (settings.snapshot_minutes, settings.wait_minutes) == (30, 60)
    assert settings.max_rows_per_second is None
    assert (settings.dropped_partitions, settings.on_bad_value) == ("copy", "null")
    assert settings.show_values is False


def test_minutes_may_be_fractions() -> None:
    config = {"airbyte_config": BLOCK, "snapshot_minutes": 0.01, "wait_minutes": 0.5}
    assert TapPostgresCDC._config_errors(config) == []  # what the tap begins with
    settings = read_settings(config)
    assert (settings.snapshot_minutes, settings.wait_minutes) == (0.01, 0.5)


def test_enable_means_require_and_says_so() -> None:
    assert any("enable is taken as require" in notice for notice in read().notices)


def test_initial_waiting_seconds_are_not_needed() -> None:
    assert any("initial_waiting_seconds is not needed" in notice for notice in read().notices)


@pytest.mark.parametrize(
    "mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
)
def test_tls_modes_are_those_of_libpq(mode: str) -> None:
    settings = read(ssl_mode={"mode": mode, "ca_certificate": "PEM"})
    assert Connector(settings).parameters["sslmode"] == mode


@pytest.mark.parametrize(("ssl", "mode"), [(None, "prefer"), (True, "require"), (False, "disable")])
def test_ssl_stands_for_a_mode(ssl: bool | None, mode: str) -> None:
    assert read(ssl_mode=None, ssl=ssl).tls.mode == mode


def test_jdbc_parameters_become_those_of_libpq() -> None:
    settings = read(
        ssl_mode={},
        jdbc_url_params="replication=postgres&connectTimeout=7&ApplicationName=oso%20tap"
        "&tcpKeepAlive=true&sslmode=disable&options=-c%20work_mem%3D8MB",
    )
    parameters = Connector(settings).parameters
    assert parameters["connect_timeout"] == "7"
    assert parameters["application_name"] == "oso tap"
    assert parameters["keepalives"] == "1"
    assert parameters["sslmode"] == "disable"
    assert parameters["options"] == "-c work_mem=8MB"
    assert settings.warnings == ()


def test_only_the_secret_of_the_method_is_used() -> None:
    assert read().tunnel is None
    both = {**TUNNEL, "tunnel_user_password": "word"}
    by_key = read(tunnel_method=both).tunnel
    by_password = read(tunnel_method={**both, "tunnel_method": "SSH_PASSWORD_AUTH"}).tunnel
    assert by_key
    assert by_password
    assert (by_key.port, by_key.key, by_key.password) == (22, "PEM", None)
    assert (by_password.key, by_password.password) == (None, "word")


def test_unknown_jdbc_parameter_is_named() -> None:
    settings = read(jdbc_url_params="prepareThreshold=0")
    assert any("jdbc_url_params: prepareThreshold" in warning for warning in settings.warnings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": None}, "setting airbyte_config.host is missing"),
        ({"database": ""}, "setting airbyte_config.database is missing"),
        ({"username": None}, "setting airbyte_config.username is missing"),
        ({"replication_method": None}, "replication_method.publication is missing"),
        (
            {"replication_method": {"publication": "p"}},
            "replication_method.replication_slot is missing",
        ),
        ({"replication_method": {"method": "Standard"}}, "method: Standard .* use CDC"),
        ({"replication_method": {"method": "Xmin"}}, "method: Xmin .* use CDC"),
        ({"replication_method": {"plugin": "wal2json"}}, "plugin: wal2json .* use pgoutput"),
        ({"tunnel_method": {"tunnel_method": "SSH"}}, "tunnel_method: SSH is unknown"),
        ({"tunnel_method": {"tunnel_method": "SSH_KEY_AUTH"}}, "tunnel_host is missing"),
        ({"tunnel_method": {**TUNNEL, "tunnel_user": None}}, "tunnel_user is missing"),
        ({"tunnel_method": {**TUNNEL, "ssh_key": ""}}, "ssh_key is missing"),
        (
            {"tunnel_method": {**TUNNEL, "tunnel_method": "SSH_PASSWORD_AUTH"}},
            "tunnel_user_password is missing",
        ),
        ({"ssl_mode": {"mode": "full"}}, "ssl_mode.mode: full is unknown"),
        ({"ssl_mode": {"mode": "verify-ca"}}, "ca_certificate is missing"),
        (
            {"ssl_mode": {"mode": "require", "client_key": "PEM"}},
            "client_certificate and client_key",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message) as raised:
        read(**changes)
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "'airbyte_config' is a required property"),
        (
            {"airbyte_config": {**BLOCK, "port": "x"}},
            "setting airbyte_config.port: must be integer",
        ),
        ({"airbyte_config": BLOCK, "stream_name": "x"}, "setting stream_name: must be table or"),
        (
            {"airbyte_config": BLOCK, "snapshot_workers": 0},
            "setting snapshot_workers: must be at least 1",
        ),
        (
            {"airbyte_config": BLOCK, "wait_minutes": 0},
            "setting wait_minutes: must be more than 0",
        ),
        (
            {"airbyte_config": BLOCK, "max_rows_per_second": 0},
            "setting max_rows_per_second: must be at least 1",
        ),
        (
            {"airbyte_config": BLOCK, "dropped_partitions": "drop"},
            "setting dropped_partitions: must be copy or keep",
        ),
        (
            {"airbyte_config": BLOCK, "on_bad_value": "x"},
            "setting on_bad_value: must be null or fail",
        ),
        ({"airbyte_config": {**BLOCK, "password": 12345}}, "setting airbyte_config.password: must"),
    ],
)
def test_a_setting_of_the_wrong_form_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CaptureError, match=message) as raised:
        TapPostgresCDC(config=config)
    assert "12345" not in raised.value.message


def test_secrets_are_in_no_representation() -> None:
    settings = read(
        ssl_mode={
            "mode": "require",
            "client_certificate": "CERT",
            "client_key": "SECRETKEY",
            "client_key_password": "KEYPASSWORD",
        },
        tunnel_method={**TUNNEL, "ssh_key": "SSHKEY"},
    )
    secrets = ("s3cret", "SECRETKEY", "KEYPASSWORD", "SSHKEY")
    assert not any(text in repr(settings) for text in secrets)
    password = {"tunnel_method": "SSH_PASSWORD_AUTH", "tunnel_user_password": "SSHPASSWORD"}
    assert "SSHPASSWORD" not in repr(read(tunnel_method={**TUNNEL, **password}))


def test_certificates_and_keys_are_in_no_directory() -> None:
    settings = read(
        ssl_mode={"mode": "require", "client_certificate": "CERT", "client_key": "KEY\\nLINE"}
    )
    connector = Connector(settings)
    path = connector.parameters["sslkey"]
    assert path.startswith("/proc/self/fd/")
    with open(path) as file:  # noqa: PTH123 - a descriptor
        assert file.read() == "KEY\nLINE\n"
